"""Ending one Ray ends what belongs to it, and nothing whose name or place only looks alike."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.stop import app, psutil, ray_processes, stop, temp_dir

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Processes whose command line begins with a name and ends with an option."""
    started: list[subprocess.Popen[bytes]] = []

    def shell(name: str, option: str, does: str = "sleep 100 & wait") -> "subprocess.Popen[bytes]":
        process = subprocess.Popen([name, "-c", does, option], executable="/bin/sh")
        started.append(process)
        return process

    yield shell
    for process in started:
        for child in psutil.Process(process.pid).children() if process.poll() is None else []:
            child.kill()
        process.kill()
        process.wait()


def children(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    while not (found := psutil.Process(process.pid).children()):
        assert process.poll() is None
    return found


def test_all_of_one_ray_ends_and_nothing_else(tmp_path: Path, start: Start) -> None:
    ours, alike = tmp_path / "ray", tmp_path / "ray2"
    raylet = start("/x/ray/core/raylet", f"--temp_dir={ours}")
    server = start("/x/ray/core/gcs_server", f"--session-dir={ours}/session_1")
    dashboard = start("/x/ray/dashboard/dashboard.py", f"--temp-dir={ours}")
    (worker,) = children(raylet)  # it names no folder
    bystanders = [
        start("/x/ray/core/raylet", f"--temp_dir={alike}"),
        start("/x/ray/core/gcs_server", f"--session-dir={alike}/session_1"),
        start("/usr/bin/tail", f"{ours}/session_1/logs/monitor.log"),
        start("/x/ray/dashboard/dashboard.py", f"--temp-dir={ours.parent}"),
    ]
    found = ray_processes(ours)
    expected = {raylet.pid, server.pid, dashboard.pid, worker.pid}
    expected |= {child.pid for process in (server, dashboard) for child in children(process)}
    assert {process.pid for process in found} == expected
    assert stop(ours) == len(expected)
    assert not any(psutil.pid_exists(process.pid) for process in (raylet, server, dashboard))
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
    assert all(process.poll() is None for process in bystanders)
    assert stop(ours) == 0


def test_what_does_not_end_by_itself_is_killed(tmp_path: Path, start: Start) -> None:
    ready = tmp_path / "ready"
    stubborn = start(
        "raylet", f"--temp_dir={tmp_path}", f"trap '' TERM; touch {ready}; while :; do :; done"
    )
    while not ready.exists():
        assert stubborn.poll() is None
    stop(tmp_path, grace=0.2)
    assert not psutil.pid_exists(stubborn.pid)


def test_the_folder_is_this_environments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert temp_dir() == tmp_path / "ray"
    run = CliRunner().invoke(app, [])
    assert (run.exit_code, run.output) == (0, f"ended 0 processes of the Ray in {tmp_path}/ray\n")
    monkeypatch.delenv("RAY_TMPDIR")
    assert temp_dir() == Path("/tmp/ray")
    assert CliRunner().invoke(app, ["--temp", "x"]).exit_code == 2


def test_the_command_runs(tmp_path: Path) -> None:
    """In its own process, where nothing has brought psutil along before."""
    done = subprocess.run(
        [sys.executable, "-m", "cluster.stop", "--temp-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"ended 0 processes of the Ray in {tmp_path}\n")
