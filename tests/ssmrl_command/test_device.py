"""``--device`` of ``ssmrl train`` and ``ssmrl evaluate``: what is kept of it, and a full one."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from ssmrl.config import TrainConfig
from ssmrl.context.stacked_learner import StackedLearner
from ssmrl.meta.gradient_learner import GradientLearner
from ssmrl.provenance import provenance
from ssmrl_command.app import app
from tests.ssmrl.context.small_context import small_context
from tests.tuning.full_device import FULL

SMALL = {"meta.num_tasks": 2, "meta.num_episodes": 2, "evaluation.num_tasks": 2}
SETS = [part for knob, value in SMALL.items() for part in ("--set", f"{knob}={value}")]
NEW = ["--task", "point", "--algorithm", "promp", *SETS, "--env-steps", "300", "--name", "a"]


def invoke(storage: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["train", "--storage", str(storage), *arguments])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    storage = tmp_path_factory.mktemp("runs")
    done = invoke(storage, *NEW, "--num-evaluations", "1", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["device"] == "cpu"
    return storage / "a"


def test_the_device_is_written_beside_the_results_and_names_none(finished: Path) -> None:
    kept = json.loads((finished / "device.json").read_text())
    assert kept.pop("made_with") == provenance()
    assert kept == {"device": "cpu", "gpu": None, "torch": torch.__version__}
    assert "device" not in (finished / "config.json").read_text()


def test_a_run_of_a_device_that_is_not_here_goes_on_where_it_is_told_to(
    finished: Path, tmp_path: Path
) -> None:
    import shutil

    folder = Path(shutil.copytree(finished, tmp_path / "a"))
    (folder / "device.json").write_text('{"device": "cuda:9"}')
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    refused = invoke(tmp_path, "--name", "a", "--resume", "--env-steps", "500")
    assert refused.exit_code == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith("error: `--device` is 'cuda:9', but torch")
    assert line.endswith(f"{folder} was made on that device; resume it here with `--device cpu`")
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    told = invoke(tmp_path, "--name", "a", "--resume", "--env-steps", "500", "--device", "cpu")
    assert told.exit_code == 0, told.output
    assert json.loads((folder / "device.json").read_text())["device"] == "cpu"


def test_a_full_device_ends_in_a_line_and_the_way_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = GradientLearner.iterate

    def iterate(learner: GradientLearner, collect: Any) -> Any:
        if learner.iteration == 1:
            raise torch.OutOfMemoryError(FULL)
        return usual(learner, collect)

    monkeypatch.setattr(GradientLearner, "iterate", iterate)
    done = invoke(tmp_path, *NEW)
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    said, way_on = done.stdout.splitlines()[-2:]
    assert said.startswith("out of memory on the device: 2.50 GiB more were wanted, but of 79.11")
    assert way_on == f"  ssmrl train --storage {tmp_path} --name a --resume --device cpu"


def test_so_do_several_seeds_each_with_the_device_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = StackedLearner.iterate

    def iterate(learner: StackedLearner, members: Any, collect: Any) -> Any:
        if learner.own[0].iteration == 1:
            raise torch.OutOfMemoryError(FULL)
        return usual(learner, members, collect)

    monkeypatch.setattr(StackedLearner, "iterate", iterate)
    small = small_context()
    changed = small.knobs().items() - TrainConfig.for_task("point").knobs().items()
    sets = [part for knob, value in changed for part in ("--set", f"{knob}={value}")]
    budget = ["--env-steps", "200", "--name", "two"]
    done = invoke(tmp_path, "--task", "point", "--num-seeds", "2", *sets, *budget)
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    said, way_on = done.stdout.splitlines()[-2:]
    assert said.startswith("out of memory on the device: 2.50 GiB more were wanted, but of 79.11")
    assert way_on == f"  ssmrl train --storage {tmp_path} --name two --resume --device cpu"
    for folder in (tmp_path / "two", tmp_path / "two" / "seed-0", tmp_path / "two" / "seed-1"):
        assert json.loads((folder / "device.json").read_text())["device"] == "cpu"


def test_a_device_without_room_for_the_start_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError(FULL)

    monkeypatch.setattr(GradientLearner, "__init__", full)
    done = invoke(tmp_path / "runs", *NEW)
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: out of memory on the device: 2.50 GiB more were wanted")
    assert not (tmp_path / "runs").exists()


def test_evaluate_takes_a_device_and_tells_it(finished: Path) -> None:
    def evaluate(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["evaluate", str(finished), *arguments])

    here, there = (json.loads(evaluate("--json", "--device", d).stdout) for d in ("cpu", "cpu:0"))
    assert here == there
    assert here["device"] == "cpu"
    for name in ("tpu", "cuda:99"):
        refused = evaluate("--device", name)
        assert refused.exit_code == 2
        assert refused.stdout == ""
        assert len(refused.stderr.splitlines()) == 1
        assert "--device" in refused.stderr
