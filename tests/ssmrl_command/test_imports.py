"""The porch enters a room only when it is asked to."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOADED = "import json, sys; print(json.dumps(sorted({n.partition('.')[0] for n in sys.modules})))"


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
    finished = subprocess.run(
        [sys.executable, "-c", f"import {module}; {LOADED}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    loaded = set(json.loads(finished.stdout))
    assert needs <= loaded
    assert not spares & loaded
