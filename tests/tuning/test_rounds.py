"""The rounds of a sweep, played with made-up scores: what each tries, and what is named."""

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmrl.config import KnobValue
from tests.contracts.property_settings import PROPERTY
from tests.tuning.handmade import draw_point
from tuning.box.trust_box import incumbent
from tuning.plan import SweepPlan
from tuning.planned_points import planned_points
from tuning.rounds import (
    CONFIRMATION,
    VERDICT,
    closing_round,
    first_number,
    fresh_rows,
    is_confirmation,
    is_verdict,
    next_round,
    searched_rows,
    winner,
)
from tuning.search.planned_point import PlannedPoint
from tuning.search.searcher import row_name
from tuning.spaces.space import Choice, SearchSpace
from tuning.spaces.space_file import SpaceFile
from tuning.table.ranking import ranking
from tuning.table.round_log import Round
from tuning.table.trial import Trial, TrialState

FEW = settings(PROPERTY, max_examples=10)  # each plays a whole sweep
STATES = (TrialState.COMPLETE,) * 5 + (TrialState.DIVERGED, TrialState.PRUNED)


@dataclass
class Sweep:
    """A sweep whose trials cost nothing: points drawn at random, scores too."""

    plan: SweepPlan
    luck: int
    rows: list[Trial] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    planned: list[list[PlannedPoint]] = field(default_factory=list)

    def play(self) -> Iterator[Round]:
        """The rounds, each with its rows in the table."""
        while (this := next_round(self.plan, self.rounds, self.rows)) is not None:
            points = planned_points(self.plan, this, self.rows)
            before = first_number(self.rows, this)
            rng = np.random.default_rng([self.luck, this.number])
            chosen = [PlannedPoint(draw_point(this.space, rng)) for _ in range(this.num_trials)]
            made = [*points, *chosen[len(points) :]]
            rows = [self._row(before + i, this, made[i], rng) for i in range(this.num_trials)]
            rng.shuffle(rows)  # trials do not end in the order of their numbers
            self.rows += rows
            self.rounds.append(this)
            self.planned.append(points)
            yield this

    def _row(
        self, number: int, this: Round, point: PlannedPoint, rng: np.random.Generator
    ) -> Trial:
        first = self.plan.seed if point.seed is None else point.seed
        state = STATES[rng.integers(len(STATES))]
        scores = tuple(float(x) for x in rng.normal(size=self.plan.seeds_per_trial))
        is_scored = state is not TrialState.DIVERGED
        return Trial(
            row_name(number),
            number,
            state,
            statistics.fmean(scores) if is_scored else None,
            point.knobs,
            reason="" if state is TrialState.COMPLETE else "not to the end",
            round=this.number,
            seeds=tuple(range(first, first + len(scores))),
            seed_scores=scores if is_scored else (),
        )


PLANS = st.builds(
    lambda rounds, size, more, seeds, confirmed, seed: SweepPlan(
        "point",
        algorithm="promp",
        rounds=rounds,
        num_samples=rounds * size + more + confirmed,
        seeds_per_trial=seeds,
        num_confirmed=confirmed,
        seed=seed,
    ),
    st.integers(1, 4),
    st.integers(1, 12),
    st.integers(0, 3),
    st.integers(1, 3),
    st.integers(0, 3),
    st.integers(0, 3),
)
LUCK = st.integers(0, 2**32 - 1)


@FEW
@given(PLANS, LUCK)
def test_the_trials_are_those_of_the_plan_and_their_numbers_are_unique(
    plan: SweepPlan, luck: int
) -> None:
    sweep = Sweep(plan, luck)
    searched = [this for this in sweep.play() if not is_confirmation(plan, this)]
    assert [this.number for this in searched] == list(range(plan.rounds))
    assert [this.num_trials for this in searched] == plan.trials_of_rounds()
    assert sorted(row.number for row in sweep.rows) == list(range(len(sweep.rows)))
    num_kept_back = plan.num_samples - len(searched_rows(plan, sweep.rows))
    num_known = len(ranking(searched_rows(plan, sweep.rows)))
    assert len(sweep.rows) == plan.num_samples - num_kept_back + min(num_kept_back, num_known)
    assert num_kept_back == plan.num_confirmed


@FEW
@given(PLANS, LUCK)
def test_the_best_score_never_falls_and_stays_inside_of_the_space(
    plan: SweepPlan, luck: int
) -> None:
    sweep = Sweep(plan, luck)
    best: list[float] = []
    for this in sweep.play():
        complete = [r.score for r in sweep.rows if r.state is TrialState.COMPLETE]
        best.append(max((score for score in complete if score is not None), default=-np.inf))
        before = incumbent([row for row in sweep.rows if row.round < this.number])
        if before is not None and not is_confirmation(plan, this):
            assert this.space.contains(before.knobs)
        assert plan.limits().covers(this.space)
    assert best == sorted(best)


@FEW
@given(PLANS, LUCK)
def test_later_rounds_begin_with_the_incumbent_and_if_moved_a_fifth_from_the_first_space(
    plan: SweepPlan, luck: int
) -> None:
    sweep = Sweep(plan, luck)
    for this in sweep.play():
        points = sweep.planned[-1]
        before = [row for row in sweep.rows if row.round < this.number]
        if this.number == 0:
            assert [point.knobs for point in points] == [plan.space().default_point()]
        if this.number == 0 or is_confirmation(plan, this):
            continue
        best = incumbent(before)
        drawn = points if best is None else points[1:]
        share = this.num_trials // 5 if this.space != plan.space() else 0
        assert len(drawn) == min(share, this.num_trials - (best is not None))
        assert all(plan.space().contains(point.knobs) for point in drawn)
        if best is not None:
            assert points[0].knobs == best.knobs


@FEW
@given(PLANS, LUCK)
def test_a_planned_repetition_has_seeds_that_the_configuration_never_had(
    plan: SweepPlan, luck: int
) -> None:
    sweep = Sweep(plan, luck)
    for this in sweep.play():
        before = [row for row in sweep.rows if row.round < this.number]
        for point in sweep.planned[-1]:
            used = {s for row in before if row.knobs == point.knobs for s in row.seeds}
            first = plan.seed if point.seed is None else point.seed
            assert used.isdisjoint(range(first, first + plan.seeds_per_trial))


def test_a_point_of_a_small_space_that_is_drawn_again_has_fresh_seeds() -> None:
    """Of four configurations all were tried before: their checkpoints are there."""
    plan = small_plan(
        SweepPlan("point", algorithm="promp", rounds=2, num_samples=40, num_confirmed=0)
    )
    sweep = Sweep(plan, 0)
    next(sweep.play())
    moved = plan.space().replace_ranges({"policy.state_dim": Choice((32, 64, 128))})
    points = planned_points(plan, Round(1, "made up", moved, (), 20), sweep.rows)
    seeds = [point.seed for point in points]
    assert len(seeds) == 5
    assert all(seed is not None and seed > plan.seed for seed in seeds)


def test_what_is_drawn_from_the_first_space_is_where_the_table_says_that_it_is_good() -> None:
    plan = SweepPlan("point", algorithm="promp", rounds=2, num_samples=40, num_confirmed=0)
    space, rng = plan.space(), np.random.default_rng(0)
    (knob, a_range), *_ = ((k, r) for k, r in space.ranges.items() if not isinstance(r, Choice))
    points = [draw_point(space, rng) for _ in range(20)]
    places = [a_range.to_unit(float(point[knob])) for point in points]
    rows = [made(i, points[i], -abs(places[i] - 0.9)) for i in range(20)]
    limit = plan.limits().ranges[knob]
    moved = Round(1, "made up", space.replace_ranges({knob: limit}), (), 100)
    drawn = planned_points(plan, moved, rows)[1:]
    assert len(drawn) == 20
    assert all(space.contains(point.knobs) for point in drawn)
    near = sum(a_range.to_unit(float(point.knobs[knob])) > 0.75 for point in drawn)
    assert near >= 12  # evenly drawn, 5 of 20 would lie there


def small_plan(plan: SweepPlan) -> SweepPlan:
    """The plan on a space of four configurations."""
    space = SearchSpace(
        {"policy.gated": Choice((False, True)), "policy.state_dim": Choice((32, 64))}, plan.base()
    )
    return replace(plan, space_file=SpaceFile(space, space))


@FEW
@given(PLANS, LUCK)
def test_the_next_round_follows_from_the_table_and_the_log_alone(
    plan: SweepPlan, luck: int
) -> None:
    """A resumed sweep has nothing else; nor does it hang on the order in which trials ended."""
    sweep = Sweep(plan, luck)
    rows: list[Trial] = []
    for number, this in enumerate(sweep.play()):
        reread = [Trial.from_json(row.to_json()) for row in sorted(rows, key=lambda r: r.number)]
        again = next_round(SweepPlan.from_json(plan.to_json()), sweep.rounds[:number], reread)
        assert again == this
        assert planned_points(plan, this, reread) == sweep.planned[-1]
        rows = list(sweep.rows)
    assert next_round(plan, sweep.rounds, sweep.rows) is None


@FEW
@given(PLANS, LUCK)
def test_the_best_are_confirmed_with_fresh_seeds_and_those_scores_alone_decide(
    plan: SweepPlan, luck: int
) -> None:
    sweep = Sweep(plan, luck)
    confirming = [this for this in sweep.play() if is_confirmation(plan, this)]
    searched = ranking(searched_rows(plan, sweep.rows))
    named = winner(sweep.rows, plan)
    if not searched:
        assert (confirming, named) == ([], None)
        return
    assert named is not None
    if not plan.num_confirmed:
        assert not confirming
        complete = [row for row in sweep.rows if row.state is TrialState.COMPLETE]
        assert named.score == max(row.score for row in complete if row.score is not None)
        return
    (this,) = confirming
    assert (this.number, this.author) == (plan.rounds, CONFIRMATION)
    best = [ranked.knobs for ranked in searched[: plan.num_confirmed]]
    assert [point.knobs for point in sweep.planned[-1]] == best
    own = [row for row in sweep.rows if row.round == this.number]
    scores = [r.score for r in own if r.state is TrialState.COMPLETE and r.score is not None]
    if scores:
        assert (named.round, named.score) == (this.number, max(scores))
    else:
        assert named.round < this.number


def test_a_lucky_best_loses_to_the_one_that_fresh_seeds_confirm() -> None:
    plan = SweepPlan("point", algorithm="promp", num_samples=6, num_confirmed=2)
    rng = np.random.default_rng(0)
    knobs = [draw_point(plan.space(), rng) for _ in range(4)]
    rows = [made(i, knobs[i], score) for i, score in enumerate((1.0, 9.0, 5.0, 2.0))]
    assert winner(rows, plan) is rows[1]
    this = next_round(plan, [Round(0, "a", plan.space(), (), 4)], rows)
    assert this is not None
    assert [p.knobs for p in planned_points(plan, this, rows)] == [knobs[1], knobs[2]]
    rows += [made(4, knobs[1], 3.0, round=1), made(5, knobs[2], 4.0, round=1)]
    assert winner(rows, plan) is rows[5]


def made(number: int, knobs: Mapping[str, KnobValue], score: float, round: int = 0) -> Trial:
    return Trial(row_name(number), number, TrialState.COMPLETE, score, knobs, round=round)


@pytest.mark.parametrize("num_rounds", [1, 3])
def test_after_a_confirmation_nothing_follows_also_if_the_search_stopped_early(
    num_rounds: int,
) -> None:
    plan = SweepPlan("point", algorithm="promp", rounds=num_rounds, num_samples=12, num_confirmed=1)
    first = Round(0, "a", plan.space(), (), 2)
    rows = [made(i, plan.space().default_point(), float(i)) for i in range(2)]
    confirming = closing_round(plan, [first], rows)
    assert confirming is not None
    assert confirming.number == num_rounds
    assert next_round(plan, [first, confirming], rows) is None


def played(plan: SweepPlan, scores: list[float]) -> tuple[list[Round], list[Trial]]:
    """The searched round of a plan: the default first, then points drawn at random."""
    rng = np.random.default_rng(0)
    points = [plan.space().default_point()]
    points += [draw_point(plan.space(), rng) for _ in scores[1:]]
    rows = [made(i, points[i], score) for i, score in enumerate(scores)]
    return [Round(0, "a", plan.space(), (), len(rows))], rows


def test_winner_and_default_are_trained_with_seeds_that_nothing_used() -> None:
    plan = SweepPlan("point", num_samples=9, num_fresh_seeds=3, seed=5)
    rounds, rows = played(plan, [1.0, 3.0, 2.0])
    this = next_round(plan, rounds, rows)
    assert this is not None
    assert is_verdict(plan, this)
    assert (this.author, this.num_trials) == (VERDICT, 6)
    points = planned_points(plan, this, rows)
    assert [point.knobs for point in points] == [rows[1].knobs] * 3 + [rows[0].knobs] * 3
    assert [point.seed for point in points] == [6, 7, 8] * 2
    rows += [made(3 + i, p.knobs, -float(i), round=this.number) for i, p in enumerate(points)]
    named = winner(rows, plan)
    assert named is rows[3], "what judges the winner neither chooses it nor another"
    assert fresh_rows(rows, plan, named.knobs) == rows[3:6]
    assert next_round(plan, [*rounds, this], rows) is None


def test_where_the_winner_is_the_default_its_seeds_are_trained_once() -> None:
    plan = SweepPlan("point", num_samples=9, num_fresh_seeds=3)
    rounds, rows = played(plan, [9.0, 3.0, 2.0])
    this = next_round(plan, rounds, rows)
    assert this is not None
    assert [p.knobs for p in planned_points(plan, this, rows)] == [rows[0].knobs] * 3


def test_seeds_that_confirmed_a_winner_do_not_judge_it() -> None:
    plan = SweepPlan("point", num_samples=9, num_confirmed=2, num_fresh_seeds=2)
    rounds, rows = played(plan, [1.0, 3.0, 2.0])
    confirming = next_round(plan, rounds, rows)
    assert confirming is not None
    assert (confirming.number, confirming.num_trials) == (1, 2)
    rows += [made(3, rows[1].knobs, 0.0, round=1), made(4, rows[2].knobs, 4.0, round=1)]
    this = next_round(plan, [*rounds, confirming], rows)
    assert this is not None
    points = planned_points(plan, this, rows)
    assert [point.knobs for point in points] == [rows[2].knobs] * 2 + [rows[0].knobs] * 2
    assert [point.seed for point in points] == [2, 3, 1, 2]
    assert fresh_rows(rows, plan, rows[2].knobs) == []
