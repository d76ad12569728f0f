"""The runs of a trial as one stack: each becomes what it becomes alone, and the trial with it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import tuning.training as training_module
from cluster.metrics import RunName
from ssmrl.config import TrainConfig
from ssmrl.context.learner import ContextLearner
from ssmrl.context.stacked_learner import StackedLearner
from ssmrl.device_memory import DeviceMemoryError
from ssmrl.meta.algorithms import ALGORITHMS
from ssmrl.run import Row, TrainingRun
from ssmrl.stacked_runs import StackedRuns
from tests.ssmrl.context.small_context import small_context
from tests.ssmrl.fake_algorithm import LEANING
from tests.tuning.full_device import FULL
from tuning.experience_memory import replay_need
from tuning.seeds_row import SeedsRow
from tuning.training import MetaTraining, Resources, SeedsTraining

BUDGET = 4 * 40  # four iterations, each with an evaluation
TOLERANCE = 1e-4
"""Of returns, relative: float32 rounds otherwise where products are batched."""


def config(**knobs: Any) -> TrainConfig:
    return small_context(**({"seed": 4, "meta.random_env_steps": 80} | knobs))


def trial(folder: Path, num_seeds: int = 3, name: RunName | None = None) -> SeedsTraining:
    return SeedsTraining(config(), num_seeds, max_env_steps=BUDGET, folder=folder, name=name)


def runs_of(training: SeedsTraining) -> list[TrainingRun]:
    return list(training._runs.runs)


def finish(training: SeedsTraining) -> SeedsRow:
    while not (row := training.advance()).finished:
        assert not row.diverged
    training.close()
    return row


def alone(seed: int, folder: Path, max_iterations: int = 4) -> Row:
    run = TrainingRun(config(seed=seed), max_env_steps=BUDGET, folder=folder)
    for _ in range(max_iterations):
        if not run.row.finished:
            run.advance()
    run.close()
    return run.row


def break_critic(run: TrainingRun) -> None:
    learner = run._engine.learner
    assert isinstance(learner, ContextLearner)
    with torch.no_grad():
        learner.networks.critic.flat.fill_(math.nan)


def test_a_trial_of_several_seeds_is_a_stack_whose_row_is_that_of_each_alone(
    tmp_path: Path,
) -> None:
    training = trial(tmp_path / "stack")
    assert isinstance(training._runs, StackedRuns)
    row = finish(training)
    singles = [alone(seed, tmp_path / "alone") for seed in (4, 5, 6)]
    wanted = SeedsRow.of(singles, (4, 5, 6), BUDGET, 4)
    for name in ("env_steps", "all_env_steps", "iterations", "seeds", "received", "judged_at"):
        assert getattr(row, name) == getattr(wanted, name), name
    assert row.seed_scores == pytest.approx(wanted.seed_scores, rel=TOLERANCE)
    assert row.returns == pytest.approx(dict(wanted.returns), rel=TOLERANCE)
    assert len(row.curve) == len(wanted.curve) == 4
    for point, other in zip(row.curve, wanted.curve, strict=True):
        assert point == pytest.approx(other, rel=TOLERANCE)
    assert len(set(row.seed_scores)) == 3, "seeds differ"


def test_only_what_can_be_stacked_and_learns_in_this_process_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The table of algorithms says what can; an own algorithm that says nothing cannot."""
    monkeypatch.setitem(ALGORITHMS, LEANING.name, LEANING)
    here, stacked = Resources(), training_module._is_stacked
    assert stacked(config(), 2, here)
    assert not stacked(config(), 1, here)
    assert not stacked(config(**{"meta.num_inner_steps": 1}), 2, here)
    assert not stacked(config(), 2, here._replace(num_env_runners=1))
    assert not stacked(config(), 2, here._replace(num_learners=1))
    for name in ALGORITHMS.keys() - {config().algorithm}:
        assert not stacked(TrainConfig.for_task("point", name), 2, here), name


def test_seeds_with_gradient_steps_in_the_memory_are_trained_one_after_another(
    tmp_path: Path,
) -> None:
    """They are searched for, so a sweep has trials of both kinds."""
    stepping = config(**{"meta.num_inner_steps": 1})
    training = SeedsTraining(stepping, 2, max_env_steps=40, folder=tmp_path)
    row = training.advance()
    assert row.finished
    assert len(row.seed_scores) == 2


def test_checkpoints_of_seeds_alone_go_on_in_a_stack_and_the_other_way_round(
    tmp_path: Path,
) -> None:
    """As after kills that hit each seed elsewhere: who is ahead waits for the others."""
    undisturbed = finish(trial(tmp_path / "undisturbed"))
    alone(5, tmp_path / "killed", max_iterations=2)
    alone(6, tmp_path / "killed", max_iterations=1)
    training = trial(tmp_path / "killed")
    assert [run.row.iterations for run in runs_of(training)] == [0, 2, 1]
    for _ in range(2):
        row = training.advance()
    assert [run.row.iterations for run in runs_of(training)] == [2, 2, 2]
    assert not row.finished
    training.close()
    last = alone(5, tmp_path / "killed")
    assert last.finished
    row = finish(trial(tmp_path / "killed"))
    assert row.seed_scores == pytest.approx(undisturbed.seed_scores, rel=TOLERANCE)


def test_a_seed_that_diverges_is_named_and_the_others_are_kept_as_they_are_alone(
    tmp_path: Path,
) -> None:
    training = trial(tmp_path / "stack")
    training.advance()
    training.advance()
    break_critic(runs_of(training)[1])
    row = training.advance()
    assert row.diverged
    assert row.reason.startswith("seed 5: ")
    assert "critic_loss" in row.reason
    assert row.score is None
    training.close()
    for seed in (4, 6):
        went_on = alone(seed, tmp_path / "stack", max_iterations=0)
        assert went_on.iterations == 3
        went_on = alone(seed, tmp_path / "stack")
        assert went_on.score == pytest.approx(alone(seed, tmp_path / "alone").score, rel=TOLERANCE)


class Told:
    """In place of the metrics of a run: what they were told."""

    all: dict[int, list[tuple[int, float]]]

    def __init__(self, name: RunName) -> None:
        self._told = self.all.setdefault(name.seed, [])

    def iteration(
        self,
        results: Mapping[str, Any],
        *,
        training_seconds: float,
        evaluating_seconds: float = 0.0,
    ) -> None:
        steps = results["num_env_steps_sampled_lifetime"]
        self._told.append((steps, training_seconds + evaluating_seconds))


def test_each_iteration_of_each_seed_is_told_once_with_its_share_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also that of a seed which waits while others catch up."""
    monkeypatch.setattr(Told, "all", {}, raising=False)
    monkeypatch.setattr(training_module, "RunMetrics", Told)
    alone(5, tmp_path, max_iterations=1)
    training = trial(tmp_path, name=RunName("a", "t0000", 4))
    start = {run.row.received["seed"]: run.row.seconds for run in runs_of(training)}
    row = finish(training)
    told = {seed: [steps for steps, _ in each] for seed, each in Told.all.items()}
    assert told == {4: [40, 80, 120, 160], 5: [40, 80, 120], 6: [40, 80, 120, 160]}
    seconds = {seed: sum(each for _, each in told) for seed, told in Told.all.items()}
    rows = {run.row.received["seed"]: run.row.seconds for run in runs_of(training)}
    for seed, spent in seconds.items():
        assert spent == pytest.approx(rows[seed] - start[seed], rel=1e-6), seed
    assert row.seconds == pytest.approx(sum(rows.values()))


def test_a_stack_keeps_no_more_experience_than_the_memory_checks_reckon_with() -> None:
    kept = StackedLearner([config(seed=seed) for seed in range(3)])._replay._tensors
    assert sum(tensor.nbytes for tensor in kept.values()) == 3 * replay_need(config())


@pytest.mark.parametrize("num_iterations", [0, 1])
def test_a_stack_without_room_fails_with_the_reason(
    num_iterations: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = object.__new__(MetaTraining)
    training._trial_info = None
    settings = {"sweep": "a", "base": config(), "max_env_steps": BUDGET, "folder": tmp_path}
    training.setup({}, num_seeds=2, **settings)
    results = [training.step() for _ in range(num_iterations)]

    def full(*arguments: Any) -> None:
        raise torch.OutOfMemoryError(FULL)

    monkeypatch.setattr(StackedLearner, "_learn", full)
    results.append(training.step())
    assert [result["out_of_memory"] for result in results] == [False] * num_iterations + [True]
    assert "2.50 GiB more were wanted" in results[-1]["reason"]
    assert results[-1]["done"]
    assert not list(tmp_path.rglob("*.safetensors")), "what it had in hand is not kept"


def test_a_stack_for_which_there_is_no_room_from_the_start_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise torch.OutOfMemoryError(FULL)

    monkeypatch.setattr(StackedLearner, "_made", full)
    with pytest.raises(DeviceMemoryError, match=r"2\.50 GiB more were wanted"):
        trial(tmp_path)
