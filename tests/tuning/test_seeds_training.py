"""The runs of a trial together, each run a script that trains nothing."""

from statistics import fmean
from typing import Any, ClassVar

import pytest

import tuning.training as training_module
from ssmrl.config import TrainConfig
from tuning.training import SeedsTraining

BASE = TrainConfig.for_task("point", "promp").with_knobs({"seed": 4})
NUM_ITERATIONS = 4
STEPS = 100  # of an iteration


class ScriptedRun:
    """A run whose returns follow from its seed; judged after every second iteration."""

    made: ClassVar[list["ScriptedRun"]] = []
    head_start: ClassVar[dict[int, int]] = {}
    diverging: ClassVar[int | None] = None

    def __init__(self, config: TrainConfig, *, max_env_steps: int) -> None:
        self.config, self.is_closed = config, False
        self.iteration = self.head_start.get(config.seed, 0)
        assert max_env_steps == NUM_ITERATIONS * STEPS
        self.made.append(self)

    def advance(self) -> dict[str, Any]:
        self.iteration = min(self.iteration + 1, NUM_ITERATIONS)
        seed = self.config.seed
        curve = [[i * STEPS, -seed, i + seed] for i in range(2, self.iteration + 1, 2)]
        is_last = self.iteration == NUM_ITERATIONS
        result = {
            "iterations": self.iteration,
            "env_steps": self.iteration * STEPS,
            "seconds": float(seed),
            "finished": is_last,
            "diverged": seed == self.diverging and self.iteration == 2,
            "reason": "a loss is nan",
            "received": self.config.knobs(),
            "curve": curve,
        }
        if curve:
            returns = {"0": -seed, "1": curve[-1][2]} | ({"3": 10.0 * seed} if is_last else {})
            result |= {"score": curve[-1][2], "interval": [0.0, 1.0], "returns": returns}
        return result

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture(autouse=True)
def runs(monkeypatch: pytest.MonkeyPatch) -> list[ScriptedRun]:
    monkeypatch.setattr(ScriptedRun, "made", [])
    monkeypatch.setattr(ScriptedRun, "head_start", {})
    monkeypatch.setattr(ScriptedRun, "diverging", None)
    monkeypatch.setattr(training_module, "TrialTraining", ScriptedRun)
    return ScriptedRun.made


def seeds_training(num_seeds: int) -> SeedsTraining:
    return SeedsTraining(BASE, num_seeds, max_env_steps=NUM_ITERATIONS * STEPS)


def test_runs_differ_in_their_seeds_alone_and_keep_step(runs: list[ScriptedRun]) -> None:
    training = seeds_training(3)
    assert [run.config.seed for run in runs] == [4, 5, 6]
    assert {run.config.with_knobs({"seed": 0}) for run in runs} == {BASE.with_knobs({"seed": 0})}
    for iteration in range(1, NUM_ITERATIONS + 1):
        result = training.advance()
        assert [run.iteration for run in runs] == [iteration] * 3
        assert result["finished"] == (iteration == NUM_ITERATIONS)
        assert result["received"] == BASE.knobs()  # the first run's, so the base's own seed
    training.close()
    assert all(run.is_closed for run in runs)


def test_scores_are_means_and_steps_are_counted_once_for_the_scheduler() -> None:
    training = seeds_training(3)
    results = [training.advance() for _ in range(NUM_ITERATIONS)]
    assert "score" not in results[0]  # Tune's scheduler must not see a score before there is one
    last = results[-1]
    assert (last["env_steps"], last["all_env_steps"]) == (400, 1200)
    assert last["seconds"] == 4 + 5 + 6
    assert last["seeds"] == [4, 5, 6]
    assert last["seed_scores"] == [8, 9, 10]
    assert last["score"] == fmean(last["seed_scores"]) == 9
    assert last["curve"] == [[200, -5, 7], [400, -5, 9]]
    assert last["returns"] == {"0": -5, "1": 9, "3": 50.0}
    assert last["interval"] is None  # the tasks' interval of one run is none of three


def test_one_run_is_passed_on_as_it_is() -> None:
    training = seeds_training(1)
    results = [training.advance() for _ in range(NUM_ITERATIONS)]
    alone = ScriptedRun(BASE, max_env_steps=NUM_ITERATIONS * STEPS)
    expected = [alone.advance() for _ in range(NUM_ITERATIONS)]
    for result, wanted in zip(results, expected, strict=True):
        assert {name: result[name] for name in wanted} == wanted
    assert results[-1]["interval"] == [0.0, 1.0]


def test_a_trial_diverges_with_any_of_its_runs_and_names_the_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ScriptedRun, "diverging", 5)
    training = seeds_training(3)
    assert not training.advance()["diverged"]
    result = training.advance()
    assert result["diverged"]
    assert result["reason"] == "seed 5: a loss is nan"


def test_a_run_that_a_killed_worker_left_further_waits_for_the_others(
    monkeypatch: pytest.MonkeyPatch, runs: list[ScriptedRun]
) -> None:
    monkeypatch.setattr(ScriptedRun, "head_start", {5: 3})
    training = seeds_training(2)
    first = training.advance()
    assert [run.iteration for run in runs] == [1, 4]
    assert "score" not in first
    assert (first["finished"], first["env_steps"], first["curve"]) == (False, 100, [])
    second = training.advance()
    assert second["curve"] == [[200, -4.5, 6.5]]  # both judged at the same stage
    assert second["seed_scores"] == [6, 7]
    training.advance()
    last = training.advance()
    assert last["finished"]
    assert last["seed_scores"] == [8, 9]
