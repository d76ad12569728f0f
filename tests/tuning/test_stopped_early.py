"""What was stopped early is remembered by what the scheduler compared it at, and by no more.

Iterations differ in length as soon as a searched knob changes them: lanes, tasks, gradient steps.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState as StudyState
from ray.tune.schedulers import TrialScheduler

from ssmrl.run import NUM_EVALUATIONS, Row
from tests.tuning.test_scheduler import FakeTrial
from tests.tuning.test_search import SPACE, reopened, searcher
from tuning.scheduler import make_scheduler
from tuning.search.planned_point import PlannedPoint
from tuning.search.samplers import _rank
from tuning.search.searcher import StudySearcher, row_name
from tuning.seeds_row import SeedsRow
from tuning.table.ranking import ranking
from tuning.table.trial import Trial, TrialState, TrialTable

BUDGET = 8000
KNOBS = [SPACE.default_point() | {"policy.state_dim": 8 * n} for n in range(1, 8)]
BEST = {1: 10.0, 2: 10.0, 3: 10.0, 4: 10.0}
"""A score by the quarters of the budget that were passed."""


def rows_of(iteration: int, scores: Mapping[int, float]) -> Iterator[SeedsRow]:
    """What a trial says after each iteration of so many env steps, judged as a run is."""
    judged: int = 0
    curve: tuple[tuple[int, float, float], ...] = ()
    for end in range(iteration, BUDGET + iteration, iteration):
        due = min(NUM_EVALUATIONS, NUM_EVALUATIONS * end // BUDGET)
        if due > judged:
            judged, curve = due, (*curve, (end, 0.0, scores[due]))
        row = Row(
            env_steps=end,
            iterations=end // iteration,
            finished=end >= BUDGET,
            curve=curve,
            score=curve[-1][2] if curve else None,
        )
        yield SeedsRow.of([row], [0], BUDGET, NUM_EVALUATIONS)


class Sweep:
    """Trials one after another, as Tune makes them: scheduler and searcher are the real ones."""

    def __init__(self, folder: Path) -> None:
        points = [PlannedPoint(knobs) for knobs in KNOBS]
        self.search: StudySearcher = searcher(folder, initial_points=points)
        self.scheduler: Any = make_scheduler("asha", max_steps=BUDGET)
        self.rows: list[Trial] = []

    def make(self, iteration: int, scores: Mapping[int, float]) -> Trial:
        """Train the next point until it is stopped or has spent its budget."""
        number = len(self.rows)
        trial = FakeTrial(f"x{number}")
        self.scheduler.on_trial_add(None, trial)
        knobs = self.search.suggest(trial.trial_id)
        for row in rows_of(iteration, scores):
            told: dict[str, Any] = {**row.to_result(), "training_iteration": row.iterations}
            decision = TrialScheduler.CONTINUE
            if "score" in told:
                decision = self.scheduler.on_trial_result(None, trial, told)
            if row.finished or decision == TrialScheduler.STOP:
                break
            self.search.on_trial_result(trial.trial_id, told)
        self.search.on_trial_complete(trial.trial_id, told)
        self.rows.append(
            Trial(
                row_name(number),
                number,
                TrialState.COMPLETE if row.finished else TrialState.PRUNED,
                row.score,
                knobs,
                env_steps=row.env_steps,
                curve=row.curve,
                reason="" if row.finished else "stopped by the scheduler",
                judged_at=row.judged_at,
            )
        )
        return self.rows[-1]


@pytest.mark.parametrize("long", [2500, 3000, 3500, 7000])
def test_a_worse_trial_of_long_iterations_never_ranks_above_a_better_one(
    tmp_path: Path, long: int
) -> None:
    """Both are stopped where half of the budget is compared; one has passed three quarters."""
    sweep = Sweep(tmp_path)
    sweep.make(1000, BEST)
    better = sweep.make(1000, {1: 20.0, 2: 8.0})
    worse = sweep.make(long, {1: 20.0, 2: 7.0, 3: 7.0})
    assert (better.state, worse.state) == (TrialState.PRUNED, TrialState.PRUNED)
    assert worse.env_steps > better.env_steps
    assert worse.judged_at == better.judged_at == BUDGET // 2
    for study in (reopened(tmp_path).trials, imported(tmp_path, sweep.rows)):
        stopped = [trial for trial in study if trial.state is StudyState.PRUNED]
        assert [trial.value for trial in sorted(stopped, key=_rank)] == [8.0, 7.0]


def imported(folder: Path, rows: list[Trial]) -> Any:
    """What a later round learns from the table."""
    search = searcher(
        folder, storage_path=folder / "later.log", imports=rows, first_number=len(rows)
    )
    return search.study.trials


@pytest.mark.parametrize("long", [1000, 3000, 5000, 7000, 8000])
def test_who_spends_the_budget_is_complete_however_long_an_iteration_is(
    tmp_path: Path, long: int
) -> None:
    """And whoever does not is neither in the ranking nor the best, be the score ever so high."""
    table = TrialTable(tmp_path / "trials.jsonl")
    spent = Sweep(tmp_path).make(long, BEST)
    lucky = Trial(row_name(9), 9, TrialState.PRUNED, 99.0, KNOBS[6], reason="stopped")
    assert spent.state is TrialState.COMPLETE
    assert spent.judged_at == BUDGET
    for row in (lucky, spent):
        table.append(row)
    assert [ranked.trial_ids for ranked in ranking(table.rows)] == [(spent.trial_id,)]
    best = table.best()
    assert best is not None
    assert best.trial_id == spent.trial_id


@pytest.mark.parametrize("long", [500, 1600, 3000, 7000])
def test_a_score_stands_for_where_the_scheduler_compared_it(tmp_path: Path, long: int) -> None:
    sweep = Sweep(tmp_path)
    sweep.make(500, BEST)
    stopped = sweep.make(long, {1: 11.0, 2: 9.0, 3: 9.0})
    assert (stopped.state, stopped.judged_at) == (TrialState.PRUNED, BUDGET // 2)
