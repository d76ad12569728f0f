"""Statistics of a sweep's trials: ranking, importance, edges, failures, cost; no decisions."""

import dataclasses
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Any

from ssmrl.config import KnobValue
from tuning.importance import Importance, importance
from tuning.spaces.ranges import Choice, Float, Int, Range
from tuning.spaces.space import SearchSpace
from tuning.table.ranking import Ranked, elite, ranking
from tuning.table.trial import FAILURES, Trial, TrialState

__all__ = [
    "Analysis",
    "Cost",
    "EdgeHits",
    "FailureCell",
    "Importance",
    "Ranked",
    "StateCost",
    "analyse",
    "cost",
    "edge_hits",
    "failure_map",
    "importance",
    "ranking",
]

EDGE = 0.05  # share of the width of a range
MIN_TRIALS_OF_CELL = 3
_NUM_PARTS = 4


@dataclass(frozen=True)
class EdgeHits:
    """Count of the best configurations that lie at one side of a range, or beyond it.

    Attributes:
        knob: A knob with a numeric range.
        side: ``"low"`` or ``"high"``.
        num_hits: Configurations of the elite within 5 % of the side, or beyond it.
        num_elite: Configurations of the elite that have the knob.
        share: ``num_hits / num_elite``; None if there are too few trials.
        chance: The share expected of a sampler without a model.
        trial_ids: Trials of the configurations that hit.
        reason: Why there is no share; empty if there is one.
    """

    knob: str
    side: str
    num_hits: int
    num_elite: int
    share: float | None
    chance: float
    trial_ids: tuple[str, ...] = ()
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class FailureCell:
    """Count of the trials that failed in one part of a range.

    Attributes:
        knob: The knob.
        low: Smallest value of the part.
        high: Start of the next part, or end of the range; equal to ``low`` for a single value.
        is_inside: Whether the part belongs to the range; trials of earlier ranges may lie outside.
        num_trials: Trials whose value lies in the part.
        num_failed: Those of them that failed, in a state of ``FAILURES``.
        share: ``num_failed / num_trials``; None if there are fewer than three trials.
        trial_ids: The trials that failed.
    """

    knob: str
    low: KnobValue
    high: KnobValue
    is_inside: bool
    num_trials: int
    num_failed: int
    share: float | None
    trial_ids: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class StateCost:
    """Cost of the trials with one final state.

    Attributes:
        state: Final state.
        num_trials: Number of trials.
        env_steps: Env steps, summed over the trials.
        seconds: Wall-clock time, summed over the trials [s].
    """

    state: TrialState
    num_trials: int
    env_steps: int
    seconds: float


@dataclass(frozen=True)
class Cost:
    """Cost of all trials, and of one.

    Attributes:
        env_steps: Env steps, summed over the trials.
        seconds: Wall-clock time, summed over the trials [s].
        complete_seconds: Mean time of a complete trial [s]; None if there is none.
        seconds_per_complete: Time of all trials per complete trial [s]; None if there is none.
        states: Cost by final state.
    """

    env_steps: int
    seconds: float
    complete_seconds: float | None
    seconds_per_complete: float | None
    states: tuple[StateCost, ...]

    def to_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Analysis:
    """All statistics of the trials of a sweep.

    Attributes:
        ranking: Complete configurations, best first.
        importance: Importance of each knob.
        edge_hits: Counts of the best configurations at each side of a range.
        failure_map: Failures by part of each range.
        cost: Env steps and time of the trials.
    """

    ranking: tuple[Ranked, ...]
    importance: tuple[Importance, ...]
    edge_hits: tuple[EdgeHits, ...]
    failure_map: tuple[FailureCell, ...]
    cost: Cost

    def to_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return dataclasses.asdict(self)


def analyse(rows: Sequence[Trial], space: SearchSpace, *, seed: int) -> Analysis:
    """Run all analyses of the trials.

    Args:
        rows: The trials, including those outside the space.
        space: Current search space.
        seed: Random seed of the resampling behind the intervals.
    """
    return Analysis(
        ranking=ranking(rows),
        importance=importance(rows, space, seed=seed),
        edge_hits=edge_hits(rows, space),
        failure_map=failure_map(rows, space),
        cost=cost(rows),
    )


def edge_hits(rows: Sequence[Trial], space: SearchSpace) -> tuple[EdgeHits, ...]:
    """Count the elite at the low and at the high side of each numeric knob's range.

    Args:
        rows: The trials; only complete ones count, those of equal knobs once.
        space: Search space with the ranges.
    """
    ranked = ranking(rows)
    best = elite(ranked)
    reason = ""
    if len(best) == len(ranked):
        reason = f"too few trials: all {len(ranked)} complete configurations are the elite"
    results = []
    for knob, a_range in space.ranges.items():
        if isinstance(a_range, Choice):
            continue
        having = [c for c in best if knob in c.knobs]
        for side in ("low", "high"):
            hits = [c for c in having if _is_at(a_range, side, c.knobs[knob])]
            results.append(
                EdgeHits(
                    knob=knob,
                    side=side,
                    num_hits=len(hits),
                    num_elite=len(having),
                    share=None if reason or not having else len(hits) / len(having),
                    chance=_chance(a_range, side),
                    trial_ids=tuple(name for c in hits for name in c.trial_ids),
                    reason=reason or ("" if having else "too few trials: none of the elite has it"),
                )
            )
    return tuple(results)


def failure_map(rows: Sequence[Trial], space: SearchSpace) -> tuple[FailureCell, ...]:
    """Count the failed trials of each knob, by quarter of its range or by value.

    Args:
        rows: The trials, of every state; a trial counts for the knobs that it has.
        space: Search space. A Choice is divided into its options, an Int of at most four values
            into these, every other range into quarters. Values outside get their own parts.
    """
    cells = []
    for knob, a_range in space.ranges.items():
        having = [row for row in rows if knob in row.knobs]
        ends = _ends(a_range)
        if ends is None:
            cells += _cells_by_value(knob, _levels(a_range), having)
        else:
            cells += _cells_by_part(knob, ends, having)
    return tuple(cells)


def cost(rows: Sequence[Trial]) -> Cost:
    """Sum the env steps and the time of the trials."""
    states = []
    for state, num_trials in sorted(Counter(row.state for row in rows).items()):
        of_state = [row for row in rows if row.state is state]
        steps = sum(row.env_steps for row in of_state)
        states.append(StateCost(state, num_trials, steps, sum(row.seconds for row in of_state)))
    seconds = sum(part.seconds for part in states)
    complete = next((part for part in states if part.state is TrialState.COMPLETE), None)
    return Cost(
        env_steps=sum(part.env_steps for part in states),
        seconds=seconds,
        complete_seconds=complete.seconds / complete.num_trials if complete else None,
        seconds_per_complete=seconds / complete.num_trials if complete else None,
        states=tuple(states),
    )


def _is_at(a_range: Float | Int, side: str, value: Any) -> bool:
    if value <= a_range.low:  # a value of an earlier range may have no logarithm
        return side == "low"
    unit = a_range.to_unit(value)
    return unit <= EDGE if side == "low" else unit >= 1.0 - EDGE


def _chance(a_range: Float | Int, side: str) -> float:
    """The probability that a sampler without a model draws a value at the side."""
    if isinstance(a_range, Float):
        return EDGE
    values = range(a_range.low, a_range.high + 1, a_range.step)
    hits = [value for value in values if _is_at(a_range, side, value)]
    if not a_range.log:
        return len(hits) / len(values)
    # On the logarithmic scale, an integer stands for all that is rounded to it.
    at_side = log(hits[-1] + 0.5) - log(hits[0] - 0.5)
    return at_side / (log(a_range.high + 0.5) - log(a_range.low - 0.5))


def _ends(a_range: Range) -> list[float] | None:
    """The boundaries of the quarters; None if each value is a part of its own."""
    if isinstance(a_range, Choice):
        return None
    if isinstance(a_range, Int) and (a_range.high - a_range.low) // a_range.step < _NUM_PARTS:
        return None
    parts = range(_NUM_PARTS + 1)
    if isinstance(a_range, Int) and not a_range.log:
        count = (a_range.high - a_range.low) // a_range.step + 1  # split evenly over the parts
        starts = [a_range.low + a_range.step * (part * count // _NUM_PARTS) for part in parts]
        return [*starts[:-1], a_range.high]
    # A set: two quarters of a short logarithmic Int may begin at the same integer.
    return sorted({a_range.from_unit(part / _NUM_PARTS) for part in parts})


def _levels(a_range: Range) -> list[KnobValue]:
    if isinstance(a_range, Choice):
        return list(a_range.options)
    assert isinstance(a_range, Int)
    return list(range(a_range.low, a_range.high + 1, a_range.step))


def _cells_by_value(
    knob: str, levels: Sequence[KnobValue], rows: Sequence[Trial]
) -> list[FailureCell]:
    values = dict.fromkeys([*levels, *(row.knobs[knob] for row in rows)])
    return [
        _cell(knob, (value, value), value in levels, [r for r in rows if r.knobs[knob] == value])
        for value in values
    ]


def _cells_by_part(knob: str, ends: Sequence[float], rows: Sequence[Trial]) -> list[FailureCell]:
    parts: list[list[Trial]] = [[] for _ in ends[1:]]
    below: list[Trial] = []
    above: list[Trial] = []
    for row in rows:
        value: Any = row.knobs[knob]
        if value < ends[0]:
            below.append(row)
        elif value > ends[-1]:
            above.append(row)
        else:
            parts[min(bisect_right(ends, value), len(parts)) - 1].append(row)
    cells = [
        _cell(knob, (ends[part], ends[part + 1]), True, inside) for part, inside in enumerate(parts)
    ]
    if below:
        lowest: Any = min(row.knobs[knob] for row in below)
        cells.insert(0, _cell(knob, (lowest, ends[0]), False, below))
    if above:
        highest: Any = max(row.knobs[knob] for row in above)
        cells.append(_cell(knob, (ends[-1], highest), False, above))
    return cells


def _cell(
    knob: str, ends: tuple[KnobValue, KnobValue], is_inside: bool, rows: Sequence[Trial]
) -> FailureCell:
    failed = [row for row in rows if row.state in FAILURES]
    return FailureCell(
        knob=knob,
        low=ends[0],
        high=ends[1],
        is_inside=is_inside,
        num_trials=len(rows),
        num_failed=len(failed),
        share=len(failed) / len(rows) if len(rows) >= MIN_TRIALS_OF_CELL else None,
        trial_ids=tuple(row.trial_id for row in failed),
    )
