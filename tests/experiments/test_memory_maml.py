"""The comparison of memories that adapt with memories that do not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from experiments.benchmarks import memory_learning, memory_maml
from experiments.benchmarks.memory_maml import Judged, assignments, estimates, summary
from ssmrl.checkpoint import Checkpoint
from ssmrl.config import TrainConfig
from ssmrl.context.by_memory import MemoryPlayer
from ssmrl.context.inference import Estimate
from ssmrl.rollout.play import LocalCollector, Mode, Play
from ssmrl.run import checkpoint_path

SMALL = {
    "meta.random_env_steps": 40,
    "meta.num_lanes": 4,
    "env.horizon": 8,
    "evaluation.num_tasks": 3,
    "evaluation.num_episodes": 2,
}


def small(task: str = "halfcheetah-vel", steps: int = 0) -> TrainConfig:
    return TrainConfig.for_task(task).with_knobs(SMALL | {"meta.num_inner_steps": steps})


def test_tasks_beyond_the_range_lie_above_it() -> None:
    both = assignments(small())
    inside = [task.parameters[0] for task in both["within"].tasks]
    outside = [task.parameters[0] for task in both["beyond"].tasks]
    assert all(0.0 <= value <= 3.0 for value in inside)
    assert all(3.0 < value <= 4.0 for value in outside)
    assert len(set(outside)) == len(inside) == 3


@pytest.mark.parametrize("steps", [0, 1])
def test_estimates_are_those_that_the_policy_acted_on(
    steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(steps=steps)
    player = MemoryPlayer(config)
    params = player.initial_params()
    adaptation = player.adaptation(params, Play(assignments(config)["within"], 2, 1, Mode.USED))
    step, acted_on = adaptation._step, []

    def told(inputs: torch.Tensor, hidden: Any) -> tuple[Estimate, Any]:
        estimate, hidden = step(inputs, hidden)
        acted_on.append(estimate.mean)
        return estimate, hidden

    monkeypatch.setattr(adaptation, "_step", told)
    monkeypatch.setattr(MemoryPlayer, "adaptation", lambda *_: adaptation)
    play = Play(assignments(config)["within"], 2, 1, Mode.USED)
    trajectory = LocalCollector(config, num_threads=1)(params, play)[0]
    expected = 1.5 * (torch.stack(acted_on, 1).unflatten(0, (3, 2)) + 1.0)
    found = estimates(config, params, trajectory)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_difference_is_paired_by_seed() -> None:
    rows = [
        Judged(steps, seed, 1.0, 1, "within", value, 0.0, 0.5)
        for steps, values in ((0, (10.0, 30.0, 20.0)), (1, (11.0, 31.0, 21.5)))
        for seed, value in zip((2, 0, 1), values, strict=True)
    ]
    first, second = summary(rows)
    assert "no step   20.000  one step   21.167  difference +1.17 [+0.45, +1.88], 3 seeds" in first
    assert "difference +0 [+0, +0]" in second


def test_from_runs_to_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small()
    monkeypatch.setattr(TrainConfig, "for_task", lambda _: config)
    flags = ["--output", str(tmp_path), "--checkpoints", str(tmp_path / "runs")]
    runner = CliRunner()
    refused = runner.invoke(memory_maml.app, ["--num-seeds", "1", *flags])
    assert refused.exit_code == 2
    assert "no run with seed 0 and 0 adaptation steps" in refused.output
    assert not list(tmp_path.glob("*.csv"))
    with_step = ["--knob", "meta.outer_lr=4e-3"]
    one_step = ["--label", "maml", "--knob", "meta.num_inner_steps=1", *with_step]
    for knobs in ([], one_step):
        train = ["--task", "halfcheetah-vel", "--seconds", "0.2", "--every", "0.2", *flags, *knobs]
        assert runner.invoke(memory_learning.app, train).exit_code == 0
    other = runner.invoke(
        memory_maml.app, ["--num-seeds", "1", "--knob", "policy.state_dim=64", *flags]
    )
    assert other.exit_code == 2
    assert "--label maml --knob meta.num_inner_steps=1 --knob policy.state_dim=64" in other.output
    result = runner.invoke(memory_maml.app, ["--num-seeds", "1", *with_step, *flags])
    assert result.exit_code == 0, result.output
    lines = (tmp_path / "memory-maml-halfcheetah-vel.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["num_inner_steps", "0", "0", "1", "1"]
    assert result.output.count("no interval, 1 seeds") == 4


def test_a_direction_has_no_beyond() -> None:
    result = CliRunner().invoke(memory_maml.app, ["--task", "halfcheetah-dir"])
    assert result.exit_code == 2
    assert "halfcheetah-dir" in result.output


@pytest.mark.parametrize("missing", ["cpu_seconds", "env_steps"])
def test_the_checkpoint_of_another_command_is_refused_in_a_line(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small()
    monkeypatch.setattr(TrainConfig, "for_task", lambda _: config)
    progress = {name: 1 for name in ("cpu_seconds", "env_steps") if name != missing}
    path = checkpoint_path(tmp_path / "runs", config.with_knobs({"seed": 0}))
    Checkpoint(config, {"weight": torch.zeros(1)}, progress).save(path)
    flags = ["--output", str(tmp_path / "out"), "--checkpoints", str(tmp_path / "runs")]
    refused = CliRunner().invoke(memory_maml.app, ["--num-seeds", "1", *flags])
    assert refused.exit_code == 2, refused.output
    (line,) = refused.output.splitlines()
    assert f"lacks `{missing}`: another program wrote it" in line
    assert not (tmp_path / "out").exists()
