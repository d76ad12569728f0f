"""The moves of the two sides of a numeric range; levels and whole spaces are in ``trust_box``."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ssmrl.config import KnobValue
from tuning.box.evidence import CORNER, SIDES, Corners, place
from tuning.spaces.ranges import Float, Int
from tuning.table.move import Move
from tuning.table.ranking import MIN_ELITE, Ranked, elite

INCUMBENT_MARGIN = 0.05  # share of the width; nearer to an end, the optimum may lie beyond it
ELITE_MARGIN = 0.15
STRETCH = 0.5  # share of the width

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Standing:
    """Where the good values of one numeric knob lie; empty if no configuration has the knob.

    Attributes:
        best: The incumbent's value; None if it lacks the knob.
        best_ids: The incumbent's trials.
        elite: The values of the elite among the configurations that have the knob; empty if these
            are fewer than ``MIN_ELITE``.
        elite_ids: The elite's trials.
        has_rivals: Whether more than one configuration has the knob.
    """

    best: KnobValue | None
    best_ids: tuple[str, ...]
    elite: tuple[KnobValue, ...]
    elite_ids: tuple[str, ...]
    has_rivals: bool

    @classmethod
    def of(cls, knob: str, ranked: Sequence[Ranked]) -> "Standing":
        """The standing of a knob among configurations, given best first."""
        entries = [entry for entry in ranked if knob in entry.knobs]
        # Too few entries for an elite show where the search was, not where scores are good.
        chosen = elite(entries) if len(entries) >= MIN_ELITE else ()
        has_best = bool(entries) and entries[0] is ranked[0]
        return cls(
            best=entries[0].knobs[knob] if has_best else None,
            best_ids=entries[0].trial_ids if has_best else (),
            elite=tuple(entry.knobs[knob] for entry in chosen),
            elite_ids=tuple(sorted(name for entry in chosen for name in entry.trial_ids)),
            has_rivals=len(entries) > 1,
        )

    def reason_to_expand(
        self, a_range: Float | Int, side: str
    ) -> tuple[str, tuple[str, ...]] | None:
        """Why the optimum may lie beyond a side, with the trials; None if there is no reason."""

        def distance(value: KnobValue) -> float:
            where = place(a_range, value)
            return where if side == "low" else 1.0 - where

        if self.best is not None and self.has_rivals:
            near = distance(self.best)
            statistic = (
                f"the incumbent, {self.best!r}, lies {near:.1%} of the width from the {side} end, "
                f"at most {INCUMBENT_MARGIN:.0%}"
            )
            if near <= INCUMBENT_MARGIN + _ROUNDING:
                return statistic, self.best_ids
        if self.elite:
            near = statistics.median(map(distance, self.elite))
            statistic = (
                f"the median of the best {len(self.elite)} lies {near:.1%} of the width from the "
                f"{side} end, at most {ELITE_MARGIN:.0%}"
            )
            if near <= ELITE_MARGIN + _ROUNDING:
                return statistic, self.elite_ids
        return None

    def allows(self, a_range: Float | Int, side: str) -> bool:
        """Whether a range holds the incumbent, and the side would not expand back at once."""
        holds = self.best is None or a_range.contains(self.best)
        return holds and self.reason_to_expand(a_range, side) is None


def side_moves(
    knob: str,
    a_range: Float | Int,
    limit: Float | Int,
    standing: Standing,
    against: Sequence[tuple[str, Corners]],
) -> list[Move]:
    """The moves of a numeric knob.

    Args:
        knob: Name of the knob.
        a_range: Its range.
        limit: Its hard limits, on the same scale.
        standing: Position of its good values.
        against: Evidence against corners, by kind of move, the strongest reasons first.
    """
    moves: list[Move] = []
    now = a_range
    reasons = {side: standing.reason_to_expand(a_range, side) for side in SIDES}
    for side, reason in reasons.items():
        if reason is not None and (wider := _stretched(a_range, now, limit, side)) != now:
            moves.append(Move(knob, now, wider, "expand", *reason))
            now = wider
    if standing.best is not None and not now.contains(standing.best):
        wider = _with_value(now, standing.best)
        statistic = f"the incumbent, {standing.best!r}, is not a value of the range"
        moves.append(Move(knob, now, wider, "expand", statistic, standing.best_ids))
        now = wider
    for kind, corners in against:
        sides = [side for side in SIDES if (knob, side) in corners and reasons[side] is None]
        for side in sorted(sides, key=lambda side: corners[knob, side].p_value):
            rest = _without_corner(a_range, now, side)
            if rest == now or not standing.allows(rest, side):
                continue
            ground = corners[knob, side]
            return [*moves, Move(knob, now, rest, kind, ground.statistic, ground.trial_ids)]
    return moves


def _stretched(
    a_range: Float | Int, now: Float | Int, limit: Float | Int, side: str
) -> Float | Int:
    """``now`` with one side moved out by half the width of ``a_range``, within the limits."""
    # On the scale of the limits, 0 and 1 are the hard limits.
    low, high = (limit.to_unit(end) for end in (a_range.low, a_range.high))
    reach = STRETCH * (high - low)
    if side == "low":
        old, end, bound = now.low, min(now.low, limit.from_unit(low - reach)), limit.low
    else:
        old, end, bound = now.high, max(now.high, limit.from_unit(high + reach)), limit.high
    if isinstance(now, Float):
        return _with_end(now, side, end)
    num_steps = max(1, round(abs(end - old) / now.step))
    if end == bound or num_steps > abs(bound - old) // now.step:
        return _with_value(now, bound)  # the limit may lie off the steps of the range
    return _with_end(now, side, old + (num_steps if side == "high" else -num_steps) * now.step)


def _with_value(now: Float | Int, value: KnobValue) -> Float | Int:
    """``now``, widened and with finer steps just enough to hold a value."""
    if isinstance(now, Float):
        return Float(min(now.low, float(value)), max(now.high, float(value)), now.log)
    step = math.gcd(now.step, int(value) - now.low)
    return Int(min(now.low, int(value)), max(now.high, int(value)), step, now.log)


def _without_corner(a_range: Float | Int, now: Float | Int, side: str) -> Float | Int:
    """``now`` without the corner of ``a_range``; an integer range never loses more than that."""
    at = CORNER if side == "low" else 1.0 - CORNER
    end = a_range.from_unit(at)
    if isinstance(a_range, Int):
        if side == "low" and a_range.to_unit(end) > at + _ROUNDING:
            end -= a_range.step
        if side == "high" and a_range.to_unit(end) < at - _ROUNDING:
            end += a_range.step
    return _with_end(now, side, end)


def _with_end(now: Float | Int, side: str, end: float) -> Float | Int:
    low, high = (end, now.high) if side == "low" else (now.low, end)
    if isinstance(now, Float):
        return Float(low, high, now.log)
    return Int(int(low), int(high), now.step, now.log)
