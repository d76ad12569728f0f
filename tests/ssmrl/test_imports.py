"""The engine is useful alone: what importing it brings along, and what it sets."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = ("ray", "optuna", "matplotlib", "crewai", "pandas", "scipy")

IMPORT_EVERYTHING = """
import importlib, json, os, pkgutil, sys
import ssmrl
names = [m.name for m in pkgutil.walk_packages(ssmrl.__path__, "ssmrl.")]
for name in names:
    importlib.import_module(name)
top = sorted({name.partition(".")[0] for name in sys.modules})
compiler = [name for name in sys.modules if name.startswith("torch._dynamo")]
found = {"own": names, "top": top, "compiler": compiler, "cbwr": os.environ["MKL_CBWR"]}
print(json.dumps(found))
"""


@cache
def in_a_new_process(**environment: str) -> dict[str, list[str] | str]:
    kept = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}
    finished = subprocess.run(
        [sys.executable, "-c", IMPORT_EVERYTHING],
        cwd=ROOT,
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    result: dict[str, list[str] | str] = json.loads(finished.stdout.splitlines()[-1])
    return result


def test_no_module_of_the_engine_imports_what_belongs_to_other_rooms() -> None:
    """The static contract sees import statements; this sees what truly gets loaded."""
    loaded = in_a_new_process()
    assert "ssmrl.envs.physics" in loaded["own"]
    assert "ssmrl.__main__" in loaded["own"]
    assert {"torch", "mujoco", "gymnasium"} <= set(loaded["top"])
    assert not set(ELSEWHERE) & set(loaded["top"])


def test_the_compiler_is_not_loaded_with_what_may_be_compiled() -> None:
    """It takes seconds, in every process: each runner of Ray's, each command."""
    assert in_a_new_process()["compiler"] == []


def test_matrix_products_are_made_independent_of_alignment() -> None:
    """Results would otherwise depend on how tasks are split; a user's own choice is kept."""
    assert in_a_new_process()["cbwr"] == "AUTO,STRICT"
    assert in_a_new_process(MKL_CBWR="COMPATIBLE")["cbwr"] == "COMPATIBLE"
