"""The Containerfile's own steps, without a container: what they copy and install works."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from cluster.check import LAUNCH
from cluster.launch.container_rules import Instruction, instructions
from tests.cluster.installed import put, required

ROOT = Path(__file__).resolve().parents[2]
FOREIGN = ("RAY_", "PYTHONPATH", "VIRTUAL_ENV", "SSMRL_")


def build_stage() -> list[Instruction]:
    """Of the first stage."""
    steps = instructions((LAUNCH / "Containerfile").read_text())
    second = [index for index, step in enumerate(steps) if step.name == "FROM"][1]
    return steps[1:second]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_steps_give_a_working_installation(tmp_path: Path) -> None:
    """The one real installation of the tests.

    Of the distributions that the project asks for, those that this interpreter has are there
    already, and no others: pip fetches what they do not satisfy, and what nobody asked for is
    missing afterwards.
    """
    if shutil.disk_usage(tmp_path).free < 4e9:
        pytest.skip("needs 4 GB of disk")
    project, environment, elsewhere = (tmp_path / name for name in ("project", "venv", "empty"))
    elsewhere.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}

    def run(command: str) -> str:
        done = subprocess.run(
            ["sh", "-ec", command],
            cwd=project,
            env=kept | {"HOME": str(tmp_path), "PIP_CACHE_DIR": pip_cache()},
            capture_output=True,
            text=True,
            timeout=800,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    said: dict[str, str] = {}
    for step in build_stage():
        if step.name == "COPY":
            *sources, target = shlex.split(step.text)
            for source in sources:
                copy(ROOT / source, project / target / Path(source).name, project / target)
        elif step.name == "WORKDIR":
            project.mkdir()
        elif step.text == "python -m venv /opt/venv":
            venv.create(environment, with_pip=True, symlinks=True)
        elif step.name == "RUN":
            command = step.text.replace("/opt/venv", str(environment))
            if wanted := re.search(r"pip install .*\.\[([\w,]+)\]", command):
                provide(required(project / "pyproject.toml", wanted[1].split(",")), environment)
            said[step.text] = run(command.replace("cd / ", f"cd {elsewhere} "))

    assert any("--num-samples" in text for text in said.values())
    assert "(4, 27)\n" in said.values()  # four ants were observed
    python = environment / "bin" / "python"
    where = run(f"cd {elsewhere} && {python} -c 'import cluster; print(cluster.__file__)'")
    assert Path(where.strip()).is_relative_to(environment)
    # The launch files came along, and the installed check finds no fault in them.
    check = f"cd {elsewhere} && {python} -m cluster.check --constraints {project}/constraints.txt"
    assert run(check).count("venv/lib") >= 8
    size = "--task point --num-samples 2 --max-env-steps 800 --num-confirmed 0 --json"
    size += " --max-concurrent 1"
    sweep = f"cd {elsewhere} && {python} -m tuning.sweep {size} --name smoke"
    assert json.loads(run(sweep).splitlines()[-1])["best_trial"] in ("t0000", "t0001")
    assert (elsewhere / "runs" / "smoke" / "trials.csv").is_file()
    shutil.rmtree(environment)  # pytest would keep it, three times over


def provide(distributions: dict[str, Distribution], environment: Path) -> None:
    """Put distributions into an environment, instead of those that it was made with."""
    python, (site_packages,) = (
        environment / "bin" / "python",
        environment.glob("lib/*/site-packages"),
    )
    command = [python, "-m", "pip", "uninstall", "-q", "-y", "setuptools"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert "torch" in distributions
    put(distributions.values(), site_packages)


def pip_cache() -> str:
    """Where pip keeps what it downloaded, whatever HOME a step has."""
    command = [sys.executable, "-m", "pip", "cache", "dir"]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False
    ).stdout.strip()


def copy(source: Path, target: Path, folder: Path) -> None:
    """As COPY does: a folder's content goes into the target, a file beside or onto it."""
    if source.is_dir():
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def test_all_that_a_copy_names_exists_and_is_let_through() -> None:
    """The ignore file beside the Containerfile names the same things as its COPY steps."""
    copied = {
        source
        for step in build_stage()
        if step.name == "COPY"
        for source in shlex.split(step.text)[:-1]
    }
    assert all((ROOT / name).exists() for name in copied)
    lines = (LAUNCH / "Containerfile.dockerignore").read_text().splitlines()
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == copied
    assert "*" in lines
