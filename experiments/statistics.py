"""Summaries of a few runs: medians, interquartile means, intervals; not a test.

References:
    Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
    sections 3 and 4.3 (interquartile mean, stratified bootstrap).
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from ssmrl.student import LEVEL, check_level, student_factor

Statistic: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""``(resamples, values) -> (resamples,)``: summarises the last axis."""

NUM_RESAMPLES = 2000


def median(values: Float[np.ndarray, "*batch V"]) -> Float[np.ndarray, "*batch"]:
    """The middle value along the last axis."""
    return np.asarray(np.median(values, axis=-1))


def trimmed_mean(values: Float[np.ndarray, "*batch V"], trim: float) -> Float[np.ndarray, "*batch"]:
    """The mean along the last axis without a share of the values at each end.

    Args:
        values: Values to average.
        trim: Share that is left out at each end, their number rounded down; 0.25 gives the
            interquartile mean.

    Example:
        >>> float(trimmed_mean(np.array([1.0, 2.0, 3.0, 100.0]), 0.25))
        2.5
    """
    count = values.shape[-1]
    cut = int(trim * count)
    return np.asarray(np.sort(values, axis=-1)[..., cut : count - cut].mean(-1))


def stratified_interval(
    scores: Float[np.ndarray, "seeds tasks"],
    rng: np.random.Generator,
    *,
    statistic: Statistic,
    level: float = 0.95,
) -> tuple[float, float]:
    """Bootstrap interval of a statistic of all scores, with tasks as strata.

    Every resample keeps all tasks and redraws the seeds of each task separately, as many as there
    are. This is right if each task was trained separately, with many seeds. If one policy per seed
    is tested on all tasks, its scores are correlated: use ``crossed_interval``.

    Args:
        scores: Score of each seed on each task.
        rng: Generator of the resamples.
        statistic: Statistic to estimate.
        level: Share of the resamples inside the interval.
    """
    num_seeds, num_tasks = _checked(scores, level)
    rows = rng.integers(num_seeds, size=(NUM_RESAMPLES, num_seeds, num_tasks))
    resamples = scores[rows, np.arange(num_tasks)]
    return _quantiles(statistic(resamples.reshape(NUM_RESAMPLES, -1)), level)


def crossed_interval(
    scores: Float[np.ndarray, "seeds tasks"], *, trim: float = 0.25, level: float = LEVEL
) -> tuple[float, float] | None:
    """Interval of the mean, or interquartile mean, over seeds that were tested on the same tasks.

    Both seeds and tasks are samples. As in a two-way layout, the variance is split into that
    between seeds, that between tasks, and the rest. The part of the seeds, and that of the tasks
    with the rest, are scaled by the Student factors of their degrees of freedom. With one seed the
    interval is over tasks alone, with one task over seeds. With trimming, the variance is that of
    the winsorised scores: the extremes are moved to where they are cut.

    Args:
        scores: Score of each seed on each task.
        trim: Share of all scores that is left out at each end: 0.25 for the interquartile mean, 0
            for the mean.
        level: Share of such intervals that contain the true value.

    Returns:
        Ends of the interval; None for a single score.

    References:
        Tukey & McLaughlin 1963, "Less Vulnerable Confidence and Significance Procedures for
        Location Based on a Single Sample" (the trimmed mean); Scheffe 1959, "The Analysis of
        Variance", chapter 7 (random effects of two ways).
    """
    num_seeds, num_tasks = _checked(scores, level)
    count, cut = scores.size, int(trim * scores.size)
    kept = np.sort(scores, axis=None)[cut : count - cut]
    moved = scores.clip(kept[0], kept[-1]) * (count / len(kept))
    if count == 1:
        return None
    if 1 in scores.shape:
        squared = student_factor(len(kept) - 1, level) ** 2 * moved.var(ddof=1)
    else:
        by_seed, by_task = moved.mean(1, keepdims=True), moved.mean(0, keepdims=True)
        of_seeds = num_tasks * by_seed.var(ddof=1)
        of_tasks = num_seeds * by_task.var(ddof=1)
        rest = np.square(moved - by_seed - by_task + moved.mean()).sum()
        rest /= (num_seeds - 1) * (num_tasks - 1)
        squared = student_factor(num_tasks - 1, level) ** 2 * of_tasks
        squared += student_factor(num_seeds - 1, level) ** 2 * max(of_seeds - rest, 0.0)
    middle, half = float(trimmed_mean(scores.ravel(), trim)), float(np.sqrt(squared / count))
    return middle - half, middle + half


def _checked(scores: np.ndarray, level: float) -> tuple[int, int]:
    if scores.ndim != 2 or 0 in scores.shape:
        raise ValueError(f"`scores` must be (seeds, tasks) and not empty, but got {scores.shape}")
    check_level(level)
    if not np.isfinite(scores).all():
        bad = np.argwhere(~np.isfinite(scores)).tolist()
        raise ValueError(f"`scores` must be finite, but those at (seed, task) {bad} are not")
    return scores.shape[0], scores.shape[1]


def _quantiles(values: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)
