"""The rounds of a sweep, each by hand: which follows, where it searches, and what is judged."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from ssmrl.config import KnobValue
from tests.tuning.handmade import draw_point
from tuning.plan import SweepPlan
from tuning.rounds import (
    CONFIRMATION,
    FIRST,
    TRUST_BOX,
    VERDICT,
    closing_round,
    first_number,
    fresh_rows,
    further_verdict,
    is_unconfirmed,
    judged_points,
    next_round,
    num_verdicts,
    searched_rows,
    winner,
)
from tuning.spaces.ranges import Float
from tuning.table.round_log import Round
from tuning.table.trial import Trial, TrialState

KNOB = "meta.inner_lr"
PLAN = SweepPlan(
    "point", algorithm="promp", rounds=4, num_samples=18, num_confirmed=1, num_fresh_seeds=0
)
JUDGED = SweepPlan(
    "point", algorithm="promp", rounds=4, num_samples=18, num_confirmed=0, num_fresh_seeds=3
)
DEFAULT = PLAN.space().default_point()
BETTER = draw_point(PLAN.space(), np.random.default_rng(0))
WORSE = draw_point(PLAN.space(), np.random.default_rng(1))
SPACES = [
    PLAN.space().replace_ranges({KNOB: Float(low, 1.0, log=True)}) for low in (0.01, 0.02, 0.03)
]


def made(
    number: int,
    score: float = 0.0,
    knobs: Mapping[str, KnobValue] = BETTER,
    *,
    round: int = 0,
    state: TrialState = TrialState.COMPLETE,
    **more: Any,
) -> Trial:
    is_complete = state is TrialState.COMPLETE
    reason = "" if is_complete else "a number is not finite"
    name, own = f"t{number:04d}", score if is_complete else None
    return Trial(name, number, state, own, knobs, reason=reason, round=round, **more)


def searched(num_rounds: int) -> list[Round]:
    """The first rounds of a sweep, none in the space of another."""
    return [Round(number, "a", SPACES[number], (), 4) for number in range(num_rounds)]


# ------------------------------------------------------------------------ which round follows


def test_a_sweep_begins_where_its_plan_says() -> None:
    size = PLAN.trials_of_rounds()[0]
    assert next_round(PLAN, [], []) == Round(0, FIRST, PLAN.space(), (), size)


@pytest.mark.parametrize("num_rounds", [1, 2, 3])
def test_where_nothing_speaks_for_a_move_a_round_searches_where_the_last_one_did(
    num_rounds: int,
) -> None:
    """None of those before it, which it has left."""
    following = next_round(PLAN, searched(num_rounds), [])
    size = PLAN.trials_of_rounds()[num_rounds]
    assert following == Round(num_rounds, TRUST_BOX, SPACES[num_rounds - 1], (), size)


def test_a_round_moves_towards_what_the_searched_rows_say_is_good() -> None:
    """The best lies at the upper end of the range."""
    a_range = PLAN.space().ranges[KNOB]
    assert isinstance(a_range, Float)
    places = [0.1, 0.3, 0.5, 0.9, 0.97, 0.98, 0.99, 1.0]
    points = [DEFAULT | {KNOB: a_range.from_unit(place)} for place in places]
    rows = [made(number, float(number), point) for number, point in enumerate(points)]
    following = next_round(PLAN, searched(1), rows)
    assert following is not None
    assert [move.kind for move in following.moves if move.knob == KNOB] == ["expand"]
    moved = following.space.ranges[KNOB]
    assert isinstance(moved, Float)
    assert moved.high > a_range.high
    assert PLAN.limits().covers(following.space)


@pytest.mark.parametrize("num_rounds", [1, 2, 3])
@pytest.mark.parametrize("plan", [PLAN, JUDGED])
def test_a_search_that_is_over_early_is_closed_once_in_its_last_space(
    plan: SweepPlan, num_rounds: int
) -> None:
    rows = [made(0, 1.0, DEFAULT), made(1, 2.0)]
    earlier = searched(num_rounds)
    closing = closing_round(plan, earlier, rows)
    number, author, size = (4, CONFIRMATION, 1) if plan is PLAN else (5, VERDICT, 6)
    assert closing == Round(number, author, SPACES[num_rounds - 1], (), size)
    assert next_round(plan, [*earlier, closing], rows) is None


def test_a_further_verdict_is_logged_with_the_space_of_the_last_round() -> None:
    rows = [made(0, 1.0, DEFAULT), made(1, 2.0)]
    for num_rounds in (1, 2, 3):
        further = further_verdict(JUDGED, searched(num_rounds), rows)
        assert further == Round(5, VERDICT, SPACES[num_rounds - 1], (), 6)


# --------------------------------------------------------------------- what a verdict is asked


def verdict_rows(num_better: int, num_default: int) -> list[Trial]:
    """Two rows that searched, then fresh seeds of both, as many as completed."""
    rows = [made(0, 1.0, DEFAULT), made(1, 2.0)]
    for knobs, number in ((BETTER, num_better), (DEFAULT, num_default)):
        rows += [made(len(rows) + i, 0.0, knobs, round=5) for i in range(number)]
        if not number:
            rows.append(made(len(rows), knobs=knobs, round=5, state=TrialState.DIVERGED))
    return rows


@pytest.mark.parametrize(("num_better", "num_default"), [(3, 0), (0, 3), (0, 0)])
def test_no_more_seeds_are_trained_where_the_last_ones_gave_one_side_nothing(
    num_better: int, num_default: int
) -> None:
    earlier = [*searched(1), Round(5, VERDICT, SPACES[0], (), 6)]
    assert further_verdict(JUDGED, earlier, verdict_rows(num_better, num_default)) is None


@pytest.mark.parametrize(("num_better", "num_default"), [(4, 5), (5, 4), (4, 4)])
def test_both_sides_get_as_many_seeds_again_as_the_one_that_has_fewer(
    num_better: int, num_default: int
) -> None:
    earlier = [*searched(1), Round(5, VERDICT, SPACES[0], (), 6)]
    further = further_verdict(JUDGED, earlier, verdict_rows(num_better, num_default))
    assert further is not None
    assert (further.number, further.num_trials) == (6, 8)


LOST = TrialState.DIVERGED
DONE = TrialState.COMPLETE


@pytest.mark.parametrize(
    ("rows", "is_lost"),
    [
        ([], False),
        ([(BETTER, 4, LOST)], False),  # that one was to confirm
        ([(BETTER, 5, LOST)], True),
        ([(BETTER, 5, LOST), (BETTER, 5, DONE)], False),
        ([(BETTER, 5, DONE), (BETTER, 6, LOST)], False),
        ([(BETTER, 5, LOST), (BETTER, 6, LOST), (DEFAULT, 5, DONE)], True),
        ([(BETTER, 5, DONE), (DEFAULT, 5, LOST)], False),
        ([(DEFAULT, 5, LOST)], False),
    ],
)
def test_a_winner_is_unconfirmed_if_it_was_trained_to_be_judged_and_never_to_the_end(
    rows: list[tuple[dict[str, KnobValue], int, TrialState]], is_lost: bool
) -> None:
    best = made(1, 2.0)
    own = [
        made(2 + i, knobs=knobs, round=number, state=state)
        for i, (knobs, number, state) in enumerate(rows)
    ]
    assert is_unconfirmed([made(0, 1.0, DEFAULT), best, *own], JUDGED, best) == is_lost


def test_a_confirmation_is_no_verdict_but_counts_until_there_is_one() -> None:
    rows = [made(0), made(5, round=4), made(4, round=4), made(3, knobs=WORSE, round=4)]
    rows.append(made(6, round=4, state=LOST))
    assert num_verdicts(PLAN, rows) == 0
    assert [row.number for row in fresh_rows(rows, PLAN, BETTER)] == [4, 5]
    rows += [made(9, round=6), made(8, round=5), made(7, round=5, state=LOST)]
    assert num_verdicts(PLAN, rows) == 2
    assert [row.number for row in fresh_rows(rows, PLAN, BETTER)] == [8, 9]


# --------------------------------------------------------------------- who wins, and numbers


@pytest.mark.parametrize(
    ("scores", "place"),
    [((0.0, 0.5), 1), ((0.5, 0.0), 0), ((-0.5, 0.0), 1), ((0.0, -0.5), 0), ((-2.0, -1.0), 1)],
)
def test_a_score_of_0_is_a_score_like_any_other(scores: tuple[float, float], place: int) -> None:
    rows = [made(0, scores[0], WORSE), made(1, scores[1])]
    assert winner(rows, PLAN) is rows[place]


def test_of_equal_scores_the_one_tried_first_wins_in_whatever_order_they_ended() -> None:
    first, second = made(0, 1.0, WORSE), made(1, 1.0)
    assert winner([first, second], PLAN) is first
    assert winner([second, first], PLAN) is first


def test_where_nothing_completed_nobody_wins_and_nothing_is_judged() -> None:
    rows = [made(0, state=LOST)]
    assert winner(rows, JUDGED) is None
    assert judged_points(JUDGED, rows) == []
    assert closing_round(JUDGED, searched(1), rows) is None


def test_numbers_go_on_behind_the_rounds_before_whatever_has_ended_of_the_later_ones() -> None:
    rows = [made(3), made(0), made(5, round=1), made(4, round=1), made(9, round=2)]
    rounds = [Round(number, "a", SPACES[0], (), 4) for number in range(4)]
    assert [first_number(rows, this) for this in rounds] == [0, 4, 6, 10]
    assert first_number([], rounds[2]) == 0
    assert first_number(rows[-1:], rounds[1]) == 0


def test_what_confirms_or_judges_has_not_searched() -> None:
    rows = [made(number, round=number) for number in range(7)]
    assert searched_rows(PLAN, rows) == rows[:4]
