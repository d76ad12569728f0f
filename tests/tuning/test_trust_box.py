"""The trust box: each rule on rows made by hand, and what holds for all rows there can be."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmrl.config import KnobValue
from tests.contracts.property_settings import PROPERTY
from tests.tuning.handmade import (
    BASE,
    CLIP,
    CLIP_LIMITS,
    CLIPS,
    GOOD,
    METHOD,
    METHODS,
    POOR,
    draw_point,
    level_rows,
    moved,
    row,
    rows_of,
    space_of,
)
from tuning.box.trust_box import (
    FIRST_BOX_SHARE,
    check_space,
    incumbent,
    is_first_box_draw,
    propose,
)
from tuning.spaces.space import Choice, Condition, Float, Int, Range, SearchSpace
from tuning.table.ranking import ranking
from tuning.table.trial import Trial, TrialState

# ------------------------------------------------------------------------------- the incumbent


def test_the_incumbent_is_the_best_mean_over_its_rows() -> None:
    rows = [
        row(0, {CLIP: 1.5}, 2.0),
        row(1, {CLIP: 1.2}, 9.0),
        row(2, {CLIP: 1.7}, 5.0),
        row(3, {CLIP: 1.2}, 0.0),  # lucky once: the mean of 9 and 0 is less than 5
        row(4, {CLIP: 1.1}, None),
    ]
    best = incumbent(rows)
    assert best is not None
    assert (best.knobs, best.score, best.trial_ids) == ({CLIP: 1.7}, 5.0, ("t0002",))


def test_of_equal_incumbents_the_earliest_counts_whatever_the_order() -> None:
    rows = [row(1, {CLIP: 1.7}, 5.0), row(0, {CLIP: 1.2}, 5.0)]
    for order in (rows, rows[::-1]):
        assert (best := incumbent(order)) is not None
        assert best.trial_ids == ("t0000",)


def test_a_pruned_trial_is_never_the_incumbent() -> None:
    pruned = Trial("t0000", 0, TrialState.PRUNED, 99.0, {CLIP: 1.5}, reason="stopped")
    assert incumbent([pruned]) is None
    assert incumbent([]) is None


# ---------------------------------------------------------------------------------- expansion


@pytest.mark.parametrize(
    ("best", "low", "high"),
    [
        (1.05, 0.5, 2.0),  # 5 % from the low end
        (1.06, 1.0, 2.0),  # and just not
        (1.95, 1.0, 2.5),
        (1.94, 1.0, 2.0),
    ],
)
def test_a_side_expands_by_half_where_the_incumbent_is_within_5_percent(
    best: float, low: float, high: float
) -> None:
    new, kinds = moved(CLIPS, CLIP_LIMITS, {best: 1.0, 1.5: 0.0})
    assert isinstance(new, Float)
    assert (new.low, new.high) == pytest.approx((low, high))
    assert kinds == (["expand"] if (low, high) != (1.0, 2.0) else [])


def test_a_side_expands_where_the_median_of_the_elite_is_within_15_percent() -> None:
    # The best five of eight, apart from the incumbent's own rule: their median is 1.85.
    good: dict[KnobValue, float | None] = {1.6: 10.0, 1.7: 9.0, 1.85: 8.0, 1.9: 7.0, 1.88: 6.0}
    bad: dict[KnobValue, float | None] = {1.1: 0.0, 1.3: 0.0, 1.4: 0.0}
    new, kinds = moved(CLIPS, CLIP_LIMITS, good | bad)
    assert isinstance(new, Float)
    assert (new.low, new.high, kinds) == (1.0, pytest.approx(2.5), ["expand"])
    almost = {(1.84 if v == 1.85 else v): s for v, s in (good | bad).items()}
    assert moved(CLIPS, CLIP_LIMITS, almost) == (CLIPS, [])


def test_four_configurations_are_no_elite() -> None:
    scores: dict[KnobValue, float | None] = {1.6: 10.0, 1.88: 9.0, 1.87: 8.0, 1.89: 7.0}
    assert moved(CLIPS, CLIP_LIMITS, scores) == (CLIPS, [])


def test_a_single_configuration_moves_nothing_even_at_an_end() -> None:
    assert moved(CLIPS, CLIP_LIMITS, {2.0: 1.0}) == (CLIPS, [])


def test_an_expansion_ends_exactly_at_the_limit() -> None:
    new, kinds = moved(CLIPS, Float(0.7, 2.0), {1.0: 1.0, 1.5: 0.0})
    assert (new, kinds) == (Float(0.7, 2.0), ["expand"])
    assert moved(CLIPS, Float(1.0, 4.0), {1.0: 1.0, 1.5: 0.0}) == (CLIPS, [])


def test_rows_outside_of_the_limits_say_nothing() -> None:
    assert moved(CLIPS, CLIP_LIMITS, {9.0: 9.0, 1.4: 1.0, 1.5: 0.0}) == (CLIPS, [])


def test_a_logarithmic_range_expands_by_half_of_its_decades() -> None:
    knob = "meta.inner_lr"
    new, _ = moved(
        Float(0.01, 1.0, log=True), Float(1e-9, 1.0, log=True), {0.01: 1.0, 0.1: 0.0}, knob
    )
    assert isinstance(new, Float)
    assert (new.low, new.high) == (pytest.approx(0.001), 1.0)


@pytest.mark.parametrize(
    ("a_range", "limit", "best", "expected"),
    [
        # Half of 112 is 3.5 steps: to the step nearest to 184, of two the even one of the limits.
        (Int(16, 128, step=16), Int(16, 512, step=16), 128, Int(16, 176, step=16)),
        # No step is left below 16, but the limit is: the steps become finer, none is lost.
        (Int(16, 128, step=16), Int(8, 512, step=8), 16, Int(8, 128, step=8)),
        (Int(8, 128, step=8), Int(2, 512, step=2), 8, Int(2, 128, step=2)),
        # Half of one step is at least one.
        (Int(1, 2), Int(1, 5), 2, Int(1, 3)),
        (Int(4, 16, log=True), Int(1, 64, log=True), 16, Int(4, 32, log=True)),
    ],
)
def test_an_int_range_expands_on_its_steps(
    a_range: Int, limit: Int, best: int, expected: Int
) -> None:
    other = a_range.high if best == a_range.low else a_range.low
    new, kinds = moved(a_range, limit, {best: 1.0, other: 0.0}, "policy.window")
    assert (new, kinds) == (expected, ["expand"])


def test_an_incumbent_from_the_first_box_is_taken_back_in() -> None:
    first, current = space_of(CLIP, CLIPS), space_of(CLIP, Float(1.8, 2.0))
    rows = rows_of(CLIP, {1.2: 1.0, 1.9: 0.0})
    proposal = propose(current, first=first, limits=space_of(CLIP, CLIP_LIMITS), rows=rows)
    assert proposal.space.ranges[CLIP] == Float(1.2, 2.0)
    assert proposal.moves[-1].trial_ids == ("t0000",)


def test_an_incumbent_between_the_steps_makes_them_finer() -> None:
    knob = "policy.window"
    first, current = space_of(knob, Int(8, 128, step=8)), space_of(knob, Int(16, 128, step=16))
    rows = rows_of(knob, {40: 1.0, 64: 0.0})
    proposal = propose(current, first=first, limits=space_of(knob, Int(8, 256, step=8)), rows=rows)
    assert proposal.space.ranges[knob] == Int(16, 128, step=8)


# ----------------------------------------------------------------------------- the first box


def test_a_fifth_of_the_trials_comes_from_the_first_box_but_never_the_first() -> None:
    draws = [is_first_box_draw(i) for i in range(100)]
    assert not draws[0]
    assert sum(draws) == FIRST_BOX_SHARE * 100
    assert all(sum(draws[i : i + 5]) == 1 for i in range(0, 100, 5))


# ------------------------------------------------------------------- what is refused of a space


TWO = SearchSpace({CLIP: CLIPS, METHOD: METHODS}, BASE)
TWO_LIMITS = TWO.replace_ranges({CLIP: CLIP_LIMITS})


def check(space: SearchSpace, rows: Sequence[Trial] = (), current: SearchSpace = TWO) -> None:
    check_space(space, current=current, first=TWO, limits=TWO_LIMITS, rows=rows)


def test_a_space_may_grow_up_to_the_limits_and_shrink_by_a_quarter() -> None:
    check(TWO_LIMITS)
    check(TWO.replace_ranges({CLIP: Float(1.25, 2.0)}), rows_of_two(1.3))
    check(TWO.replace_ranges({CLIP: Float(1.1, 3.0)}), rows_of_two(1.3))


def rows_of_two(clip: float) -> list[Trial]:
    return [row(0, {CLIP: clip, METHOD: "ssm"}, 1.0)]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (SearchSpace({CLIP: CLIPS}, BASE), r"must have the knobs of its limits.*'policy.method'"),
        (
            SearchSpace({**TWO.ranges, "meta.discount": Float(0.1, 0.2)}, BASE),
            r"must have the knobs of its limits.*'meta.discount'.*are: meta.clip, policy.method",
        ),
        (
            SearchSpace(TWO.ranges, BASE.with_knobs({"seed": 1})),
            "must keep the base configuration and the conditions",
        ),
        (
            SearchSpace(TWO.ranges, BASE, {CLIP: Condition(METHOD, ("ssm",))}),
            "must keep the base configuration and the conditions",
        ),
        (TWO.replace_ranges({CLIP: Float(0.1, 2.0)}), "`meta.clip` must lie inside of its limits"),
        (TWO.replace_ranges({CLIP: Choice((1.0, 2.0))}), "`meta.clip` must lie inside of its lim"),
        (TWO.replace_ranges({METHOD: Choice(("ssm", "lstm"))}), "`policy.method` must lie inside"),
        (TWO.replace_ranges({CLIP: Float(1.0, 2.0, log=True)}), "must keep the scale"),
        (TWO.replace_ranges({CLIP: Float(1.26, 2.0)}), "must keep 75% of its width.*keeps 74%"),
        (TWO.replace_ranges({CLIP: Float(2.5, 4.0)}), "must keep 75% of its width.*keeps 0%"),
        (TWO.replace_ranges({METHOD: Choice(("ssm", "gru"))}), r"drops \['mlp'\]"),
        (TWO.replace_ranges({CLIP: Float(1.1, 2.0)}), r"incumbent \(t0000\).*`meta.clip`=1.05"),
    ],
)
def test_a_space_that_does_more_than_the_trust_box_may_is_refused(
    space: SearchSpace, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check(space, rows_of_two(1.05))


def test_a_level_may_be_dropped_once_it_is_hopeless() -> None:
    rows = level_rows(GOOD | POOR, reruns=[10.1, 9.9])
    check(TWO.replace_ranges({METHOD: Choice(("ssm", "gru"))}), rows)
    with pytest.raises(ValueError, match=r"drops \['gru'\]"):
        check(TWO.replace_ranges({METHOD: Choice(("ssm", "mlp"))}), rows)


def test_steps_may_become_finer_but_not_coarser() -> None:
    knob = "policy.window"
    current, limits = space_of(knob, Int(8, 64, step=8)), space_of(knob, Int(4, 64, step=4))

    def check_steps(a_range: Int) -> None:
        space = space_of(knob, a_range)
        check_space(space, current=current, first=current, limits=limits, rows=[])

    check_steps(Int(8, 64, step=4))
    for coarser in (Int(8, 56, step=16), Int(12, 60, step=8)):
        with pytest.raises(ValueError, match="must keep the steps of the present one"):
            check_steps(coarser)


def test_spaces_that_do_not_belong_together_are_refused() -> None:
    limits = SearchSpace(TWO_LIMITS.ranges, BASE.with_knobs({"seed": 1}))
    with pytest.raises(ValueError, match="limits must have the base and the conditions"):
        propose(TWO, first=TWO, limits=limits, rows=[])


# ------------------------------------------------------------------- what holds for all rows


@st.composite
def spaces(draw: st.DrawFn) -> tuple[SearchSpace, SearchSpace, SearchSpace]:
    """A first space, a present one, and limits: of every kind of range, with a condition."""
    places = st.lists(st.integers(0, 100), min_size=2, max_size=2, unique=True)

    def inside(limit: Float | Int) -> Float | Int:
        low, high = (hundredth / 100 for hundredth in sorted(draw(places)))
        ends = limit.from_unit(low), limit.from_unit(high)
        if isinstance(limit, Float):
            return Float(*ends, limit.log)
        multiple = 1 if limit.log else draw(st.integers(1, 3))
        low_end, step = int(ends[0]), limit.step * multiple
        num_steps = (int(ends[1]) - low_end) // step
        if not num_steps:
            return limit
        return Int(low_end, low_end + num_steps * step, step, limit.log)

    limits: dict[str, Float | Int] = {
        "meta.inner_lr": Float(1e-4, 10.0, log=True),
        "meta.discount": Float(0.0, 1.0),
        "policy.hidden_dim": Int(8, 512, step=8),
        "policy.window": Int(1, 64, log=True),
    }
    choices: dict[str, Range] = {METHOD: Choice(("ssm", "gru", "mlp", "lstm"))}
    conditions = {"policy.window": Condition(METHOD, ("ssm", "gru"))}
    outer = SearchSpace({**choices, **limits}, BASE, conditions)
    first, current = (
        outer.replace_ranges(
            {knob: inside(limit) for knob, limit in limits.items()}
            | {METHOD: Choice(draw(st.permutations(choices[METHOD].options))[: draw(_LEVELS)])}
        )
        for _ in range(2)
    )
    return first, current, outer


_LEVELS = st.integers(2, 4)


@st.composite
def tables(draw: st.DrawFn, current: SearchSpace, *others: SearchSpace) -> list[Trial]:
    """Rows of points, most of the present space: good and bad, failed, and run again."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    best_place, best_level = rng.random(), rng.choice(["ssm", "gru", "mlp", "lstm"])
    failing = draw(st.sampled_from([0.0, 0.5, 1.0]))
    rows: list[Trial] = []
    for number in range(draw(st.sampled_from([0, 1, 4, 30, 120]))):
        if rows and rng.random() < 0.1:
            point = dict(rows[rng.integers(len(rows))].knobs)
        else:
            box = current if rng.random() < 0.8 else others[rng.integers(len(others))]
            point = draw_point(box, rng)
        lr, discount = (_place(current, point, k) for k in ("meta.inner_lr", "meta.discount"))
        failed = discount > 0.7 and rng.random() < failing
        score = 0.1 * rng.normal() - abs(lr - best_place) - (point[METHOD] != best_level)
        failure = rng.choice([TrialState.DIVERGED, TrialState.FAILED])
        rows.append(row(number, point, None if failed else float(score), failure))
    return rows


def _place(space: SearchSpace, point: Mapping[str, KnobValue], knob: str) -> float:
    a_range = space.ranges[knob]
    assert not isinstance(a_range, Choice)
    return a_range.to_unit(float(point[knob]))


@settings(PROPERTY, max_examples=80)  # moves against corners are rare
@given(st.data())
def test_what_holds_for_all_rows(data: st.DataObject) -> None:
    first, current, limits = data.draw(spaces())
    rows = data.draw(tables(current, first, limits))
    proposal = propose(current, first=first, limits=limits, rows=rows)
    best = incumbent(rows)
    assert best is None or proposal.space.contains(best.knobs)
    assert limits.covers(proposal.space)
    assert proposal.space.active_knobs({})
    lr = proposal.space.ranges["meta.inner_lr"]
    assert isinstance(lr, Float)
    assert 0.0 < lr.low < lr.high
    assert lr.log
    # Whatever the trust box does, it would allow anybody to do.
    check_space(proposal.space, current=current, first=first, limits=limits, rows=rows)
    # Its moves are the whole difference, one after another, with trials that exist.
    ranges = dict(current.ranges)
    for move in proposal.moves:
        assert ranges[move.knob] == move.old != move.new
        assert set(move.trial_ids) <= {row.trial_id for row in rows}
        assert move.trial_ids
        assert move.kind != "narrow" or len(ranking(rows)) >= 10 * len(current.ranges)
        assert move.kind != "cut" or sum(row.score is None for row in rows) >= 3
        assert move.kind != "drop" or len(ranking(rows)) < len(rows)
        ranges[move.knob] = move.new
    assert ranges == dict(proposal.space.ranges)
    shuffled = data.draw(st.permutations(rows))  # the order in which trials ended
    assert propose(current, first=first, limits=limits, rows=shuffled) == proposal


@PROPERTY
@given(st.data())
def test_an_incumbent_at_an_end_always_expands_it(data: st.DataObject) -> None:
    first, current, limits = data.draw(spaces())
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    rows = [row(i, draw_point(current, rng), 0.0) for i in range(4)]
    knob = data.draw(st.sampled_from(["meta.inner_lr", "meta.discount", "policy.hidden_dim"]))
    side = data.draw(st.sampled_from(["low", "high"]))
    end = getattr(current.ranges[knob], side)
    rows.append(row(4, draw_point(current, rng) | {knob: end}, 1.0))
    new_end = getattr(
        propose(current, first=first, limits=limits, rows=rows).space.ranges[knob], side
    )
    limit = getattr(limits.ranges[knob], side)
    assert new_end == limit or (new_end < end if side == "low" else new_end > end)


def test_over_rounds_the_best_of_a_round_never_gets_worse() -> None:
    """Without noise, a round that repeats the incumbent cannot fall behind the one before."""
    lr, width = "meta.inner_lr", "policy.hidden_dim"
    first = SearchSpace({lr: Float(0.01, 1.0, log=True), width: Int(16, 128, step=16)}, BASE)
    limits = first.replace_ranges({lr: Float(1e-4, 10.0, log=True), width: Int(8, 512, step=8)})

    def score(point: Mapping[str, KnobValue]) -> float:  # best beyond the high and the low end
        return -((math.log10(float(point[lr])) - 0.5) ** 2) - float(point[width]) / 100

    best_in_first = score({lr: 1.0, width: 16})
    num_beyond = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        space, bests = first, []
        rows: list[Trial] = []
        for _ in range(5):
            points = [draw_point(space, rng) for _ in range(12)]
            if (best := incumbent(rows)) is not None:
                assert space.contains(best.knobs)
                points[0] = dict(best.knobs)
            rows += [row(len(rows) + i, point, score(point)) for i, point in enumerate(points)]
            bests.append(max(map(score, points)))
            space = propose(space, first=first, limits=limits, rows=rows).space
        assert bests == sorted(bests)
        num_beyond += bests[-1] > best_in_first
    assert num_beyond >= 8
