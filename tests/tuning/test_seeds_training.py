"""The runs of a trial together, each run a script that trains nothing."""

from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

import pytest

import tuning.training as training_module
from ssmrl.config import TrainConfig
from ssmrl.run import LocalEngine, Row
from tuning.training import SeedsTraining

BASE = TrainConfig.for_task("point", "promp").with_knobs({"seed": 4})
NUM_ITERATIONS = 4
STEPS = 100  # of an iteration
NO_FOLDER = Path("nowhere")


class ScriptedRun:
    """A run whose returns follow from its seed; judged after every second iteration."""

    made: ClassVar[list["ScriptedRun"]] = []
    head_start: ClassVar[dict[int, int]] = {}
    diverging: ClassVar[int | None] = None

    def __init__(
        self, config: TrainConfig, *, max_env_steps: int, folder: Path, engine: Any = None
    ) -> None:
        self.config, self.is_closed, self.row = config, False, Row()
        self.iteration = self.head_start.get(config.seed, 0)
        assert max_env_steps == NUM_ITERATIONS * STEPS
        assert folder == NO_FOLDER
        self.made.append(self)

    def advance(self) -> Row:
        self.iteration = min(self.iteration + 1, NUM_ITERATIONS)
        seed = self.config.seed
        curve = tuple(
            (i * STEPS, float(-seed), float(i + seed)) for i in range(2, self.iteration + 1, 2)
        )
        is_last = self.iteration == NUM_ITERATIONS
        returns = {"0": float(-seed), "1": curve[-1][2]} if curve else {}
        self.row = Row(
            env_steps=self.iteration * STEPS,
            iterations=self.iteration,
            seconds=float(seed),
            finished=is_last,
            diverged=seed == self.diverging and self.iteration == 2,
            reason="a loss is nan",
            received=self.config.knobs(),
            curve=curve,
            score=curve[-1][2] if curve else None,
            interval=(0.0, 1.0) if curve else None,
            returns=returns | ({"3": 10.0 * seed} if is_last else {}),
        )
        return self.row

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture(autouse=True)
def runs(monkeypatch: pytest.MonkeyPatch) -> list[ScriptedRun]:
    monkeypatch.setattr(ScriptedRun, "made", [])
    monkeypatch.setattr(ScriptedRun, "head_start", {})
    monkeypatch.setattr(ScriptedRun, "diverging", None)
    monkeypatch.setattr(training_module, "TrainingRun", ScriptedRun)
    return ScriptedRun.made


def seeds_training(num_seeds: int) -> SeedsTraining:
    return SeedsTraining(BASE, num_seeds, max_env_steps=NUM_ITERATIONS * STEPS, folder=NO_FOLDER)


def test_runs_differ_in_their_seeds_alone_and_keep_step(runs: list[ScriptedRun]) -> None:
    training = seeds_training(3)
    assert [run.config.seed for run in runs] == [4, 5, 6]
    assert {run.config.with_knobs({"seed": 0}) for run in runs} == {BASE.with_knobs({"seed": 0})}
    for iteration in range(1, NUM_ITERATIONS + 1):
        result = training.advance()
        assert [run.iteration for run in runs] == [iteration] * 3
        assert result.finished == (iteration == NUM_ITERATIONS)
        assert result.received == BASE.knobs()  # the first run's, so the base's own seed
    training.close()
    assert all(run.is_closed for run in runs)


def test_scores_are_means_and_steps_are_counted_once_for_the_scheduler() -> None:
    training = seeds_training(3)
    results = [training.advance() for _ in range(NUM_ITERATIONS)]
    assert (
        "score" not in results[0].to_result()
    )  # Tune's scheduler must not see a score before there is one
    last = results[-1]
    assert (last.env_steps, last.all_env_steps) == (400, 1200)
    assert last.seconds == 4 + 5 + 6
    assert last.seeds == (4, 5, 6)
    assert last.seed_scores == (8, 9, 10)
    assert last.score == fmean(last.seed_scores) == 9
    assert last.curve == ((200, -5, 7), (400, -5, 9))
    assert (results[1].judged_at, results[2].judged_at, last.judged_at) == (200, 200, 400)
    assert last.returns == {"0": -5, "1": 9, "3": 50.0}
    assert last.interval is None  # the tasks' interval of one run is none of three


def test_one_run_is_passed_on_as_it_is() -> None:
    training = seeds_training(1)
    results = [training.advance() for _ in range(NUM_ITERATIONS)]
    alone = ScriptedRun(BASE, max_env_steps=NUM_ITERATIONS * STEPS, folder=NO_FOLDER)
    expected = [alone.advance() for _ in range(NUM_ITERATIONS)]
    names = ("env_steps", "iterations", "seconds", "finished", "received", "curve", "score")
    for result, wanted in zip(results, expected, strict=True):
        assert [getattr(result, name) for name in names] == [getattr(wanted, n) for n in names]
    assert results[-1].interval == (0.0, 1.0)
    assert results[-1].returns == expected[-1].returns


def test_a_trial_diverges_with_any_of_its_runs_and_names_the_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ScriptedRun, "diverging", 5)
    training = seeds_training(3)
    assert not training.advance().diverged
    result = training.advance()
    assert result.diverged
    assert result.reason == "seed 5: a loss is nan"


def test_a_run_that_a_killed_worker_left_further_waits_for_the_others(
    monkeypatch: pytest.MonkeyPatch, runs: list[ScriptedRun]
) -> None:
    monkeypatch.setattr(ScriptedRun, "head_start", {5: 3})
    training = seeds_training(2)
    first = training.advance()
    assert [run.iteration for run in runs] == [1, 4]
    assert first.score is None
    assert (first.finished, first.env_steps, first.curve) == (False, 100, ())
    second = training.advance()
    assert second.curve == ((200, -4.5, 6.5),)  # both judged at the same stage
    assert second.seed_scores == (6, 7)
    training.advance()
    last = training.advance()
    assert last.finished
    assert last.seed_scores == (8, 9)


def test_a_score_counts_as_of_the_share_of_the_budget_that_it_stands_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Iterations of another length end elsewhere, and still are judged for the same share."""
    training = seeds_training(1)
    monkeypatch.setattr(training, "_max_env_steps", 390)
    assert [training.advance().judged_at for _ in range(4)] == [0, 195, 195, 390]


def test_without_remote_runners_no_algorithm_of_rllib_is_built() -> None:
    engine = training_module._engine(BASE, "", training_module.Resources())
    assert type(engine) is LocalEngine
