"""Whether the winner of a sweep beats the default, judged on fresh seeds and fresh tasks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from ssmrl.student import LEVEL, student_factor, welch_freedom
from tuning.power import findable_spreads

MIN_SEEDS = 3
"""Fewest seeds of the winner, and of the default, for a verdict; fewer hardly show a spread."""

LATER_LEVEL = 0.99
"""Level of the difference's interval once seeds were added because the first ones left it open:
repeated tests find a difference by chance, unless each is stricter."""


@dataclass(frozen=True)
class Comparison:
    """Returns of the winner and, if that is another configuration, of the default.

    All intervals are over training seeds; the value of a seed is its mean over the same tasks.
    They do not cover the draw of the tasks. The difference's has ``level``, the others 95 %.

    Attributes:
        best_mean: Mean return of the winner.
        default_mean: Mean return of the default; None if the winner is the default, or the
            default was not trained for the verdict.
        difference: Winner minus default; None if ``default_mean`` is None.
        low: Lower end of the difference's interval; None if there is none or a spread is unknown.
        high: Upper end of it.
        num_tasks: Held-out tasks of each return.
        verdict: Conclusion, in a sentence.
        best_low: Lower end of the winner's own 95 % interval; None for a single seed.
        best_high: Upper end of it.
        blind_return: Best return without adaptation on exactly these tasks; None if not known.
        switched_off_mean: Mean return of the winner without adaptation; None if not measured.
        num_seeds: Fresh seeds of the winner, or of the default if it is compared and has fewer.
        num_best_seeds: Fresh seeds of the winner.
        num_default_seeds: Fresh seeds of the default; 0 if it is not compared.
        level: Level of the difference's interval.
        findable: Smallest true difference that this many seeds, with this spread, find in 8 of 10
            cases; None if there is no difference or a spread is not known.
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
    num_best_seeds: int
    num_default_seeds: int
    level: float
    findable: float | None

    @property
    def is_shown(self) -> bool:
        """Whether a difference between winner and default is shown."""
        if self.num_seeds < MIN_SEEDS or self.low is None or self.high is None:
            return False
        return self.low > 0.0 or self.high < 0.0


def compare(
    best: Sequence[float],
    default: Sequence[float] | None,
    *,
    num_tasks: int,
    num_seeds: int | None = None,
    blind_return: float | None = None,
    switched_off: Sequence[float] = (),
    level: float = LEVEL,
) -> Comparison:
    """Student's interval of the winner, and Welch's of the difference.

    Args:
        best: Mean return of each of the winner's seeds.
        default: Mean return of each of the default's seeds; None if the winner is the default.
        num_tasks: Held-out tasks of each return.
        num_seeds: Number of the winner's seeds that are fresh; by default all.
        blind_return: Best return without adaptation on these tasks.
        switched_off: Mean return of each of the winner's seeds, without adaptation.
        level: Level of the difference's interval.

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
    num_best = num_fresh = len(best) if num_seeds is None else num_seeds
    if default is not None:
        num_fresh = min(num_best, len(default))
    difference = fmean(best) - fmean(default) if default else None
    best_low, best_high = _interval(fmean(best), _error([best]), LEVEL)
    error = _error([best, default]) if default else None
    low, high = (None, None) if difference is None else _interval(difference, error, level)
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
        num_best_seeds=num_best,
        num_default_seeds=len(default or ()),
        level=level,
        findable=None if not default or error is None else _findable(best, default, level),
    )


def _findable(best: Sequence[float], default: Sequence[float], level: float) -> float:
    spread = math.sqrt((variance(best) + variance(default)) / 2.0)
    return spread * findable_spreads(min(len(best), len(default)), level)


def _error(samples: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """Standard error of a mean, or of a difference of two, and its degrees of freedom."""
    if min(map(len, samples)) < 2:
        return None
    parts = [variance(sample) / len(sample) for sample in samples]
    total = sum(parts)
    if total == 0.0:
        return 0.0, 1.0
    sizes = [len(sample) for sample in samples]
    return math.sqrt(total), float(welch_freedom(parts, sizes))


def _interval(
    center: float, error: tuple[float, float] | None, level: float
) -> tuple[float, float] | tuple[None, None]:
    if error is None:
        return None, None
    half = error[0] * float(student_factor(error[1], level))
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
