"""Whether the best configuration of a sweep beats the default, on tasks that chose neither."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NUM_RESAMPLES = 10_000
LEVEL = 0.95


@dataclass(frozen=True)
class Comparison:
    """Best against default on the same held-out tasks.

    Attributes:
        best_mean: Mean return of the best configuration.
        default_mean: Mean return of the default one.
        difference: Best minus default, mean over tasks.
        low: Lower end of the difference's 95 % interval.
        high: Upper end of it.
        num_tasks: Tasks that both were run on.
        verdict: What follows from the interval, in a sentence.
    """

    best_mean: float
    default_mean: float
    difference: float
    low: float
    high: float
    num_tasks: int
    verdict: str


def compare(
    best_returns: Sequence[float],
    default_returns: Sequence[float],
    seed: int,
    *,
    is_default: bool = False,
) -> Comparison:
    """The paired difference with a percentile-bootstrap interval over tasks.

    The interval covers which tasks were drawn. It does not cover that another training seed would
    give other weights.

    Args:
        best_returns: Return of the best configuration on each task, ``N`` of them.
        default_returns: Return of the default on the same tasks in the same order.
        seed: Of the resampling.
        is_default: The best trial is the default configuration itself.

    Raises:
        ValueError: If the two do not pair up, are fewer than 2, or are not finite.

    Example:
        >>> compare([3.0, 4.0, 5.0], [1.0, 2.0, 3.0], seed=0).difference
        2.0

    References:
        Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    best = np.asarray(best_returns, dtype=np.float64)
    default = np.asarray(default_returns, dtype=np.float64)
    if best.ndim != 1 or best.shape != default.shape or len(best) < 2:
        raise ValueError(
            "both must have the return of the same tasks, at least 2, "
            f"but got shapes {best.shape} and {default.shape}."
        )
    if not (np.isfinite(best).all() and np.isfinite(default).all()):
        bad = np.flatnonzero(~np.isfinite(best) | ~np.isfinite(default)).tolist()
        raise ValueError(f"returns must be finite, but those of the tasks {bad} are not.")
    difference = best - default
    draws = np.random.default_rng(seed).integers(len(best), size=(NUM_RESAMPLES, len(best)))
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile(difference[draws].mean(axis=1), (tail, 1.0 - tail)).tolist()
    return Comparison(
        best_mean=float(best.mean()),
        default_mean=float(default.mean()),
        difference=float(difference.mean()),
        low=low,
        high=high,
        num_tasks=len(best),
        verdict=_verdict(low, high, is_default),
    )


def _verdict(low: float, high: float, is_default: bool) -> str:
    if is_default:
        return "The best trial is the default configuration itself: the sweep found nothing better."
    if low > 0.0:
        return "The best trial is better than the default: the interval lies above 0."
    if high < 0.0:
        return "The best trial is worse than the default: the interval lies below 0."
    return "No difference shown between the best trial and the default: the interval includes 0."
