"""Statistical evidence against parts of a search space; ``trust_box`` makes the moves.

A *corner* is the outer quarter of a numeric knob's range, at its low or its high side.
"""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from scipy import stats

from ssmrl.config import KnobValue
from tuning.spaces.ranges import Choice, Float, Int
from tuning.spaces.space import SearchSpace
from tuning.table.ranking import Ranked, elite, ranking
from tuning.table.trial import FAILURES, Trial

CORNER = 0.25  # share of the width of a range
MIN_TRIALS = 5  # fewest trials or configurations of a corner or level that is judged
MIN_TRIALS_PER_KNOB = 10
MIN_FAILED = 0.6
SIGNIFICANCE = 0.05

SIDES = ("low", "high")

_Row = TypeVar("_Row", Trial, Ranked)


@dataclass(frozen=True)
class Ground:
    """The evidence against a corner or a level.

    Attributes:
        statistic: The computed statistic, as a clause with its numbers.
        trial_ids: The trials in the corner or with the level.
        p_value: Probability of a result this extreme by chance; 0 if nothing was tested.
    """

    statistic: str
    trial_ids: tuple[str, ...]
    p_value: float = 0.0


Corners: TypeAlias = dict[tuple[str, str], Ground]
"""The evidence against corners, by knob and side."""


def place(a_range: Float | Int, value: KnobValue) -> float:
    """The position of a value on the scale of a range: 0 to 1 inside, below or above outside."""
    return a_range.to_unit(float(value))


def worse_corners(space: SearchSpace, rows: Sequence[Trial]) -> Corners:
    """The corners whose configurations score significantly less than the rest of the range.

    Only completed configurations that have the knob and lie inside its range count. There must be
    ten of them per knob of the space, and five on either side of the border. Later trials are
    drawn where earlier ones were good, so they are not quite the independent draws that the test
    assumes.

    References:
        Mann and Whitney 1947, "On a Test of Whether one of Two Random Variables is Stochastically
        Larger than the Other"; Holm 1979, "A Simple Sequentially Rejective Multiple Test
        Procedure".
    """
    tested: Corners = {}
    ranked = ranking(rows)
    for knob, a_range in _numeric(space):
        if len(_inside(knob, a_range, ranked)) < MIN_TRIALS_PER_KNOB * len(space.ranges):
            continue
        for side in SIDES:
            corner, rest = _split(knob, a_range, side, ranked)
            if min(len(corner), len(rest)) < MIN_TRIALS:
                continue
            scores = [[entry.mean for entry in part] for part in (corner, rest)]
            p_value = float(stats.mannwhitneyu(*scores, alternative="less").pvalue)
            statistic = (
                f"the {len(corner)} configurations of its {side} quarter score less than the "
                f"{len(rest)} others, median {statistics.median(scores[0]):.4g} against "
                f"{statistics.median(scores[1]):.4g} (Mann-Whitney, p = {p_value:.2g})"
            )
            tested[knob, side] = Ground(statistic, _ids(corner), p_value)
    return _significant(tested)


def failing_corners(space: SearchSpace, rows: Sequence[Trial]) -> Corners:
    """The corners in which most trials fail, and significantly more than in the rest of the range.

    At least five trials, in any state, must lie in the corner, and at least 60 % of them must have
    failed (a state of ``FAILURES``). If the rest fails as often, the knob is not the reason.

    References:
        Fisher 1922, "On the Interpretation of chi^2 from Contingency Tables" (the exact test);
        Holm 1979 (the correction for many tests).
    """
    tested: Corners = {}
    most_fail: set[tuple[str, str]] = set()
    ordered = sorted(rows, key=lambda row: (row.number, row.trial_id))
    for knob, a_range in _numeric(space):
        for side in SIDES:
            corner, rest = _split(knob, a_range, side, ordered)
            if len(corner) < MIN_TRIALS:
                continue
            failed, failed_rest = (sum(t.state in FAILURES for t in p) for p in (corner, rest))
            counts = [[failed, len(corner) - failed], [failed_rest, len(rest) - failed_rest]]
            p_value = float(stats.fisher_exact(counts, alternative="greater").pvalue)
            statistic = (
                f"{failed} of the {len(corner)} trials of its {side} quarter failed, and "
                f"{failed_rest} of the {len(rest)} others (Fisher, p = {p_value:.2g})"
            )
            ids = tuple(row.trial_id for row in corner)
            tested[knob, side] = Ground(statistic, ids, p_value)
            if failed >= MIN_FAILED * len(corner):
                most_fail.add((knob, side))
    return {key: ground for key, ground in _significant(tested).items() if key in most_fail}


def hopeless_levels(
    knob: str, a_range: Choice, rows: Sequence[Trial]
) -> tuple[tuple[KnobValue, Ground], ...]:
    """The levels of a categorical knob that cannot be expected to reach the incumbent.

    A level needs five completed configurations. Its upper bound is the end of a prediction interval
    for one more configuration as good as its elite, not of an interval of its mean: a level that is
    poor on average may still hold the optimum. The incumbent's lower bound comes from the spread
    between the runs of one configuration, pooled over all configurations with several runs. Without
    any such configuration there is no bound, and no level is hopeless.

    Returns:
        Each such level with the evidence against it, lowest upper bound first.
    """
    ranked = ranking(rows)
    if (lower := _lower_bound(ranked)) is None:
        return ()
    found: list[tuple[float, KnobValue, Ground]] = []
    for level in a_range.options:
        entries = [
            entry for entry in ranked if knob in entry.knobs and is_same(entry.knobs[knob], level)
        ]
        if len(entries) < MIN_TRIALS or ranked[0] in entries:
            continue
        if (upper := _upper_bound([entry.mean for entry in elite(entries)])) < lower:
            statistic = (
                f"judging by its {len(entries)} configurations, another one with {level!r} scores "
                f"at most {upper:.4g}, but the incumbent at least {lower:.4g} (97.5 % each)"
            )
            found.append((upper, level, Ground(statistic, _ids(entries))))
    return tuple((level, ground) for _, level, ground in sorted(found, key=lambda item: item[0]))


def is_same(a: KnobValue, b: KnobValue) -> bool:
    """Whether two values of a categorical knob are the same level; ``1`` is not ``True``."""
    return type(a) is type(b) and a == b


def _numeric(space: SearchSpace) -> Iterator[tuple[str, Float | Int]]:
    for knob, a_range in space.ranges.items():
        if not isinstance(a_range, Choice):
            yield knob, a_range


def _inside(knob: str, a_range: Float | Int, rows: Sequence[_Row]) -> list[_Row]:
    return [
        row for row in rows if knob in row.knobs and 0.0 <= place(a_range, row.knobs[knob]) <= 1.0
    ]


def _split(
    knob: str, a_range: Float | Int, side: str, rows: Sequence[_Row]
) -> tuple[list[_Row], list[_Row]]:
    """The rows in the corner and the rows in the rest of the range."""
    corner: list[_Row] = []
    rest: list[_Row] = []
    for row in _inside(knob, a_range, rows):
        where = place(a_range, row.knobs[knob])
        is_out = where < CORNER if side == "low" else where > 1.0 - CORNER
        (corner if is_out else rest).append(row)
    return corner, rest


def _ids(ranked: Sequence[Ranked]) -> tuple[str, ...]:
    return tuple(sorted(trial_id for entry in ranked for trial_id in entry.trial_ids))


def _significant(tested: Corners) -> Corners:
    """The corners significant at 5 % over all tests together, by Holm's correction."""
    ordered = sorted(tested, key=lambda key: tested[key].p_value)
    for index, key in enumerate(ordered):
        if tested[key].p_value > SIGNIFICANCE / (len(ordered) - index):
            return {key: tested[key] for key in ordered[:index]}
    return dict(tested)


def _upper_bound(scores: Sequence[float]) -> float:
    count = len(scores)
    spread = statistics.stdev(scores) * math.sqrt(1.0 + 1.0 / count)
    return statistics.fmean(scores) + float(stats.t.ppf(0.975, count - 1)) * spread


def _lower_bound(ranked: Sequence[Ranked]) -> float | None:
    repeated = [entry for entry in ranked if entry.spread is not None]
    degrees = sum(len(entry.scores) - 1 for entry in repeated)
    if not degrees:
        return None
    squares = (entry.spread**2 * (len(entry.scores) - 1) for entry in repeated if entry.spread)
    spread = math.sqrt(math.fsum(squares) / degrees)
    best = ranked[0]
    return best.mean - float(stats.t.ppf(0.975, degrees)) * spread / math.sqrt(len(best.scores))
