"""The examples are short, and run where a user would run them."""

import ast
import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ssmrl_command.app import app

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
MOST_LINES = 25
TINY_GRADIENT = {"meta.num_tasks": 4, "meta.num_episodes": 2, "evaluation.num_episodes": 2}
OWN_MODEL = ["--task", "point", "--method", "{}.own_policy:LeakyIntegrator"]
TINY_MEMORY = {"meta.random_env_steps": 80, "meta.batch_size": 32, "evaluation.num_tasks": 4}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of the user's in the working directory, which nothing else can import."""
    name = f"mine_{os.getpid()}_{tmp_path.name}"
    shutil.copytree(EXAMPLES, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (tmp_path / name).glob("*.py"):
        file.write_text(file.read_text().replace("examples.", f"{name}."))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


def in_process(*arguments: str) -> str:
    """What the command says, run by this process in the working directory."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def ssmrl(*arguments: str) -> str:
    """What the installed command says, run in the working directory."""
    # As an installed script: the working directory is not on the path.
    entry = "import sys; del sys.path[0]; from ssmrl_command.app import app; app(prog_name='ssmrl')"
    done = subprocess.run(
        [sys.executable, "-c", entry, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def sets(knobs: dict[str, object]) -> list[str]:
    return [word for knob, value in knobs.items() for word in ("--set", f"{knob}={value}")]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_short_and_needs_only_its_own_library(path: Path) -> None:
    tree = ast.parse(path.read_text())
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    lines = path.read_text().splitlines()
    documentation = {
        number
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and ast.get_docstring(node) is not None
        for number in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)
    }
    ours = {number for node in imports for number in range(node.lineno, (node.end_lineno or 0) + 1)}
    counted = [
        line
        for number, line in enumerate(lines, 1)
        if line.strip() and number not in documentation | ours
    ]
    assert len(counted) <= MOST_LINES
    names = {node.module for node in imports if isinstance(node, ast.ImportFrom)}
    assert {name for name in names if name and name.startswith("ssmrl")} <= {"ssmrl"}
    assert not any(re.search(r"\b_[a-z]", line) for line in counted), "a private name"


@pytest.mark.parametrize(
    "flags",
    [
        ["--task", "{}.own_task:FAMILY", *sets(TINY_MEMORY), "--env-steps", "1600"],
        ["--task", "{}.own_robot:FAMILY", *sets(TINY_MEMORY), "--env-steps", "1600"],
        [*OWN_MODEL, *sets(TINY_MEMORY), "--env-steps", "800"],
        [*OWN_MODEL, "--algorithm", "promp", *sets(TINY_GRADIENT), "--env-steps", "1600"],
    ],
    ids=["task", "robot", "policy by memory", "policy by gradient"],
)
def test_an_example_trains(package: str, flags: list[str]) -> None:
    words = [flag.format(package) for flag in flags]
    said = in_process("train", *words, "--name", "run", "--num-evaluations", "1")
    assert " held-out tasks after " in said
    assert words[1] in in_process("evaluate", "runs/run")


def test_a_loss_of_ones_own_passes_the_blind_return(tmp_path: Path, package: str) -> None:
    words = ["--task", "point", "--algorithm", f"{package}.own_algorithm:ALGORITHM"]
    budget = ["--env-steps", "320000", "--num-evaluations", "1"]
    in_process("train", *words, *budget, "--name", "run", "--method", "mlp")
    with (tmp_path / "runs/run/curve.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["return"]) > -20.0, "no policy without adaptation earns more on average"


def test_own_parts_reach_the_runners_of_a_sweep(tmp_path: Path, package: str) -> None:
    """Task, model, algorithm and searcher at once, in processes that know their paths alone."""
    base = "".join(f"\n  {knob}: {value}" for knob, value in TINY_GRADIENT.items())
    (tmp_path / "space.yaml").write_text(
        f"format: 2\nbase:{base}\n  evaluation.num_tasks: 4\n"
        "knobs:\n  meta.inner_lr: {kind: float, low: 0.01, high: 1.0, log: true}\n"
    )
    words = ["--task", f"{package}.own_robot:FAMILY", "--space", "space.yaml", "--name", "swept"]
    words += ["--method", f"{package}.own_policy:LeakyIntegrator"]
    words += ["--algorithm", f"{package}.own_algorithm:ALGORITHM"]
    words += ["--searcher", f"{package}.own_searcher:StepFromBest"]
    words += ["--num-env-runners", "2", "--cpus-per-runner", "0.5", "--num-samples", "2"]
    words += ["--max-env-steps", "1600", "--num-confirmed", "0", "--num-fresh-seeds", "0"]
    words += ["--scheduler", "none"]
    ssmrl("sweep", *words)
    with (tmp_path / "runs/swept/trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["COMPLETE"] * 2
    assert len({row["meta.inner_lr"] for row in rows}) == 2
