"""A custom robot: a cart with a hanging pole; the hidden task is a target velocity.

ssmrl train --task examples.own_robot:FAMILY
ssmrl sweep --task examples.own_robot:FAMILY
"""

from pathlib import Path

from ssmrl import Reward, UniformBox, own_robot, robot_family, velocity_error

FAMILY = robot_family(
    own_robot(Path(__file__).parent / "cart.xml", frame_skip=5),
    Reward("velocity", velocity_error, "-|v - v*| - 0.01 a^2", control_weight=0.01),
    hidden="target velocity v* [m/s]",
    train=UniformBox((-1.0,), (1.0,)),
    test=UniformBox((-1.0,), (1.0,)),
    horizon=50,
)
