"""Which difference between winner and default a sweep can find; not whether it found one."""

from functools import lru_cache

import numpy as np

from ssmrl.student import LEVEL, student_factor, welch_freedom

POWER = 0.8
"""Probability of finding a difference that counts as findable."""
_NUM_DRAWS = 20_000


@lru_cache
def findable_spreads(num_seeds: int, level: float = LEVEL) -> float:
    """The true difference that Welch's interval tells from 0 in 8 of 10 cases.

    Args:
        num_seeds: Seeds of the winner, and as many of the default; at least 2.
        level: Level of the interval.

    Returns:
        The difference in standard deviations between seeds, taken to be the same for both. It is
        simulated with fixed draws: published tables are for a test that knows the two to be equal.

    Example:
        >>> round(findable_spreads(3), 1), round(findable_spreads(6), 1)
        (3.5, 1.8)

    References:
        Cohen 1988, "Statistical Power Analysis for the Behavioral Sciences", chapter 2.
    """
    draws = np.random.default_rng(0).normal(size=(2, num_seeds, _NUM_DRAWS))
    variances = draws.var(axis=1, ddof=1) / num_seeds
    factor = student_factor(welch_freedom(variances, [num_seeds] * 2), level)
    half = factor * np.sqrt(variances.sum(0))
    luck = draws[0].mean(0) - draws[1].mean(0)
    return float(np.quantile(half - luck, POWER))
