"""Whether the winner of a sweep beats the default, by seeds and tasks that chose neither."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from ssmrl.student import student_factor

MIN_SEEDS = 3
"""Below so many each there is no verdict: the spread between seeds is not known."""


@dataclass(frozen=True)
class Comparison:
    """The winner, and where it is another configuration, the default.

    All intervals are over training seeds, of which each counts with its mean over the same tasks.
    They do not cover which tasks were drawn.

    Attributes:
        best_mean: Mean return of the winner.
        default_mean: Mean return of the default; None where the winner is the default, or the
            default was not trained for it.
        difference: Winner minus default; None as ``default_mean``.
        low: Lower end of the difference's 95 % interval; None if a spread is not known.
        high: Upper end of it.
        num_tasks: Held-out tasks of each return.
        verdict: What follows, in a sentence.
        best_low: Lower end of the winner's own 95 % interval; None for a single seed.
        best_high: Upper end of it.
        blind_return: Best return without adaptation on exactly these tasks; None if not known.
        switched_off_mean: Mean return of the winner when it must not adapt.
        num_seeds: Fresh seeds; of the one that has fewer, if there are two.
    """

    best_mean: float
    default_mean: float | None
    difference: float | None
    low: float | None
    high: float | None
    num_tasks: int
    verdict: str
    best_low: float | None
    best_high: float | None
    blind_return: float | None
    switched_off_mean: float | None
    num_seeds: int


def compare(
    best: Sequence[float],
    default: Sequence[float] | None,
    *,
    num_tasks: int,
    num_seeds: int | None = None,
    blind_return: float | None = None,
    switched_off: Sequence[float] = (),
) -> Comparison:
    """Student's interval of the winner, and Welch's of the difference.

    Args:
        best: Mean return of each of the winner's seeds.
        default: Likewise of the default; None if the winner is the default itself.
        num_tasks: Held-out tasks of each return.
        num_seeds: How many of the winner's seeds are fresh; all, if left out.
        blind_return: Best return without adaptation on these tasks.
        switched_off: Mean return of each of the winner's seeds, without adaptation.

    Raises:
        ValueError: If the winner has no seed, or a return is not finite.

    Example:
        >>> found = compare([3.0, 4.0, 5.0], [1.0, 1.5, 2.0], num_tasks=100)
        >>> found.difference, found.verdict
        (2.5, 'The winner is better than the default: the interval lies above 0.')

    References:
        Welch 1947, "The Generalization of Student's Problem when Several Different Population
        Variances are Involved".
    """
    returns = [*best, *(default or ()), *switched_off]
    if not best or not all(map(math.isfinite, returns)):
        raise ValueError(
            f"returns must be finite and of at least 1 seed, but got {best=}, {default=} and "
            f"{switched_off=}; leave out seeds that diverged"
        )
    num_fresh = len(best) if num_seeds is None else num_seeds
    if default is not None:
        num_fresh = min(num_fresh, len(default))
    own = _interval([best])
    difference = fmean(best) - fmean(default) if default else None
    both = _interval([best, default]) if default else None
    low, high = (None, None) if both is None or difference is None else _around(difference, both)
    best_low, best_high = (None, None) if own is None else _around(fmean(best), own)
    return Comparison(
        best_mean=fmean(best),
        default_mean=fmean(default) if default else None,
        difference=difference,
        low=low,
        high=high,
        num_tasks=num_tasks,
        verdict=_verdict(num_fresh, default is None, low, high),
        best_low=best_low,
        best_high=best_high,
        blind_return=blind_return,
        switched_off_mean=fmean(switched_off) if switched_off else None,
        num_seeds=num_fresh,
    )


def _interval(samples: Sequence[Sequence[float]]) -> float | None:
    """Half width of the interval of a mean, or of a difference of two; None if unknown."""
    if min(map(len, samples)) < 2:
        return None
    parts = [variance(sample) / len(sample) for sample in samples]
    total = sum(parts)
    if total == 0.0:
        return 0.0
    freedom = total**2 / sum(
        part**2 / (len(sample) - 1) for part, sample in zip(parts, samples, strict=True)
    )
    return student_factor(freedom) * math.sqrt(total)


def _around(center: float, half: float) -> tuple[float, float]:
    return center - half, center + half


def _verdict(num_seeds: int, is_default: bool, low: float | None, high: float | None) -> str:
    itself = "the winner is the default configuration itself"
    if num_seeds < MIN_SEEDS:
        no_verdict = f"{num_seeds} {'seed' if num_seeds == 1 else 'seeds'}: no verdict"
        return f"{no_verdict}; {itself}." if is_default else f"{no_verdict}."
    if is_default:
        return f"T{itself[1:]}: its seeds were trained once, and there is no difference to show."
    if low is None or high is None:
        return "The spread between seeds is not known: no verdict."
    if low > 0.0:
        return "The winner is better than the default: the interval lies above 0."
    if high < 0.0:
        return "The winner is worse than the default: the interval lies below 0."
    return "No difference shown between the winner and the default: the interval includes 0."
