"""The robots: the differences between Gymnasium's locomotion environments.

Not their rewards, which belong to the task families.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

Healthy: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""``(position (B, nq), velocity (B, nv)) -> (B,)``, whether the episode may go on."""


@dataclass(frozen=True)
class Robot:
    """A robot with Gymnasium's (version 5) observation, start and end of episodes.

    Attributes:
        name: Name used in the names of families.
        model: Model, as ``robot`` of ``BatchedPhysics``.
        frame_skip: Physics steps per env step.
        dt: Duration of an env step [s].
        num_hidden_positions: Leading generalised positions that the policy does not see.
        tracked: Quantity whose velocity counts: the first generalised position, or the torso or
            the centre of mass in the plane.
        healthy: Function that says whether the episode may continue; None means always.
        end: Description of when an episode ends.
        reset_noise: Scale of the initial state's noise.
        gaussian_start: Whether initial velocities are normal; otherwise they are uniform.
        control_limit: Largest input of an actuator.
        velocity_limit: Clipping limit of generalised velocities in the observation.
        derived: Derived fields that the policy sees after positions and velocities, each with
            the number of leading entries left out.
        num_observations: ``O``.
        num_actuators: ``A``.
        num_bodies: Number of bodies, without the world.
        num_geoms: Number of geoms, with the floor.
        num_damped: Number of degrees of freedom with damping.
    """

    name: str
    model: str
    frame_skip: int
    dt: float
    num_hidden_positions: int
    tracked: Literal["root", "torso", "mass_center"]
    healthy: Healthy | None
    end: str
    num_observations: int
    num_actuators: int
    num_bodies: int
    num_geoms: int
    num_damped: int
    reset_noise: float = 0.1
    gaussian_start: bool = True
    control_limit: float = 1.0
    velocity_limit: float | None = None
    derived: tuple[tuple[str, int], ...] = ()


def ant_is_healthy(position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """Whether the torso is 0.2 m to 1 m high and every number is finite."""
    height = position[:, 2]
    healthy: np.ndarray = np.isfinite(position).all(1)
    healthy &= np.isfinite(velocity).all(1)
    healthy &= (height >= 0.2) & (height <= 1.0)
    return healthy


def humanoid_is_healthy(position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """Whether the torso is more than 1 m and less than 2 m high."""
    height = position[:, 2]
    healthy: np.ndarray = (height > 1.0) & (height < 2.0)
    return healthy


def walker_is_healthy(position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """Whether the torso is 0.8 m to 2 m high and leans by less than 1 rad."""
    height, angle = position[:, 1], position[:, 2]
    healthy: np.ndarray = (height > 0.8) & (height < 2.0)
    healthy &= (angle > -1.0) & (angle < 1.0)
    return healthy


def hopper_is_healthy(position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """Whether the torso is above 0.7 m and leans by less than 0.2 rad, and no number exceeds 100.

    The limit of 100 does not apply to the position along x and the height.
    """
    height, angle = position[:, 1], position[:, 2]
    healthy: np.ndarray = (height > 0.7) & (height < np.inf)
    healthy &= (angle > -0.2) & (angle < 0.2)
    healthy &= (np.abs(position[:, 2:]) < 100.0).all(1)
    healthy &= (np.abs(velocity) < 100.0).all(1)
    return healthy


HALF_CHEETAH = Robot(
    name="halfcheetah",
    model="half_cheetah",
    frame_skip=5,
    dt=0.05,
    num_hidden_positions=1,
    tracked="root",
    healthy=None,
    end="never",
    num_observations=17,
    num_actuators=6,
    num_bodies=7,
    num_geoms=9,
    num_damped=6,
)
ANT = Robot(
    name="ant",
    model="ant",
    frame_skip=5,
    dt=0.05,
    num_hidden_positions=2,
    tracked="torso",
    healthy=ant_is_healthy,
    end="height outside [0.2, 1.0] m, or a number that is not finite",
    num_observations=27,
    num_actuators=8,
    num_bodies=13,
    num_geoms=14,
    num_damped=8,
)
HOPPER = Robot(
    name="hopper",
    model="hopper",
    frame_skip=4,
    dt=0.008,
    num_hidden_positions=1,
    tracked="root",
    healthy=hopper_is_healthy,
    end="height at most 0.7 m, angle outside (-0.2, 0.2) rad, or a number outside (-100, 100)",
    num_observations=11,
    num_actuators=3,
    num_bodies=4,
    num_geoms=5,
    num_damped=3,
    reset_noise=5e-3,
    gaussian_start=False,
    velocity_limit=10.0,
)
WALKER = Robot(
    name="walker2d",
    model="walker2d_v5",
    frame_skip=4,
    dt=0.008,
    num_hidden_positions=1,
    tracked="root",
    healthy=walker_is_healthy,
    end="height outside (0.8, 2.0) m, or angle outside (-1, 1) rad",
    num_observations=17,
    num_actuators=6,
    num_bodies=7,
    num_geoms=8,
    num_damped=6,
    reset_noise=5e-3,
    gaussian_start=False,
    velocity_limit=10.0,
)
HUMANOID = Robot(
    name="humanoid",
    model="humanoid",
    frame_skip=5,
    dt=0.015,
    num_hidden_positions=2,
    tracked="mass_center",
    healthy=humanoid_is_healthy,
    end="height outside (1, 2) m",
    num_observations=348,
    num_actuators=17,
    num_bodies=13,
    num_geoms=18,
    num_damped=17,
    reset_noise=1e-2,
    gaussian_start=False,
    control_limit=0.4,
    # Without the world's rows and without the floating root's actuator forces, which are zero.
    derived=(("cinert", 10), ("cvel", 6), ("qfrc_actuator", 6), ("cfrc_ext", 6)),
)
# Gymnasium's version 4 shows the zeros too: 376 observations instead of 348.
HUMANOID_376 = replace(
    HUMANOID,
    num_observations=376,
    derived=(("cinert", 0), ("cvel", 0), ("qfrc_actuator", 0), ("cfrc_ext", 0)),
)
