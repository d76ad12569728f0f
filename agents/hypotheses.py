"""Tests whether a finding's expectation came true in the next round; no decision depends on it."""

import dataclasses
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from scipy.stats import mannwhitneyu

from agents.findings import Direction, Expectation, Finding
from ssmrl.config import KnobValue
from ssmrl.strict_json import json_text
from tuning.box.trust_box import incumbent
from tuning.table.trial import Trial, TrialState

# A lenient level, as a round has few trials and only a line of the report depends on the verdict.
LEVEL = 0.1
MIN_TRIALS_OF_SIDE = 2
MIN_TRIALS_OF_SAME = 5
SAME_SHARE = 0.25  # share of the scores' standard deviation


class Verdict(StrEnum):
    """The outcome of a hypothesis."""

    SUPPORTED = "supported"
    REFUTED = "refuted"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class HypothesisScore:
    """A verdict with its statistic.

    Attributes:
        verdict: Whether the expectation came true.
        statistic: The test, its value and the number of trials, in a sentence.
        trial_ids: The trials that were compared.
    """

    verdict: Verdict
    statistic: str
    trial_ids: tuple[str, ...]

    def to_json(self) -> str:
        """The score as one line of JSON."""
        return json_text(dataclasses.asdict(self))


def score_hypothesis(
    finding: Finding, rows_before: Sequence[Trial], rows_after: Sequence[Trial]
) -> HypothesisScore:
    """Compares the new trials on the finding's side of a knob with the other new trials.

    Only trials made since the finding count, since earlier ones suggested the hypothesis. Diverged
    trials rank below all scores. Trials that were stopped early, or failed for reasons that may
    have nothing to do with the knob, are left out.

    Args:
        finding: The finding with the expectation.
        rows_before: The table at the time of the finding; its best trial divides low from high.
        rows_after: The table after the round.
    """
    expectation = finding.expectation
    known = {row.trial_id for row in rows_before}
    new = [
        row
        for row in rows_after
        if row.trial_id not in known
        and expectation.knob in row.knobs
        and row.state in (TrialState.COMPLETE, TrialState.DIVERGED)
    ]
    split = _split(expectation.knob, rows_before)
    sides: dict[bool, list[Trial]] = {True: [], False: []}
    for row in new:
        sides[_is_meant(expectation, row.knobs[expectation.knob], split)].append(row)
    meant, others = sides[True], sides[False]
    compared = tuple(row.trial_id for row in new)
    counts = f"{len(meant)} new trials on the side meant against {len(others)} others"
    if min(len(meant), len(others)) < MIN_TRIALS_OF_SIDE:
        return HypothesisScore(Verdict.UNDECIDED, f"too few trials: {counts}", compared)
    a, b = _scores(meant), _scores(others)
    if expectation.direction is Direction.SAME:
        verdict, statistic = _same(a, b)
    else:
        verdict, statistic = _different(a, b, expectation.direction)
    return HypothesisScore(verdict, f"{statistic}, {counts}", compared)


def _split(knob: str, rows: Sequence[Trial]) -> float:
    """The best trial's value of the knob; if it has none, the median of the tried values."""
    best = incumbent(rows)
    known = [best.knobs[knob]] if best is not None and knob in best.knobs else []
    values = known or [row.knobs[knob] for row in rows if knob in row.knobs]
    numbers = [value for value in values if isinstance(value, int | float)]
    return statistics.median(numbers) if numbers else math.nan


def _is_meant(expectation: Expectation, value: KnobValue, split: float) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and expectation.side in ("low", "high"):
        return float(value) < split if expectation.side == "low" else float(value) > split
    return str(value) == expectation.side


def _scores(rows: Sequence[Trial]) -> list[float]:
    return [-math.inf if row.score is None else row.score for row in rows]


def _different(a: list[float], b: list[float], direction: Direction) -> tuple[Verdict, str]:
    expected = "greater" if direction is Direction.BETTER else "less"
    opposite = "less" if direction is Direction.BETTER else "greater"
    p, p_opposite = (_p_value(a, b, alternative) for alternative in (expected, opposite))
    if p <= LEVEL:
        return Verdict.SUPPORTED, f"Mann-Whitney p = {p:.3f} for {direction.value}"
    if p_opposite <= LEVEL:
        return Verdict.REFUTED, f"Mann-Whitney p = {p_opposite:.3f} for the opposite"
    return Verdict.UNDECIDED, f"Mann-Whitney p = {p:.3f} for {direction.value}"


def _same(a: list[float], b: list[float]) -> tuple[Verdict, str]:
    p = _p_value(a, b, "two-sided")
    if p <= LEVEL:
        return Verdict.REFUTED, f"Mann-Whitney p = {p:.3f} for a difference"
    finite = [score for score in (*a, *b) if math.isfinite(score)]
    difference = abs(statistics.median(a) - statistics.median(b))
    is_small = len(finite) > 1 and difference <= SAME_SHARE * statistics.stdev(finite)
    # A difference that was not shown may still exist, so "same" needs more trials.
    if is_small and min(len(a), len(b)) >= MIN_TRIALS_OF_SAME:
        return Verdict.SUPPORTED, f"the medians differ by {difference:.3g}"
    return Verdict.UNDECIDED, f"Mann-Whitney p = {p:.3f} for a difference"


def _p_value(a: list[float], b: list[float], alternative: str) -> float:
    """Exact without ties, else by the normal approximation; 1 if all scores are equal."""
    if len({*a, *b}) == 1:
        return 1.0
    # The test uses only ranks, but does not accept infinite scores.
    order = sorted({*a, *b})
    ranks = ([order.index(score) for score in scores] for scores in (a, b))
    return float(mannwhitneyu(*ranks, alternative=alternative).pvalue)
