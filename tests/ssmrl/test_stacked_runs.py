"""Runs of several seeds that learn together against each of them alone."""

import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from ssmrl.checkpoint import Checkpoint
from ssmrl.config import TrainConfig
from ssmrl.context.learner import ContextLearner
from ssmrl.run import Row, TrainingRun
from ssmrl.stacked_runs import StackedRuns
from tests.ssmrl.context.small_context import small_context

BUDGET = {"max_env_steps": 4 * 40, "num_evaluations": 2}
TOLERANCE = 1e-4
"""Of returns and weights, relative: float32 rounds otherwise where products are batched."""


def configs(num_seeds: int, task: str = "point") -> list[TrainConfig]:
    """For iterations of 40 env steps."""
    return [
        small_context(task, seed=seed, **{"meta.random_env_steps": 80}) for seed in range(num_seeds)
    ]


def stacked(folder: Path, of: list[TrainConfig]) -> StackedRuns:
    return StackedRuns(of, folders=[folder] * len(of), **BUDGET)


def alone(config: TrainConfig, folder: Path) -> TrainingRun:
    return TrainingRun(config, folder=folder, **BUDGET)


def finish(run: StackedRuns | TrainingRun) -> None:
    while not (run.is_over if isinstance(run, StackedRuns) else is_over(run.row)):
        run.advance()


def is_over(row: Row) -> bool:
    return row.finished or row.diverged


def assert_close(got: Row, wanted: Row) -> None:
    """All that counts in a row."""
    for name in ("env_steps", "iterations", "finished", "diverged", "reason", "received"):
        assert getattr(got, name) == getattr(wanted, name), name
    assert len(got.curve) == len(wanted.curve)
    for point, other in zip(got.curve, wanted.curve, strict=True):
        assert point == pytest.approx(other, rel=TOLERANCE)
    assert got.returns == pytest.approx(dict(wanted.returns), rel=TOLERANCE)


def assert_close_tensors(one: Path, other: Path) -> None:
    """All that a checkpoint keeps, optimisers included."""
    first, second = Checkpoint.load(one).tensors, Checkpoint.load(other).tensors
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=1e-3, atol=1e-4, msg=name)


def learner_of(run: TrainingRun) -> ContextLearner:
    learner = run._engine.learner
    assert isinstance(learner, ContextLearner)
    return learner


def test_each_seed_becomes_what_it_becomes_alone_one_that_diverges_too(tmp_path: Path) -> None:
    """It breaks after two iterations, in the stack and alone; then it is frozen and named."""
    of = configs(4)
    together = stacked(tmp_path / "together", of)
    singles = [alone(config, tmp_path / "alone") for config in of]
    for run in (together, *singles):
        run.advance()
        run.advance()
    for run in (together.runs[1], singles[1]):
        with torch.no_grad():
            learner_of(run).networks.critic.flat.fill_(math.nan)
    for run in (together, *singles):
        finish(run)
        run.close()
    for run, single in zip(together.runs, singles, strict=True):
        assert_close(run.row, single.row)
        if not single.row.diverged:
            assert_close_tensors(run.path, single.path)
    assert [row.diverged for row in together.rows] == [False, True, False, False]
    assert [row.iterations for row in together.rows] == [4, 2, 4, 4]
    assert list(together.diverged) == [1]
    assert "critic_loss" in together.diverged[1]
    assert "must be finite, but is not after 120 env steps" in together.diverged[1]
    scores = {row.score for row in together.rows if row.finished}
    assert len(scores) == 3, "seeds differ"


def test_where_the_dynamics_differ_too(tmp_path: Path) -> None:
    """No reward is paid anew there."""
    of = configs(2, "halfcheetah-damping")
    together = stacked(tmp_path / "together", of)
    finish(together)
    for config, row in zip(of, together.rows, strict=True):
        single = alone(config, tmp_path / "alone")
        finish(single)
        assert_close(row, single.row)


@pytest.mark.parametrize("lane_groups", [0, 2])
def test_interrupted_and_resumed_is_undisturbed(lane_groups: int, tmp_path: Path) -> None:
    of = [each.with_knobs({"meta.lane_groups": lane_groups}) for each in configs(2)]
    straight = stacked(tmp_path / "straight", of)
    finish(straight)
    for _ in range(4):
        run = stacked(tmp_path / "interrupted", of)
        run.advance()
        run.close()
    assert run.is_over
    for got, wanted in zip(run.rows, straight.rows, strict=True):
        assert got.curve == wanted.curve
        assert got.returns == wanted.returns


def test_seeds_go_on_alone_and_come_back(tmp_path: Path) -> None:
    """Checkpoints are those of single runs; who is ahead waits for the others."""
    of = configs(3)
    together = stacked(tmp_path, of)
    together.advance()
    together.close()
    for config, num_iterations in zip(of, (0, 2, 1), strict=True):
        single = alone(config, tmp_path)
        assert single.row.iterations == 1
        for _ in range(num_iterations):
            single.advance()
        single.close()
    again = stacked(tmp_path, of)
    done = [[row.iterations for row in again.rows]]
    while not again.is_over:
        done.append([row.iterations for row in again.advance()])
    assert done == [[1, 3, 2], [2, 3, 2], [3, 3, 3], [4, 4, 4]]
    single = alone(of[1], tmp_path / "alone")
    finish(single)
    assert_close(again.rows[1], single.row)


def test_an_iterations_seconds_are_shared_equally(tmp_path: Path) -> None:
    together = stacked(tmp_path, configs(2))
    started, cpu_started = time.monotonic(), time.process_time()
    first, second = together.advance()
    spent, cpu_spent = time.monotonic() - started, time.process_time() - cpu_started
    assert first.train_cpu_seconds == second.train_cpu_seconds
    assert 0.0 < 2.0 * first.train_cpu_seconds <= cpu_spent
    assert first.seconds == second.seconds
    assert 0.0 < 2.0 * first.seconds <= spent


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ([{}, {"meta.discount": 0.9}], "equal except for their seeds"),
        ([{}, {}], r"must have different seeds, but got \[0, 0\]"),
        (
            [{"meta.num_inner_steps": 1}, {"meta.num_inner_steps": 1, "seed": 1}],
            "one after another",
        ),
    ],
)
def test_what_cannot_be_stacked_is_refused(
    changes: list[dict[str, Any]], match: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=match):
        StackedRuns([small_context(**each) for each in changes], folders=[tmp_path] * 2, **BUDGET)


def test_only_context_sac_is_stacked(tmp_path: Path) -> None:
    of = [TrainConfig.for_task("point", "promp").with_knobs({"seed": seed}) for seed in (0, 1)]
    with pytest.raises(ValueError, match=r"`algorithm` must be 'context-sac' .* but is 'promp'"):
        StackedRuns(of, folders=[tmp_path] * 2, **BUDGET)
