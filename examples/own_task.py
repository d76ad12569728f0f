"""A custom task family: pendulums on planets with different gravity.

ssmrl train --task examples.own_task:FAMILY
ssmrl sweep --task examples.own_task:FAMILY
"""

import gymnasium

from ssmrl import UniformBox, gymnasium_family


def set_gravity(env: gymnasium.Env, parameters: tuple[float, ...]) -> None:
    """Set a pendulum's hidden variable, its gravity."""
    env.g = parameters[0]


FAMILY = gymnasium_family(
    "Pendulum-v1",
    set_gravity,
    hidden="gravity [m/s^2]",
    train=UniformBox((5.0,), (12.0,)),
    test=UniformBox((12.0,), (15.0,)),
)
