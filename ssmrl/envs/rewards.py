"""Reward formulas: a goal that depends on the hidden task, and the usual costs.

The formulas accept NumPy arrays and Torch tensors, with any leading axes. In NumPy's float64 they
give exactly the environment's reward; in Torch they relabel rewards for other tasks.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = Any
"""A NumPy array or a Torch tensor; the result has the type of the input."""

Goal: TypeAlias = Callable[[Array, Array], Array]
"""``(parameters (..., P), achieved (..., D)) -> (...)``."""

_NUM_COSTS = 3  # Columns of a motion after ``achieved``.


@dataclass(frozen=True)
class Motion:
    """Input of a reward for one step, without the task; leading axes are ``B``, or any.

    Attributes:
        achieved: ``(..., D)`` quantity that the goal judges. For a robot, the mean velocity during
            the step [m/s], with ``D`` 1 for planar robots, else 2. For the point, the position
            after the step.
        effort: ``(...)`` sum of the squared inputs of the actuators.
        healthy: ``(...)`` whether the episode may continue, as bool or as 0 and 1.
        contact_cost: ``(...)`` cost of contacts, weighted and limited; zero if they are free.
    """

    achieved: Array
    effort: Array
    healthy: Array
    contact_cost: Array

    def columns(self) -> np.ndarray:
        """All of it as one array ``(..., D + 3)`` float64, in the order of the attributes.

        Example:
            >>> Motion(np.zeros((1, 2)), np.ones(1), np.array([True]), np.zeros(1)).columns()
            array([[0., 0., 1., 1., 0.]])
        """
        costs = np.stack([self.effort, self.healthy, self.contact_cost], axis=-1, dtype=np.float64)
        return np.concatenate([self.achieved, costs], axis=-1)

    @classmethod
    def of_columns(cls, columns: Array) -> "Motion":
        """The motion with these ``columns()``; its fields are views, and ``healthy`` is 0 or 1.

        Raises:
            ValueError: If there are too few columns.
        """
        if columns.shape[-1] <= _NUM_COSTS:
            raise ValueError(
                "`columns` must hold at least one column of `achieved` and "
                f"{_NUM_COSTS} costs, but got {tuple(columns.shape)=}; give `Motion.columns()`"
            )
        return cls(columns[..., :-_NUM_COSTS], columns[..., -3], columns[..., -2], columns[..., -1])


@dataclass(frozen=True)
class Reward:
    """A weighted goal plus survival, minus the costs of control and of contact.

    Attributes:
        name: Name of the goal's term.
        goal: Function of the hidden task and ``achieved``.
        formula: The whole reward in words.
        control_weight: Weight of the sum of squared controls; 0 leaves the term out.
        goal_weight: Weight of the goal.
        healthy: Reward per step while the robot is healthy.
        always: Reward of every step.
        contact_weight: Weight of the sum of squared contact forces; 0 leaves the term out.
        contact_force_limit: Clipping limit of contact forces before they are squared.
        contact_cost_limit: Largest contact cost.
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

    def contact_cost(self, contact_force: np.ndarray) -> np.ndarray:
        """The contact cost of a step, for ``Motion``.

        Args:
            contact_force: ``(B, 6 * bodies)`` torques [N m] and forces [N] of contacts.

        Returns:
            ``(B,)``.
        """
        if self.contact_force_limit < np.inf:
            limit = self.contact_force_limit
            contact_force = np.clip(contact_force, -limit, limit)
        cost = self.contact_weight * np.sum(np.square(contact_force), axis=1)
        limited: np.ndarray = np.minimum(cost, self.contact_cost_limit)
        return limited

    def terms(self, parameters: Array, motion: Motion) -> dict[str, Array]:
        """The named parts of the reward; the reward is their sum in this order.

        Args:
            parameters: ``(..., P)`` hidden variables; leading axes broadcast with the motion's.
            motion: The step's motion.

        Returns:
            The terms by name, each ``(...)``.
        """
        terms = {self.name: self.goal_weight * self.goal(parameters, motion.achieved)}
        if self.healthy:
            terms["survive"] = self.healthy * motion.healthy
        if self.control_weight:
            terms["control"] = -self.control_weight * motion.effort
        if self.contact_weight:
            terms["contact"] = -motion.contact_cost
        if self.always:
            # A constant with the type and shape of the input.
            terms["survive"] = self.always + 0.0 * motion.contact_cost
        return terms

    def total(self, parameters: Array, motion: Motion) -> Array:
        """The reward ``(...)``: the sum of ``terms`` for the same arguments.

        Example:
            >>> motion = Motion(np.array([[2.0]]), np.ones(1), np.ones(1), np.zeros(1))
            >>> STANDARD["halfcheetah"].total(np.array([[1.0]]), motion)
            array([1.9])
        """
        return add_up(self.terms(parameters, motion))


def add_up(terms: Mapping[str, Array]) -> Array:
    """The sum of a reward's terms in their order, so that all callers get identical bits."""
    return reduce(operator.add, terms.values())


def forwards(parameters: Array, achieved: Array) -> Array:
    """Velocity along x, whatever the task."""
    return achieved[..., 0]


def velocity_error(parameters: Array, achieved: Array) -> Array:
    """Minus the distance to the wanted velocity along x."""
    return -abs(achieved[..., 0] - parameters[..., 0])


def velocity_match(parameters: Array, achieved: Array) -> Array:
    """One minus the distance to the wanted velocity along x."""
    return 1.0 - abs(achieved[..., 0] - parameters[..., 0])


def along_direction(parameters: Array, achieved: Array) -> Array:
    """Velocity in the wanted direction, a unit vector."""
    return (parameters * achieved).sum(-1)


def nearness(parameters: Array, achieved: Array) -> Array:
    """Minus the distance between a wanted and the achieved position."""
    offset = achieved - parameters
    return -((offset * offset).sum(-1) ** 0.5)


# Rewards of Gymnasium's v5 environments, by robot; dynamics families use them unchanged.
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
