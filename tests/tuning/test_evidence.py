"""What speaks against corners and levels, by rows made by hand, and the moves that follow."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from ssmrl.config import KnobValue
from tests.tuning.handmade import (
    BASE,
    CLIP,
    CLIP_LIMITS,
    CLIPS,
    GOOD,
    METHOD,
    METHODS,
    POOR,
    level_rows,
    moved,
    row,
    rows_of,
    space_of,
)
from tuning.box.evidence import failing_corners, hopeless_levels, worse_corners
from tuning.box.trust_box import propose
from tuning.spaces.space import Choice, Condition, Float, Int, Range, SearchSpace
from tuning.table.trial import Trial, TrialState


def scores_with_a_bad_low_quarter(num_bad: int, num_good: int) -> dict[KnobValue, float | None]:
    bad = {1.01 + 0.2 * i / num_bad: -10.0 - i for i in range(num_bad)}
    good = {1.3 + 0.6 * i / num_good: -abs(i - num_good / 2) / 10 for i in range(num_good)}
    return bad | good


def test_a_range_narrows_to_three_quarters_where_a_corner_is_significantly_worse() -> None:
    new, kinds = moved(CLIPS, CLIP_LIMITS, scores_with_a_bad_low_quarter(5, 5))
    assert (new, kinds) == (Float(1.25, 2.0), ["narrow"])


@pytest.mark.parametrize(
    "scores",
    [
        scores_with_a_bad_low_quarter(5, 4),  # nine configurations for one knob
        scores_with_a_bad_low_quarter(4, 9),  # four in the corner
        # As many, but the corner is not worse.
        {v: float(i % 5) for i, v in enumerate(scores_with_a_bad_low_quarter(8, 24))},
    ],
    ids=["too few", "too few in the corner", "no difference"],
)
def test_nothing_narrows_without_the_evidence(scores: dict[KnobValue, float | None]) -> None:
    assert "narrow" not in moved(CLIPS, CLIP_LIMITS, scores)[1]


def test_ten_configurations_are_needed_for_each_knob_of_the_space() -> None:
    knobs = (CLIP, "meta.discount")
    ranges: dict[str, Range] = {CLIP: CLIPS, "meta.discount": Float(0.0, 1.0)}
    space = SearchSpace(ranges, BASE)

    def corners(count: int) -> set[tuple[str, str]]:
        scores = scores_with_a_bad_low_quarter(count // 3, count - count // 3)
        rng = np.random.default_rng(0)
        rows = [
            row(i, dict(zip(knobs, (v, rng.random()), strict=True)), score)
            for i, (v, score) in enumerate(scores.items())
        ]
        return set(worse_corners(space, rows))

    assert corners(19) == set()
    assert corners(20) == {(CLIP, "low")}


def test_significance_is_corrected_for_the_number_of_corners() -> None:
    """A p-value of 0.03 counts where one corner was tested, and not where three were."""
    ranks = [2, 4, 7, 10, 13, 14]
    scores = [*ranks, *(rank for rank in range(1, 27) if rank not in ranks)]
    clips = [1.1 + 0.02 * i for i in range(6)] + [1.3 + 0.02 * i for i in range(20)]
    points = list(zip(clips, map(float, scores), strict=True))
    alone = worse_corners(
        space_of(CLIP, CLIPS), [row(i, {CLIP: v}, score) for i, (v, score) in enumerate(points)]
    )
    assert alone.keys() == {(CLIP, "low")}
    assert alone[CLIP, "low"].p_value == pytest.approx(0.031, abs=0.001)
    other = "meta.discount"  # of which the test says nothing, in two corners
    ranges: dict[str, Range] = {CLIP: CLIPS, other: Float(0.0, 1.0)}
    spread = [(0.05, 0.5, 0.95)[i % 3] for i in range(26)]
    rows = [row(i, {CLIP: v, other: spread[i]}, score) for i, (v, score) in enumerate(points)]
    assert worse_corners(SearchSpace(ranges, BASE), rows) == {}


def test_a_corner_is_cut_where_its_trials_fail() -> None:
    fails: dict[KnobValue, float | None] = {1.8 + 0.03 * i: None for i in range(5)}
    works: dict[KnobValue, float | None] = {1.1 + 0.05 * i: -abs(i - 5.0) for i in range(12)}
    assert moved(CLIPS, CLIP_LIMITS, fails | works) == (Float(1.0, 1.75), ["cut"])


@pytest.mark.parametrize(
    ("num_failing", "num_in_corner", "num_failing_elsewhere"),
    [(4, 4, 0), (5, 9, 0), (5, 5, 12)],
    ids=["four trials", "56 percent", "the rest fails as often"],
)
def test_a_corner_is_not_cut_for_less(
    num_failing: int, num_in_corner: int, num_failing_elsewhere: int
) -> None:
    corner = {1.8 + 0.02 * i: None if i < num_failing else -9.0 for i in range(num_in_corner)}
    rest = {1.1 + 0.04 * i: None if i < num_failing_elsewhere else -abs(i - 6.0) for i in range(16)}
    rows = rows_of(CLIP, corner | rest)
    assert failing_corners(space_of(CLIP, CLIPS), rows) == {}


def test_a_failed_trial_is_one_that_diverged_or_raised_and_not_a_pruned_one() -> None:
    works = [row(i, {CLIP: 1.1 + 0.05 * i}, 1.0) for i in range(12)]

    def corners(state: TrialState) -> set[tuple[str, str]]:
        outer = [
            Trial(f"t{n}", n, state, None, {CLIP: 1.8 + n / 1000}, reason="why")
            for n in range(20, 26)
        ]
        return set(failing_corners(space_of(CLIP, CLIPS), works + outer))

    assert corners(TrialState.DIVERGED) == corners(TrialState.FAILED) == {(CLIP, "high")}
    assert corners(TrialState.PRUNED) == set()


def test_a_corner_beside_the_incumbent_stays() -> None:
    """Cutting to 1.75 would leave the incumbent, 1.73, within 5 % of the new end."""
    fails: dict[KnobValue, float | None] = {1.8 + 0.03 * i: None for i in range(5)}
    works: dict[KnobValue, float | None] = {1.1 + 0.05 * i: -1.0 - i for i in range(12)}
    assert moved(CLIPS, CLIP_LIMITS, fails | works | {1.73: 0.0}) == (CLIPS, [])


def test_a_failing_corner_that_holds_the_incumbent_stays() -> None:
    """Even where the incumbent is the only trial that was tried to the end."""
    rows = [
        Trial(f"t{n:04d}", n, TrialState.PRUNED, 0.0, {CLIP: 1.1 + n / 50}, reason="stopped")
        for n in range(12)
    ]
    rows += [row(12 + n, {CLIP: 1.8 + n / 50}, None) for n in range(5)]
    rows.append(row(17, {CLIP: 1.9}, 1.0))
    space = space_of(CLIP, CLIPS)
    assert failing_corners(space, rows).keys() == {(CLIP, "high")}
    proposal = propose(space, first=space, limits=space_of(CLIP, CLIP_LIMITS), rows=rows)
    assert proposal.space == space


def test_a_range_loses_one_corner_a_round() -> None:
    scores: dict[KnobValue, float | None] = {1.5 + 0.01 * i: -0.1 * abs(i - 5.0) for i in range(10)}
    outer: dict[KnobValue, float | None] = {1.01 + 0.03 * i: -20.0 - i for i in range(6)}
    outer |= {1.8 + 0.03 * i: -20.5 - i for i in range(6)}
    rows = rows_of(CLIP, scores | outer)
    assert len(worse_corners(space_of(CLIP, CLIPS), rows)) == 2
    new, kinds = moved(CLIPS, CLIP_LIMITS, scores | outer)
    assert kinds == ["narrow"]
    assert isinstance(new, Float)
    assert new.high - new.low == pytest.approx(0.75)


def test_an_int_range_gives_up_whole_steps_and_never_more_than_a_quarter() -> None:
    scores: dict[KnobValue, float | None] = {v: -100.0 + v for v in range(1, 7)}
    scores |= {v: -abs(v - 14.0) for v in range(7, 23)}
    new, kinds = moved(Int(1, 22), Int(1, 22), scores, "policy.window")
    # A quarter of 21 is 5.25 steps: five may go.
    assert (new, kinds) == (Int(6, 22), ["narrow"])


# -------------------------------------------------------------------------------------- levels


def level_space(choice: Choice = METHODS) -> SearchSpace:
    return SearchSpace({METHOD: choice, CLIP: CLIPS}, BASE)


def test_a_level_drops_when_its_upper_bound_is_under_the_incumbents_lower_bound() -> None:
    rows = level_rows(GOOD | POOR, reruns=[10.1, 9.9])
    space = level_space()
    proposal = propose(space, first=space, limits=space, rows=rows)
    assert proposal.space.ranges[METHOD] == Choice(("ssm", "gru"))
    (move,) = [move for move in proposal.moves if move.knob == METHOD]
    assert (move.kind, move.trial_ids) == ("drop", tuple(f"t{i:04d}" for i in range(8, 13)))
    # By hand: mean 1, standard deviation 0.381, t(4) = 2.776, so 1 + 2.776 * 0.381 * sqrt(1.2).
    assert f"at most {1 + 2.776445 * math.sqrt(0.145 * 1.2):.4g}" in move.statistic
    # And mean 10, standard deviation 0.1, t(2) = 4.303, so 10 - 4.303 * 0.1 / sqrt(3).
    assert f"at least {10 - 4.302653 * 0.1 / math.sqrt(3):.4g}" in move.statistic


@pytest.mark.parametrize(
    ("scores", "reruns"),
    [
        (GOOD | {"mlp": POOR["mlp"][:4]}, [10.1, 9.9]),
        (GOOD | POOR, []),
        (GOOD | POOR, [30.0, -10.0]),
        (GOOD | {"mlp": [1.0, 7.0, 0.5, 5.0, 3.0]}, [10.1, 9.9]),
    ],
    ids=["four trials", "never run again", "runs differ as much", "its best may come close"],
)
def test_a_level_stays_without_the_evidence(
    scores: Mapping[str, Sequence[float]], reruns: Sequence[float]
) -> None:
    rows = level_rows(scores, reruns=reruns)
    assert hopeless_levels(METHOD, METHODS, rows) == ()


def test_two_levels_always_stay() -> None:
    rows = level_rows({"ssm": GOOD["ssm"]} | POOR, reruns=[10.1, 9.9])
    space = level_space(Choice(("ssm", "mlp")))
    assert len(hopeless_levels(METHOD, Choice(("ssm", "mlp")), rows)) == 1
    assert propose(space, first=space, limits=space, rows=rows).space == space


def test_a_dropped_level_returns_with_the_incumbent() -> None:
    current, first = level_space(Choice(("gru", "mlp"))), level_space()
    rows = level_rows(GOOD, reruns=[])
    proposal = propose(current, first=first, limits=first, rows=rows)
    assert proposal.space.ranges[METHOD] == Choice(("gru", "mlp", "ssm"))
    assert [move.kind for move in proposal.moves if move.knob == METHOD] == ["expand"]


def test_only_rows_with_the_knob_speak_about_a_conditional_knob() -> None:
    ranges: dict[str, Range] = {METHOD: METHODS, "policy.window": Int(8, 64)}
    limits = {**ranges, "policy.window": Int(1, 256)}
    conditions = {"policy.window": Condition(METHOD, ("gru",))}
    space, outer = (SearchSpace(r, BASE, conditions) for r in (ranges, limits))
    # The incumbent has no window; of those that have one, the best five lie at the high end.
    rows = [row(0, {METHOD: "ssm"}, 99.0)]
    rows += [
        row(1 + i, {METHOD: "gru", "policy.window": window}, float(window))
        for i, window in enumerate((10, 20, 30, 62, 61, 60, 63, 59))
    ]
    proposal = propose(space, first=space, limits=outer, rows=rows)
    assert [(m.knob, m.kind) for m in proposal.moves] == [("policy.window", "expand")]
    assert proposal.moves[0].trial_ids == tuple(f"t{i:04d}" for i in (4, 5, 6, 7, 8))
    assert proposal.space.ranges["policy.window"] == Int(8, 92)
