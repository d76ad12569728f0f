"""Each subcommand's help has an example, and the examples run, one after another, as they stand."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ssmrl_command.app import SUBCOMMANDS, app
from ssmrl_command.cluster_app import SUBCOMMANDS as OF_CLUSTER

ROOT = Path(__file__).resolve().parents[2]
NAMES = [
    *(name for name in SUBCOMMANDS if name != "cluster"),
    *(f"cluster {n}" for n in OF_CLUSTER),
]

# What an example leaves is what later ones are about.
IN_ORDER = ("train", "evaluate", "adapt", "render", "check", "list", "cluster check", "research")
OF_A_SWEEP = ("analyze", "report", "doctor")
NOT_HERE = {
    "bench": "a benchmark takes minutes; test_benchmarks runs them",
    "cluster submit": "there is no cluster; test_submit has one",
    "cluster stop": "it would end whatever Ray of this machine keeps its files there",
}


def example(name: str) -> list[str]:
    """The example in the help of a subcommand, as the words after ``ssmrl``."""
    wide = {"terminal_width": 300, "max_content_width": 300}  # else lines break within flags
    result = CliRunner().invoke(app, [*name.split(), "--help"], **wide)
    assert result.exit_code == 0, result.output
    found = re.search(r"^ *Example: ssmrl (.*?)\n\n", result.output, re.MULTILINE | re.DOTALL)
    assert found, f"the help of {name} has no example"
    return shlex.split(" ".join(found[1].split()))


@pytest.mark.parametrize("name", NAMES)
def test_a_subcommand_has_an_example_of_itself(name: str) -> None:
    words = example(name)
    assert words[: len(name.split())] == name.split()


def test_every_example_is_run_or_said_why_not() -> None:
    assert {*IN_ORDER, "sweep", *OF_A_SWEEP, *NOT_HERE} == set(NAMES)


def test_the_examples_of_one_policy_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    shutil.copy(ROOT / "constraints.txt", tmp_path)  # the launch files are held against it
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in IN_ORDER:
        run(name)
    assert (tmp_path / "mine.gif").stat().st_size > 0


def test_the_examples_of_one_sweep_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys; sys.argv[0] = 'ssmrl'; from ssmrl_command.app import app; app()"
    done = subprocess.run(
        [sys.executable, "-c", code, *example("sweep")],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    monkeypatch.chdir(tmp_path)
    for name in OF_A_SWEEP:
        run(name)


def run(name: str) -> None:
    """Run the example of a subcommand in this process."""
    result = CliRunner().invoke(app, example(name))
    assert result.exit_code == 0, f"{name}: {result.output}"
