"""The one driver: whatever is interrupted goes on as if it had not been, for every algorithm."""

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from ssmrl.checkpoint import Checkpoint
from ssmrl.config import TrainConfig
from ssmrl.context.learner import ContextLearner
from ssmrl.knobs import KnobValue
from ssmrl.learner import Metrics
from ssmrl.meta.algorithms import ALGORITHMS
from ssmrl.rollout.evaluate import Evaluation
from ssmrl.rollout.play import Mode
from ssmrl.run import LocalEngine, Row, TrainingRun, checkpoint_path
from tests.ssmrl.context.small_context import small_context
from tests.ssmrl.fake_algorithm import LEANING

HALVES = "halves of context-sac's lanes"
EVERY = pytest.mark.parametrize("algorithm", ["context-sac", HALVES, "promp"])


def small(algorithm: str, **knobs: KnobValue) -> TrainConfig:
    """Iterations of 40 env steps with context-sac, of 120 with the others."""
    if algorithm == HALVES:
        return small_context(**{"meta.lane_groups": 2} | knobs)
    if algorithm == "context-sac":
        return small_context(**knobs)
    own: dict[str, KnobValue] = {
        "env.horizon": 10,
        "policy.hidden_dim": 8,
        "policy.method": "mlp",
        "meta.num_tasks": 2,
        "meta.num_episodes": 3,
        "evaluation.num_tasks": 3,
        "evaluation.num_episodes": 2,
    }
    return TrainConfig.for_task("point", algorithm).with_knobs(own | knobs)


def start(config: TrainConfig, folder: Path, num_iterations: int = 4, **knobs: Any) -> TrainingRun:
    """A run of so many iterations with two evaluations."""
    per_iteration = LocalEngine(config, 1).learner.env_steps_per_iteration
    budget = num_iterations * per_iteration
    return TrainingRun(config, max_env_steps=budget, folder=folder, num_evaluations=2, **knobs)


def finish(run: TrainingRun) -> Row:
    while not (run.row.finished or run.row.diverged):
        run.advance()
    return run.row


def what_counts(row: Row) -> dict[str, Any]:
    """All but how long it took, and what the last iteration was like, if there was one."""
    return dataclasses.asdict(
        dataclasses.replace(
            row, seconds=0.0, metrics=None, train_cpu_seconds=0.0, curve_cpu_seconds=()
        )
    )


def differing_bits(one: Path, other: Path) -> list[str]:
    """Names of the checkpoints' tensors that are not equal bit for bit."""
    first, second = Checkpoint.load(one).tensors, Checkpoint.load(other).tensors
    assert first.keys() == second.keys()
    return [name for name, value in first.items() if not torch.equal(value, second[name])]


@EVERY
def test_one_seed_gives_one_result(algorithm: str, tmp_path: Path) -> None:
    runs = [start(small(algorithm), tmp_path / name) for name in ("one", "two")]
    rows = [finish(run) for run in runs]
    assert what_counts(rows[0]) == what_counts(rows[1])
    assert differing_bits(*(run.path for run in runs)) == []
    other = start(small(algorithm, seed=1), tmp_path)
    assert finish(other).curve != rows[0].curve


@EVERY
def test_interrupted_anywhere_and_resumed_is_undisturbed(algorithm: str, tmp_path: Path) -> None:
    """Another object goes on from the folder after every single iteration."""
    config = small(algorithm)
    straight = start(config, tmp_path / "straight")
    wanted = finish(straight)
    for number in itertools.count(1):
        run = start(config, tmp_path / "interrupted")
        assert run.row.iterations == number - 1
        run.advance()
        run.close()
        if run.row.finished:
            break
    assert number == 4
    assert what_counts(run.row) == what_counts(wanted)
    assert differing_bits(run.path, straight.path) == []


@EVERY
def test_what_came_after_the_last_save_is_made_again(algorithm: str, tmp_path: Path) -> None:
    """Killed between two saves: also what was played since then is played again."""
    config = small(algorithm)
    straight = start(config, tmp_path / "straight")
    wanted = finish(straight)
    killed = start(config, tmp_path / "killed")
    killed.advance()
    killed.save()
    killed.advance()
    # The experience is kept first, so a kill may leave more of it than the checkpoint knows of.
    killed._engine.learner.save_experience(killed.experience)
    resumed = start(config, tmp_path / "killed")
    assert resumed.row.iterations == 1
    assert what_counts(finish(resumed)) == what_counts(wanted)
    assert differing_bits(resumed.path, straight.path) == []


def test_the_row_says_what_the_run_has_come_to(tmp_path: Path) -> None:
    config = small("context-sac")
    run = start(config, tmp_path)
    assert run.row == Row(received=config.knobs())
    rows = [run.advance() for _ in range(4)]
    assert [row.env_steps for row in rows] == [40, 80, 120, 160]
    assert [row.iterations for row in rows] == [1, 2, 3, 4]
    assert [row.finished for row in rows] == [False, False, False, True]
    assert [len(row.curve) for row in rows] == [0, 1, 1, 2]
    assert [point[0] for point in rows[-1].curve] == [80, 160]
    assert rows[0].score is None
    last = rows[-1]
    assert last.score == last.curve[-1][2] == last.returns["0"]
    assert last.interval is not None
    assert last.interval[0] <= last.score <= last.interval[1]
    assert isinstance(last.metrics, Metrics)
    assert last.seconds > 0.0
    assert run.advance().env_steps == 160, "the budget is spent"
    judge = run._engine.judge
    off = judge(num_episodes=1, mode=Mode.OFF, draw=0).mean_returns()[0]
    assert last.curve[-1][1] == off


def test_by_gradient_the_first_episode_is_the_one_without_adaptation(tmp_path: Path) -> None:
    row = finish(start(small("promp"), tmp_path))
    assert list(row.returns) == ["0", "1", "2", "3"]
    assert row.curve[-1][1:] == (row.returns["0"], row.returns["1"])


def test_segments_that_left_the_replay_are_deleted(tmp_path: Path) -> None:
    """Three iterations fit in; nothing but the replay is in that folder, and nothing half."""
    run = start(small("context-sac"), tmp_path, num_iterations=5)
    kept = []
    while not run.row.finished:
        run.advance()
        run.save()
        kept.append(sorted(int(path.stem) for path in run.experience.iterdir()))
    assert kept == [[0], [0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4]]
    size = sum(path.stat().st_size for path in run.experience.iterdir())
    assert size < 3 * 10_000


@pytest.mark.parametrize("harm", ["missing", "cut", "changed"])
def test_without_its_experience_a_run_starts_anew(harm: str, tmp_path: Path) -> None:
    """Never with half of the replay: the old checkpoint is kept for whoever wants to know."""
    config = small("context-sac")
    run = start(config, tmp_path)
    run.advance()
    run.advance()
    run.close()
    segment = sorted(run.experience.iterdir())[0]
    content = segment.read_bytes()
    match harm:
        case "missing":
            segment.unlink()
        case "cut":
            segment.write_bytes(content[: len(content) // 2])
        case "changed":
            segment.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    again = start(config, tmp_path)
    assert again.row == Row(received=config.knobs())
    assert run.path.with_suffix(".damaged").exists()
    wanted = finish(start(config, tmp_path / "undisturbed"))
    assert what_counts(finish(again)) == what_counts(wanted)


def test_a_damaged_checkpoint_is_kept_and_the_run_starts_anew(tmp_path: Path) -> None:
    config = small("promp")
    path = checkpoint_path(tmp_path, config)
    path.write_bytes(b"half a checkpoint")
    run = start(config, tmp_path)
    assert run.row.iterations == 0
    assert path.with_suffix(".damaged").read_bytes() == b"half a checkpoint"


@pytest.mark.parametrize("harm", ["tensor", "shape", "progress"])
@EVERY
def test_a_checkpoint_of_another_program_is_kept_and_the_run_starts_anew(
    harm: str, algorithm: str, tmp_path: Path
) -> None:
    """Whole and of the same configuration, but without what this one needs."""
    run = start(small(algorithm), tmp_path)
    run.advance()
    run.close()
    saved = Checkpoint.load(run.path)
    tensors, progress = dict(saved.tensors), dict(saved.progress)
    name = next(name for name in tensors if name.startswith(("actor.", "networks.actor")))
    if harm == "tensor":
        del tensors[name]
    elif harm == "shape":
        tensors[name] = tensors[name][:1]
    else:
        del progress["curve"]
    Checkpoint(saved.config, tensors, progress).save(run.path)
    again = start(small(algorithm), tmp_path)
    assert again.row.env_steps == 0
    assert run.path.with_suffix(".damaged").exists()


def test_other_configurations_have_other_checkpoints(tmp_path: Path) -> None:
    configs = [small("context-sac"), small("context-sac", seed=1), small("promp")]
    assert len({checkpoint_path(tmp_path, config) for config in configs}) == 3


# ---------------------------------------------------------------------------------- diverged


def test_a_temperature_that_runs_away_has_diverged(tmp_path: Path) -> None:
    config = small("context-sac")
    engine = LocalEngine(config, 1)
    run = start(config, tmp_path, engine=engine)
    run.advance()
    assert isinstance(engine.learner, ContextLearner)
    with torch.no_grad():
        engine.learner.networks.log_temperature.fill_(10.0)
    row = finish(run)
    assert row.diverged
    assert not row.finished
    assert "the temperature must stay below 100, but rose to 2.2" in row.reason
    assert "after 80 env steps" in row.reason
    run.close()
    assert not run.path.exists(), "what diverged is not gone on from"


def test_a_loss_that_is_not_finite_has_diverged(tmp_path: Path) -> None:
    config = small("context-sac")
    engine = LocalEngine(config, 1)
    run = start(config, tmp_path, engine=engine)
    assert isinstance(engine.learner, ContextLearner)
    with torch.no_grad():
        engine.learner.networks.critic.flat.fill_(math.nan)
    row = run.advance()
    assert row.diverged
    assert "critic_loss, actor_loss" in row.reason
    assert "must be finite, but is not after 40 env steps" in row.reason


def test_a_return_that_is_not_finite_has_diverged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small("promp")
    engine = LocalEngine(config, 1)
    nothing = Evaluation.of_returns(torch.full((2, 3, 2), math.nan), 0)
    monkeypatch.setattr(engine, "judge", lambda **_: nothing)
    row = finish(start(config, tmp_path, engine=engine))
    assert row.diverged
    assert row.reason == "the return on held-out tasks is nan"


@pytest.mark.parametrize("knobs", [{"max_env_steps": 0}, {"num_evaluations": 0}])
def test_a_budget_of_nothing_is_refused(knobs: dict[str, int], tmp_path: Path) -> None:
    allowed = {"max_env_steps": 100, "num_evaluations": 1}
    with pytest.raises(ValueError, match=r"must be at least 1, but got"):
        TrainingRun(small("promp"), folder=tmp_path, **(allowed | knobs))


# -------------------------------------------------------------------- an algorithm of one's own


def test_an_adaptation_that_nobody_knows_goes_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training, evaluation, curve and resuming, with one entry in the table and no other edit."""
    monkeypatch.setitem(ALGORITHMS, LEANING.name, LEANING)
    config = TrainConfig.for_task("point", "leaning").with_knobs(
        {"env.horizon": 10, "evaluation.num_tasks": 6, "meta.num_tasks": 6, "policy.spread": 0.3}
    )
    straight = start(config, tmp_path / "straight")
    row = finish(straight)
    assert row.env_steps == 4 * 6 * 8 * 2 * 10
    assert [point[0] for point in row.curve] == [1920, 3840]
    without, score = row.curve[-1][1:]
    assert list(row.returns) == ["0", "1", "2"]
    assert (without, score) == (row.returns["0"], row.returns["1"])
    assert score > without, "it adapts"
    assert row.received["policy.spread"] == 0.3
    interrupted = start(config, tmp_path / "interrupted")
    interrupted.advance()
    interrupted.close()
    assert what_counts(finish(start(config, tmp_path / "interrupted"))) == what_counts(row)
