"""The porch enters a room only when it is asked to."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOADED = "import json, sys; print(json.dumps(sorted({n.partition('.')[0] for n in sys.modules})))"


def loaded_after(code: str) -> set[str]:
    """The packages that a process has imported after some code."""
    finished = subprocess.run(
        [sys.executable, "-c", f"{code}; {LOADED}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return set(json.loads(finished.stdout))


@pytest.mark.parametrize(
    ("module", "needs", "spares"),
    [
        (
            "ssmrl_command.app",
            {"typer"},
            {"ssmrl", "torch", "mujoco", "gymnasium", "ray", "tuning"},
        ),
        ("ssmrl_command.train", {"ssmrl", "torch"}, {"ray", "optuna", "pandas", "cluster"}),
    ],
)
def test_what_a_subcommand_loads(module: str, needs: set[str], spares: set[str]) -> None:
    loaded = loaded_after(f"import {module}")
    assert needs <= loaded
    assert not spares & loaded


def test_the_help_of_what_trains_waits_for_no_slow_import() -> None:
    names = ("train", "adapt", "render", "sweep", "research", "analyze", "report", "list")
    helps = f"[CliRunner().invoke(app, [name, '--help']).exit_code for name in {names}]"
    code = "from typer.testing import CliRunner; from ssmrl_command.app import app; "
    loaded = loaded_after(f"{code}assert not any({helps})")
    assert "tuning" in loaded
    assert not {"torch", "ray", "pandas", "scipy", "matplotlib"} & loaded
