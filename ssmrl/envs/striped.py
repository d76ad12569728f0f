"""Distributions with disjoint, interleaved sets of training and test tasks.

A range is cut into equal periods. Test tasks come from the middle tenth of every period, training
tasks from the rest, so no held-out value is ever trained on. Both distributions are nearly uniform
over the whole range. Their mean, and mean distance from the middle, are those of a uniform one.
"""

from dataclasses import dataclass

import numpy as np

from ssmrl.envs.task import TaskDistribution

NUM_PERIODS = 10
TRAIN_STRIPES = ((0.0, 0.45), (0.55, 1.0))
TEST_STRIPES = ((0.45, 0.55),)


@dataclass(frozen=True)
class StripedInterval(TaskDistribution):
    """Independent variables, each uniform on the same stripes of ``[low, high)``.

    Attributes:
        low: Lower end of the range.
        high: Upper end of the range.
        stripes: Parts ``(begin, end)`` of every period, as fractions of it.
        num_variables: Number of variables, ``P``.

    Example:
        >>> tests = StripedInterval(0.0, 3.0, TEST_STRIPES)
        >>> [round(value, 3) for value, in tests.sample(np.random.default_rng(0), 3)]
        [1.946, 0.756, 0.147]
    """

    low: float
    high: float
    stripes: tuple[tuple[float, float], ...]
    num_variables: int = 1

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"`low < high` must hold, but got {self.low=}, {self.high=}")

    def sample_array(self, rng: np.random.Generator, num_tasks: int) -> np.ndarray:
        """Draw independently."""
        begins, ends = np.array(self.stripes).T
        filled = np.concatenate([[0.0], np.cumsum(ends - begins)])
        place = rng.uniform(0.0, NUM_PERIODS, (num_tasks, self.num_variables))
        period = np.floor(place)
        within = (place - period) * filled[-1]
        stripe = np.searchsorted(filled[1:-1], within, side="right")
        within += begins[stripe] - filled[stripe]
        values: np.ndarray = self.low + (self.high - self.low) * (period + within) / NUM_PERIODS
        return values


@dataclass(frozen=True)
class Direction(TaskDistribution):
    """Unit vectors of the plane, at angles of one striped variable [rad]."""

    angle: StripedInterval

    def sample_array(self, rng: np.random.Generator, num_tasks: int) -> np.ndarray:
        """Draw independently."""
        angle = self.angle.sample_array(rng, num_tasks)
        return np.concatenate([np.cos(angle), np.sin(angle)], axis=1)


@dataclass(frozen=True)
class Powers(TaskDistribution):
    """Multipliers: a base to the power of striped variables."""

    base: float
    exponents: StripedInterval

    def sample_array(self, rng: np.random.Generator, num_tasks: int) -> np.ndarray:
        """Draw independently."""
        powers: np.ndarray = self.base ** self.exponents.sample_array(rng, num_tasks)
        return powers
