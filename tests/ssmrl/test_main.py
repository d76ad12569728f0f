"""``python -m ssmrl evaluate``: what it prints, and what it refuses with exit code 2."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from ssmrl.__main__ import app
from ssmrl.checkpoint import Checkpoint
from ssmrl.config import TrainConfig
from ssmrl.envs.families import get_family
from ssmrl.meta.initial_actor import initial_actor
from ssmrl.train import evaluate

ROOT = Path(__file__).resolve().parents[2]
CONFIG = TrainConfig.for_task("point", "promp").with_knobs(
    {
        "policy.method": "mlp",
        "policy.hidden_dim": 8,
        "evaluation.num_tasks": 5,
        "evaluation.num_episodes": 4,
    }
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A checkpoint whose weights are not those that its configuration starts from."""
    actor = initial_actor(CONFIG.with_knobs({"seed": 8}))
    tensors = {f"actor.{name}": value for name, value in actor.state_dict().items()}
    Checkpoint(CONFIG, tensors, {}).save(tmp_path / "checkpoint.safetensors")
    return tmp_path


@pytest.mark.parametrize("part", ["checkpoint.safetensors", ""])
def test_evaluates_the_saved_weights(saved: Path, part: str) -> None:
    """By file or by folder; the same numbers as the function gives for these weights."""
    result = CliRunner().invoke(app, ["evaluate", str(saved / part), "--json", "--draw", "3"])
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout.splitlines()[-1])
    actor = initial_actor(CONFIG.with_knobs({"seed": 8}))
    wanted = evaluate(CONFIG, actor, num_steps=3, draw=3).mean_returns()
    assert printed["task"] == "point"
    assert printed["returns"] == {str(k): pytest.approx(wanted[k], rel=1e-6) for k in (0, 1, 3)}
    assert printed["no_adaptation_bound"] == get_family("point").no_adaptation_bound(20)
    other = evaluate(CONFIG, initial_actor(CONFIG), num_steps=3, draw=3).mean_returns()
    assert printed["returns"]["3"] != pytest.approx(other[3], rel=1e-3)


def test_prints_each_step_with_its_interval_and_the_bound(saved: Path) -> None:
    result = CliRunner().invoke(app, ["evaluate", str(saved), "--num-tasks", "3"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "point: 3 held-out tasks, draw 0"
    assert [line.split(":")[0].strip() for line in lines[1:4]] == [
        f"after {k} adaptation steps" for k in (0, 1, 3)
    ]
    assert all("[" in line for line in lines[1:4])
    assert lines[4].endswith("exceeds -20.00")


@pytest.mark.parametrize("kind", ["missing", "empty-folder", "damaged", "not-a-checkpoint"])
def test_an_unusable_checkpoint_is_one_line_and_exit_code_2(saved: Path, kind: str) -> None:
    path = saved / "checkpoint.safetensors"
    if kind == "missing":
        path = saved / "nowhere.safetensors"
    elif kind == "empty-folder":
        path = saved / "folder"
        path.mkdir()
    elif kind == "damaged":
        path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    else:
        path.write_text("something else")
    result = CliRunner().invoke(app, ["evaluate", str(path)])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert path.name in result.stderr


@pytest.mark.parametrize("arguments", [["--draw", "-1"], ["--num-tasks", "0"]])
def test_a_number_out_of_range_is_exit_code_2(saved: Path, arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["evaluate", str(saved), *arguments]).exit_code == 2


def test_python_dash_m_reaches_the_command() -> None:
    command = [sys.executable, "-m", "ssmrl", "evaluate", "nowhere.safetensors"]
    finished = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert finished.returncode == 2
    assert finished.stderr.strip() == "there is no checkpoint at nowhere.safetensors"


def test_weights_of_another_shape_are_not_loaded(saved: Path) -> None:
    """Loading is strict: a half loaded policy would be judged under the wrong name."""
    path = saved / "checkpoint.safetensors"
    checkpoint = Checkpoint.load(path)
    tensors = dict(checkpoint.tensors) | {"actor.log_std": torch.zeros(7)}
    Checkpoint(CONFIG, tensors, {}).save(path)
    result = CliRunner().invoke(app, ["evaluate", str(path)])
    assert result.exit_code == 2
    assert "log_std is" in result.stderr
