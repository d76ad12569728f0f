"""Text of a task's goal, and values of a bar that shows how near a policy is to it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ssmrl.envs.rewards import along_direction, nearness, velocity_error, velocity_match
from ssmrl.envs.task import Task, TaskFamily

_MOST_MULTIPLIERS = 3  # multipliers that are written out


@dataclass(frozen=True)
class Meter:
    """Text and bar that are shown beside the pictures of a task.

    Attributes:
        task_words: Text of the task's goal.
        value: Function from what a step achieved, ``(D,)``, to the bar's value; None if only the
            reward is known.
        value_words: Function from that value to its text.
        target: Target of the bar; None if more is better.
    """

    task_words: str
    value: Callable[[np.ndarray], float] | None = None
    value_words: Callable[[float], str] = "{:.2f}".format
    target: float | None = None


def meter_of(family: TaskFamily, task: Task) -> Meter:
    """The meter for the family's reward; only the family's own text if its goal is unknown.

    Example:
        >>> from ssmrl.envs.families import get_family
        >>> family = get_family("halfcheetah-vel")
        >>> meter_of(family, family.task([2.0])).task_words
        'target velocity 2.00 m/s'
    """
    wanted = np.array(task.parameters)
    goal = None if family.reward is None else family.reward.goal
    if goal in (velocity_error, velocity_match):
        return Meter(
            f"target velocity {wanted[0]:.2f} m/s",
            _forward,
            "velocity {:.2f} m/s".format,
            wanted[0],
        )
    if goal is along_direction:
        return Meter(
            f"direction {_vector(wanted)}",
            lambda achieved: float(achieved @ wanted),
            "velocity along it {:.2f} m/s".format,
        )
    if goal is nearness:
        return Meter(
            f"goal {_vector(wanted)}",
            lambda achieved: float(np.linalg.norm(achieved - wanted)),
            "distance {:.2f}".format,
            0.0,
        )
    if family.spec.varies == "dynamics":
        what = family.spec.hidden.removeprefix("multipliers of ").partition(",")[0]
        words = f"{what} x {task.words(_MOST_MULTIPLIERS)}"
        return Meter(words, _forward, "velocity {:.2f} m/s".format)
    return Meter(f"{family.spec.hidden.partition(',')[0]}: {task.words(_MOST_MULTIPLIERS)}")


def _forward(achieved: np.ndarray) -> float:
    return float(achieved[0])


def _vector(values: np.ndarray) -> str:
    if len(values) == 1:
        return f"{values[0]:+g}"
    return "({})".format(", ".join(f"{value:.2f}" for value in values))
