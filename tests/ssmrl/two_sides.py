"""A family whose training and held-out tasks lie on two sides, so that one is told from the other.

On the point, whose two laws are equal, training on tests or testing on training looks the same.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

import numpy as np
import pytest

from ssmrl.envs import families
from ssmrl.envs.point import POINT, PointEnv
from ssmrl.envs.task import TaskDistribution

NAME = "two-sides"


class HalfCircle(TaskDistribution):
    """Goals on the unit circle, on one side of the vertical axis."""

    def __init__(self, side: float) -> None:
        self._side = side

    def sample_array(self, rng: np.random.Generator, num_tasks: int) -> np.ndarray:
        angles = rng.uniform(-0.45 * np.pi, 0.45 * np.pi, num_tasks)
        return np.stack([self._side * np.cos(angles), np.sin(angles)], axis=1)


class Played(PointEnv):
    """Remembers the goals of all simulations of its kind."""

    goals: ClassVar[list[tuple[float, ...]]]

    def set_tasks(self, parameters: Sequence[tuple[float, ...]]) -> None:
        super().set_tasks(parameters)
        self.goals += parameters


def two_sides(patch: pytest.MonkeyPatch) -> list[tuple[float, ...]]:
    """Make the family known under its name; the list grows by every goal that is played."""

    class OfThisTest(Played):
        goals: ClassVar[list[tuple[float, ...]]] = []

    family = dataclasses.replace(
        POINT,
        name=NAME,
        train=HalfCircle(1.0),
        test=HalfCircle(-1.0),
        make_env=OfThisTest,
        spec=dataclasses.replace(POINT.spec, disjoint=True),
    )
    patch.setitem(families.FAMILIES, NAME, family)
    return OfThisTest.goals


@contextmanager
def only(goals: list[tuple[float, ...]], *, held_out: bool) -> Iterator[None]:
    """See that whatever is played meanwhile is all from one side, and that something is."""
    goals.clear()
    yield
    assert goals
    assert all((goal[0] < 0.0) is held_out for goal in goals)
