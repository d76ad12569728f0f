"""What the robots are paid for: a goal that depends on the hidden task, and the usual costs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Goal: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""``(parameters (B, P), velocity (B, D) [m/s]) -> (B,)``; ``D`` is 1 for planar robots, or 2."""


@dataclass(frozen=True)
class Motion:
    """What a reward sees of one step of ``B`` robots.

    Attributes:
        velocity: ``(B, D)`` mean velocity during the step [m/s].
        control: ``(B, A)`` what the actuators received.
        healthy: ``(B,)`` whether the robot's state lets the episode go on.
        contact_force: ``(B, 6 * bodies)`` torques [N m] and forces [N] of contacts, or None where
            they are not computed.
    """

    velocity: np.ndarray
    control: np.ndarray
    healthy: np.ndarray
    contact_force: np.ndarray | None


@dataclass(frozen=True)
class Reward:
    """A weighted goal plus survival, minus the costs of control and of contact.

    Attributes:
        name: Of the goal's term.
        goal: What depends on the hidden task.
        formula: The whole reward in words.
        control_weight: Of the sum of squared controls.
        goal_weight: Of the goal.
        healthy: Paid while the robot is healthy.
        always: Paid in every step.
        contact_weight: Of the sum of squared contact forces; 0 leaves the term out.
        contact_force_limit: Contact forces are clipped to it before they are squared.
        contact_cost_limit: The largest contact cost.
    """

    name: str
    goal: Goal
    formula: str
    control_weight: float
    goal_weight: float = 1.0
    healthy: float = 0.0
    always: float = 0.0
    contact_weight: float = 0.0
    contact_force_limit: float = np.inf
    contact_cost_limit: float = np.inf

    def terms(self, parameters: np.ndarray, motion: Motion) -> dict[str, np.ndarray]:
        """The named parts of the reward, each ``(B,)``; the reward is their sum in this order."""
        terms = {self.name: self.goal_weight * self.goal(parameters, motion.velocity)}
        if self.healthy:
            terms["survive"] = self.healthy * motion.healthy
        terms["control"] = -self.control_weight * np.sum(np.square(motion.control), axis=1)
        if self.contact_weight:
            assert motion.contact_force is not None
            force = motion.contact_force
            if self.contact_force_limit < np.inf:
                force = np.clip(force, -self.contact_force_limit, self.contact_force_limit)
            cost = self.contact_weight * np.sum(np.square(force), axis=1)
            terms["contact"] = -np.minimum(cost, self.contact_cost_limit)
        if self.always:
            terms["survive"] = np.full(len(motion.velocity), self.always)
        return terms


def forwards(parameters: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """Velocity along x, whatever the task."""
    return velocity[:, 0]


def velocity_error(parameters: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """Minus the distance to the wanted velocity along x."""
    error: np.ndarray = -np.abs(velocity[:, 0] - parameters[:, 0])
    return error


def velocity_match(parameters: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """One minus the distance to the wanted velocity along x."""
    match: np.ndarray = 1.0 - np.abs(velocity[:, 0] - parameters[:, 0])
    return match


def along_direction(parameters: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """Velocity in the wanted direction, a unit vector."""
    along: np.ndarray = np.sum(parameters * velocity, axis=1)
    return along


# By robot: the rewards of Gymnasium's v5 environments, which dynamics families keep as they are.
STANDARD = {
    "halfcheetah": Reward(
        "forward", forwards, "v_x - 0.1 sum(a^2)", control_weight=0.1
    ),
    "hopper": Reward(
        "forward", forwards, "v_x + 1 while healthy - 0.001 sum(a^2)",
        control_weight=1e-3, healthy=1.0,
    ),
    "walker2d": Reward(
        "forward", forwards, "v_x + 1 while healthy - 0.001 sum(a^2)",
        control_weight=1e-3, healthy=1.0,
    ),
    "ant": Reward(
        "forward", forwards,
        "v_x + 1 while healthy - 0.5 sum(a^2) - 0.0005 sum(clip(contact force, -1, 1)^2)",
        control_weight=0.5, healthy=1.0, contact_weight=5e-4, contact_force_limit=1.0,
    ),
    "humanoid": Reward(
        "forward", forwards,
        "1.25 v_x + 5 while healthy - 0.1 sum(a^2) - min(10, 5e-7 sum(contact force^2))",
        control_weight=0.1, goal_weight=1.25, healthy=5.0,
        contact_weight=5e-7, contact_cost_limit=10.0,
    ),
}  # fmt: skip
