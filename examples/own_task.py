"""A task family of one's own: pendulums on planets of different gravity.

ssmrl train --task examples.own_task:FAMILY
ssmrl sweep --task examples.own_task:FAMILY
"""

import gymnasium

from ssmrl import UniformBox, gymnasium_family


def set_gravity(env: gymnasium.Env, parameters: tuple[float, ...]) -> None:
    """Give a pendulum its hidden variable."""
    env.g = parameters[0]


FAMILY = gymnasium_family(
    "Pendulum-v1",
    set_gravity,
    hidden="gravity [m/s^2]",
    train=UniformBox((5.0,), (12.0,)),
    test=UniformBox((12.0,), (15.0,)),
)
