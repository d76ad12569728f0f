"""Results say what made them: commit, versions and machine."""

import json
import os
import platform
import subprocess
from pathlib import Path

import torch

from ssmrl import provenance as module
from ssmrl.checkpoint import Checkpoint, read_tensors
from ssmrl.config import TrainConfig
from ssmrl.device_record import record_device
from ssmrl.provenance import provenance


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_it_names_versions_and_the_machine() -> None:
    found = provenance()
    assert found["python"] == platform.python_version()
    assert found["packages"]["torch"] == torch.__version__.partition("+")[0] or (
        found["packages"]["torch"] == torch.__version__
    )
    assert found["cores"] == os.cpu_count()
    assert found["system"]


def test_a_commit_says_whether_something_was_changed_since(tmp_path: Path) -> None:
    assert module._commit(tmp_path / "a") is None
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-qm", "first")
    git(tmp_path, "tag", "v1")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert module._commit(tmp_path / "a") == commit
    (tmp_path / "a").write_text("2")
    assert module._commit(tmp_path / "a") == f"{commit}-dirty"
    (tmp_path / "installed.py").touch()
    assert module._commit(tmp_path / "installed.py") is None, "somebody else's repository"


def test_a_checkpoint_and_a_folder_of_results_carry_it(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    config = TrainConfig.for_task("point", "promp")
    Checkpoint(config, {"x": torch.ones(1)}, {}).save(path)
    assert json.loads(read_tensors(path)[1]["made_with"]) == provenance()
    assert Checkpoint.load(path).config == config
    record_device(tmp_path, "cpu")
    assert json.loads((tmp_path / "device.json").read_text())["made_with"] == provenance()
