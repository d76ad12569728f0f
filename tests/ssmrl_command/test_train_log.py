"""``ssmrl train --log``: what is told of a run, read back; going on; and what is refused."""

import csv
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from ssmrl import train_log
from ssmrl.learner import Metrics
from ssmrl.run import Row
from ssmrl.train_log import TrainLog
from ssmrl_command.app import app
from tests.event_files import events, scalars
from tests.ssmrl_command.test_train import SETS

BUDGET = ["--num-evaluations", "2"]
START = ["--task", "point", *SETS]


def invoke(storage: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["train", "--storage", str(storage), *arguments])


def test_tensorboard_is_told_of_each_iteration_and_evaluation(tmp_path: Path) -> None:
    budget = ["--env-steps", "240", *BUDGET]
    result = invoke(tmp_path, *START, *budget, "--name", "a", "--log", "tensorboard")
    assert result.exit_code == 0, result.output
    told = scalars(tmp_path / "a" / "tensorboard")
    assert [step for step, _ in told["train/return_after"]] == [80, 160, 240]
    assert [step for step, _ in told["train/replay_env_steps"]] == [80, 160, 240]
    with (tmp_path / "a" / "curve.csv").open() as file:
        curve = [(int(row["env_steps"]), float(row["return"])) for row in csv.DictReader(file)]
    assert told["held_out/return"] == [(step, pytest.approx(value)) for step, value in curve]

    more = ["--env-steps", "400", *BUDGET, "--log", "tensorboard"]
    assert invoke(tmp_path, "--name", "a", "--resume", *more).exit_code == 0
    told = scalars(tmp_path / "a" / "tensorboard")
    assert [step for step, _ in told["train/return_after"]] == [80, 160, 240, 320, 400]
    starts = [e.step for e in events(tmp_path / "a" / "tensorboard") if e.HasField("session_log")]
    assert starts == [241], "what was told after the checkpoint is to be forgotten"


def test_each_of_several_seeds_has_its_own(tmp_path: Path) -> None:
    seeds = ["--num-seeds", "2", "--log", "tensorboard"]
    result = invoke(tmp_path, *START, "--env-steps", "160", *BUDGET, "--name", "a", *seeds)
    assert result.exit_code == 0, result.output
    told = [scalars(tmp_path / "a" / f"seed-{k}" / "tensorboard") for k in (0, 1)]
    returns = [each["train/return_after"] for each in told]
    assert [[step for step, _ in each] for each in returns] == [[80, 160], [80, 160]]
    assert returns[0] != returns[1]


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("tensorboard", "needs tensorboardX, which is not installed; run pip install"),
        ("wandb", "needs wandb, which is not installed; run pip install wandb"),
        ("paper", "`--log` must be one of tensorboard, wandb, but got 'paper'"),
    ],
)
def test_what_is_not_there_is_refused_before_anything_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, complaint: str
) -> None:
    monkeypatch.setattr(train_log, "find_spec", lambda name: None)
    result = invoke(tmp_path, *START, "--name", "a", "--log", kind)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "a").exists()


class Told(TrainLog):
    """Remembers what it was told."""

    def __init__(self, row: Row) -> None:
        super().__init__(row)
        self.told: list[tuple[dict[str, float], int]] = []

    def write(self, numbers: dict[str, float], env_steps: int) -> None:
        self.told.append((numbers, env_steps))

    def close(self) -> None:
        pass


def test_nothing_is_told_twice_and_nothing_that_is_no_number() -> None:
    metrics = Metrics(1, 80, float("nan"), -3.0, 0.1, 0.2, {"loss": float("inf"), "size": 4.0})
    row = Row(env_steps=80, iterations=1, curve=((80, -5.0, -4.0),), metrics=metrics)
    log = Told(Row())
    log.take(row)
    log.take(row)
    judged = {"held_out/return": -4.0, "held_out/return_without_adaptation": -5.0}
    seconds = {"train/sample_seconds": 0.1, "train/update_seconds": 0.2}
    iteration = {"train/return_after": -3.0, "train/size": 4.0} | seconds
    assert log.told == [(iteration, 80), (judged, 80)]


def test_wandb_goes_on_with_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in: that the service takes it was not seen."""
    begun: list[dict[str, Any]] = []
    told: list[dict[str, float]] = []

    class Run:
        id = "abc"

        def log(self, numbers: dict[str, float]) -> None:
            told.append(numbers)

        def finish(self) -> None:
            told.append({})

    stand_in = ModuleType("wandb")
    stand_in.init = lambda **settings: begun.append(settings) or Run()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    monkeypatch.setattr(train_log, "find_spec", lambda name: True)
    first = [*START, "--env-steps", "160", *BUDGET]
    for arguments in (first, ["--resume", "--env-steps", "240", *BUDGET]):
        result = invoke(tmp_path, "--name", "a", *arguments, "--log", "wandb")
        assert result.exit_code == 0, result.output
    assert [settings.get("id") for settings in begun] == [None, "abc"]
    assert begun[0]["config"]["env.task"] == "point"
    steps = [numbers["env_steps"] for numbers in told if "train/return_after" in numbers]
    assert steps == [80, 160, 240]
    assert told[-1] == {}
