"""The rules that move a search space, the box, between rounds, with guarantees; not a searcher.

For any rows, the next space holds the incumbent, lies inside the hard limits, and has lost at most
a quarter of each range. The order of the rows does not matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ssmrl.config import KnobValue
from tuning.box.evidence import (
    CORNER,
    Corners,
    failing_corners,
    hopeless_levels,
    is_same,
    place,
    worse_corners,
)
from tuning.box.side_moves import Standing, side_moves
from tuning.spaces.ranges import Choice, Float, Int
from tuning.spaces.space import SearchSpace
from tuning.table.move import Move
from tuning.table.ranking import ranking
from tuning.table.trial import Trial

__all__ = [
    "FIRST_BOX_SHARE",
    "Incumbent",
    "Move",
    "Proposal",
    "check_space",
    "incumbent",
    "is_first_box_draw",
    "propose",
]

FIRST_BOX_SHARE = 0.2

MIN_KEPT = 1.0 - CORNER

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Incumbent:
    """The best configuration so far.

    Attributes:
        knobs: The searched knobs.
        score: Mean score of its trials.
        trial_ids: Its trials, in the order of their numbers.
    """

    knobs: dict[str, KnobValue]
    score: float
    trial_ids: tuple[str, ...]


@dataclass(frozen=True)
class Proposal:
    """Where to search next.

    Attributes:
        space: The next space; the current one if nothing is significant.
        moves: The moves from the current space to it, in order.
    """

    space: SearchSpace
    moves: tuple[Move, ...]


def incumbent(rows: Sequence[Trial]) -> Incumbent | None:
    """The configuration with the highest mean score, the earliest on a tie; None if there is none.

    Only complete trials count, and those with equal knobs count together.
    """
    ranked = ranking(rows)
    if not ranked:
        return None
    return Incumbent(dict(ranked[0].knobs), ranked[0].mean, ranked[0].trial_ids)


def is_first_box_draw(index_in_round: int) -> bool:
    """Whether a round's trial with this index, from 0, is drawn from the sweep's first space.

    Every fifth trial is, however the space has moved since, so that no move is final. The trial
    with index 0 never is: it repeats the incumbent under a fresh seed.
    """
    period = round(1.0 / FIRST_BOX_SHARE)
    return index_in_round % period == period - 1


def propose(
    current: SearchSpace, *, first: SearchSpace, limits: SearchSpace, rows: Sequence[Trial]
) -> Proposal:
    """Moves the space to where the rows suggest the optimum.

    On the scale of the search, where a range goes from 0 to 1:

    - A side **expands** by half the width, as far as the limits allow, if the incumbent lies
      within 5 % of it or the median of the elite (the best quarter, at least five) within 15 %. It
      expands further if the incumbent lies further out, as a draw from the first space can. A
      single configuration moves nothing, since it has not beaten any other.
    - Of the other sides, at most one per knob loses its outer quarter. ``failing_corners``
      (**cut**) or ``worse_corners`` (**narrow**) must list it, and it must not expand back at once.
    - A level **drops** if ``hopeless_levels`` lists it, as long as two remain.

    Args:
        current: The space of the last round.
        first: The sweep's first space.
        limits: The hard limits of every range.
        rows: The table. Rows outside the limits are left out: no proposal could hold them.

    Raises:
        ValueError: If the three spaces do not belong together.
    """
    for space in (first, current):
        _check_belongs(space, first=first, limits=limits)
    rows = [row for row in rows if limits.contains(row.knobs)]
    ranked = ranking(rows)
    # If both apply, a failing corner is the stronger reason.
    against: list[tuple[str, Corners]] = [
        ("cut", failing_corners(current, rows)),
        ("narrow", worse_corners(current, rows)),
    ]
    moves: list[Move] = []
    for knob, a_range in current.ranges.items():
        limit = limits.ranges[knob]
        if isinstance(a_range, Choice):
            moves += _level_moves(knob, a_range, rows)
        elif not isinstance(limit, Choice):
            moves += side_moves(knob, a_range, limit, Standing.of(knob, ranked), against)
    if not moves:
        return Proposal(current, ())
    return Proposal(current.replace_ranges({move.knob: move.new for move in moves}), tuple(moves))


def check_space(
    space: SearchSpace,
    *,
    current: SearchSpace,
    first: SearchSpace,
    limits: SearchSpace,
    rows: Sequence[Trial],
) -> None:
    """Check that a proposal from any author stays within what the trust box allows.

    It may search anywhere inside the limits. It may give up at most a quarter of a range at a time
    and only hopeless levels, and never the incumbent.

    Args:
        space: The proposed space.
        current: The space of the last round.
        first: The sweep's first space.
        limits: The hard limits of every range.
        rows: The table.

    Raises:
        ValueError: If it does not; one sentence that names the knob and what to do.
    """
    _check_belongs(space, first=first, limits=limits)
    rows = [row for row in rows if limits.contains(row.knobs)]
    for knob, a_range in space.ranges.items():
        old = current.ranges[knob]
        if isinstance(a_range, Choice) and isinstance(old, Choice):
            _check_levels(knob, a_range, old, rows)
        elif not isinstance(a_range, Choice) and not isinstance(old, Choice):
            _check_kept(knob, a_range, old)
    best = incumbent(rows)
    if best is None or space.contains(best.knobs):
        return
    lost = [f"`{k}`={v!r}" for k, v in best.knobs.items() if not space.ranges[k].contains(v)]
    raise ValueError(
        f"the space must contain the incumbent ({', '.join(best.trial_ids)}), but its "
        f"{', '.join(lost)} lies outside; widen these ranges and keep their steps."
    )


def _check_belongs(space: SearchSpace, *, first: SearchSpace, limits: SearchSpace) -> None:
    unknown = sorted(space.ranges.keys() ^ limits.ranges.keys())
    if unknown:
        raise ValueError(
            f"a space must have the knobs of its limits, but {unknown} are not in both; "
            f"the knobs of the limits are: {', '.join(limits.ranges)}"
        )
    if space.base != first.base or space.conditions != first.conditions:
        raise ValueError(
            "a space must keep the base configuration and the conditions of the first space, but "
            "has others; change only its ranges."
        )
    if limits.base != first.base or limits.conditions != first.conditions:
        raise ValueError("limits must have the base and the conditions of the first space.")
    for knob, a_range in space.ranges.items():
        limit = limits.ranges[knob]
        if not limit.covers(a_range):
            raise ValueError(
                f"the range of `{knob}` must lie inside of its limits and on their steps, but "
                f"{a_range} does not fit {limit}; make it narrower or use their steps."
            )
        if getattr(a_range, "log", None) != getattr(limit, "log", None):
            raise ValueError(
                f"the range of `{knob}` must keep the scale of its limits, but the scale of "
                f"{a_range} differs from that of {limit}; change only its ends."
            )


def _check_kept(knob: str, a_range: Float | Int, old: Float | Int) -> None:
    ends = (place(old, a_range.low), place(old, a_range.high))
    kept = min(1.0, ends[1]) - max(0.0, ends[0])
    if kept < MIN_KEPT - _ROUNDING:
        raise ValueError(
            f"the range of `{knob}` must keep {MIN_KEPT:.0%} of its width, but {a_range} keeps "
            f"{max(0.0, kept):.0%} of {old}; narrow it in several rounds."
        )
    if not (isinstance(a_range, Int) and isinstance(old, Int)):
        return
    if old.step % a_range.step or (a_range.low - old.low) % a_range.step:
        raise ValueError(
            f"the range of `{knob}` must keep the steps of the present one, but {a_range} misses "
            f"some of {old}; use a step that divides {old.step}, and ends on the old steps."
        )


def _check_levels(knob: str, a_range: Choice, old: Choice, rows: Sequence[Trial]) -> None:
    lost = [level for level in old.options if not a_range.contains(level)]
    hopeless = [level for level, _ in hopeless_levels(knob, old, rows)] if lost else []
    kept = [level for level in lost if not any(is_same(level, other) for other in hopeless)]
    if kept:
        raise ValueError(
            f"`{knob}` must keep every level that may still reach the incumbent, but {a_range} "
            f"drops {kept!r}; keep each until at least five configurations rule it out."
        )


def _level_moves(knob: str, a_range: Choice, rows: Sequence[Trial]) -> list[Move]:
    moves: list[Move] = []
    best = incumbent(rows)
    if best is not None and knob in best.knobs and not a_range.contains(best.knobs[knob]):
        wider = Choice((*a_range.options, best.knobs[knob]))
        statistic = f"the incumbent has {best.knobs[knob]!r}"
        moves.append(Move(knob, a_range, wider, "expand", statistic, best.trial_ids))
        a_range = wider
    for level, ground in hopeless_levels(knob, a_range, rows):
        options = tuple(option for option in a_range.options if not is_same(option, level))
        if len(options) < 2:
            break
        rest = Choice(options)
        moves.append(Move(knob, a_range, rest, "drop", ground.statistic, ground.trial_ids))
        a_range = rest
    return moves
