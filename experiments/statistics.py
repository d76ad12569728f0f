"""Summaries of a few runs: medians, interquartile means, bootstrap intervals; not a test.

References:
    Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
    sections 3 and 4.3 (interquartile mean, stratified bootstrap).
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

Statistic: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""``(resamples, values) -> (resamples,)``: summarises the last axis."""

NUM_RESAMPLES = 2000


def median(values: Float[np.ndarray, "*batch V"]) -> Float[np.ndarray, "*batch"]:
    """The middle value along the last axis."""
    return np.asarray(np.median(values, axis=-1))


def interquartile_mean(values: Float[np.ndarray, "*batch V"]) -> Float[np.ndarray, "*batch"]:
    """The mean of the middle half along the last axis.

    A quarter of the values, rounded down, is left out at each end: with fewer than four values it
    is the mean.

    Example:
        >>> float(interquartile_mean(np.array([1.0, 2.0, 3.0, 100.0])))
        2.5
    """
    count = values.shape[-1]
    cut = count // 4
    return np.asarray(np.sort(values, axis=-1)[..., cut : count - cut].mean(-1))


def stratified_interval(
    scores: Float[np.ndarray, "seeds tasks"],
    rng: np.random.Generator,
    *,
    statistic: Statistic = interquartile_mean,
    level: float = 0.95,
) -> tuple[float, float]:
    """Bootstrap interval of a statistic of all scores, with tasks as strata.

    Every resample keeps all tasks and draws, for each task on its own, as many seeds as there
    are. Right where each task was trained for by itself; where one policy per seed plays all
    tasks, its scores go up and down together and ``nested_interval`` is the honest one.

    Args:
        scores: Of each seed on each task.
        rng: Where the resamples come from.
        statistic: What is estimated.
        level: Share of the resamples inside the interval.
    """
    num_seeds, num_tasks = _checked(scores, level)
    rows = rng.integers(num_seeds, size=(NUM_RESAMPLES, num_seeds, num_tasks))
    resamples = scores[rows, np.arange(num_tasks)]
    return _quantiles(statistic(resamples.reshape(NUM_RESAMPLES, -1)), level)


def nested_interval(
    scores: Float[np.ndarray, "seeds tasks"],
    rng: np.random.Generator,
    *,
    statistic: Statistic = interquartile_mean,
    level: float = 0.95,
) -> tuple[float, float]:
    """Bootstrap interval of a statistic of all scores, with tasks nested in seeds.

    Every resample draws seeds, and then tasks within each seed it drew.

    Args:
        scores: Of each seed's policy on each of its held-out tasks.
        rng: Where the resamples come from.
        statistic: What is estimated.
        level: Share of the resamples inside the interval.
    """
    num_seeds, num_tasks = _checked(scores, level)
    seeds = rng.integers(num_seeds, size=(NUM_RESAMPLES, num_seeds, 1))
    tasks = rng.integers(num_tasks, size=(NUM_RESAMPLES, num_seeds, num_tasks))
    return _quantiles(statistic(scores[seeds, tasks].reshape(NUM_RESAMPLES, -1)), level)


def _checked(scores: np.ndarray, level: float) -> tuple[int, int]:
    if scores.ndim != 2 or 0 in scores.shape:
        raise ValueError(f"`scores` must be (seeds, tasks) and not empty, but got {scores.shape}")
    if not 0.0 < level < 1.0:
        raise ValueError(f"`0 < level < 1` must hold, but got {level=}; use 0.95 for 95 %")
    if not np.isfinite(scores).all():
        bad = np.argwhere(~np.isfinite(scores)).tolist()
        raise ValueError(f"`scores` must be finite, but those at (seed, task) {bad} are not")
    return scores.shape[0], scores.shape[1]


def _quantiles(values: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)
