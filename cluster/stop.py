"""``python -m cluster.stop``: end one Ray on this host, and no other; not a whole cluster."""

import importlib.util
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

# It comes with Ray, inside of it; to import Ray itself would take seconds.
if (_RAY := importlib.util.find_spec("ray")) is None:
    raise ModuleNotFoundError("No module named 'ray'", name="ray")
sys.path += [f"{place}/thirdparty_files" for place in _RAY.submodule_search_locations or ()]

import psutil
import typer

from ssmrl.command_line import command_app

app = command_app()

_GRACE_SECONDS = 10.0
_PROGRAMS = ("raylet", "gcs_server")
_RENAMED = "ray::"


def temp_dir() -> Path:
    """Where the Ray that this environment starts keeps its files."""
    return Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray"


def ray_processes(folder: Path) -> list[psutil.Process]:
    """The processes of the Ray that keeps its files in a folder, its raylet first.

    Ray's own programs name their session's folder on their command lines. Workers and agents rename
    themselves, but they and the jobs descend from the raylet; and where that has ended before them,
    they still write their logs into the folder.

    Args:
        folder: What ``ray start`` was given as ``--temp-dir``.
    """
    roots = [process for process in psutil.process_iter() if _belongs(process, folder)]
    found = {process.pid: process for process in roots}
    for process in roots:
        try:
            found.update({child.pid: child for child in process.children(recursive=True)})
        except psutil.NoSuchProcess:
            continue
    found.pop(os.getpid(), None)  # when a job of this very cluster calls
    return sorted(found.values(), key=_rank)


def stop(folder: Path, grace: float = _GRACE_SECONDS) -> int:
    """End the Ray that keeps its files in a folder.

    Args:
        folder: What ``ray start`` was given as ``--temp-dir``.
        grace: How long a process may take to end by itself [s].

    Returns:
        How many processes it had.
    """
    processes = ray_processes(folder)
    for rank in (0, 1, 2):  # what shares the fate of others complains if those end first
        group = [process for process in processes if _rank(process) == rank]
        for process in group:
            _signal(process, kill=False)
        for process in psutil.wait_procs(group, timeout=grace)[1]:
            _signal(process, kill=True)
    psutil.wait_procs(processes, timeout=grace)
    return len(processes)


def _belongs(process: psutil.Process, folder: Path) -> bool:
    try:
        words = process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return False
    if words and words[0].startswith(_RENAMED):
        return _writes_into(process, folder.resolve())
    if not words or not any(_is_program(word) for word in words[:4]):
        return False
    values = [word.rpartition("=")[2] for word in words]
    names = (str(folder), str(folder.resolve()))
    return any(value == name or value.startswith(f"{name}/") for value in values for name in names)


def _writes_into(process: psutil.Process, folder: Path) -> bool:
    try:
        return any(folder in Path(file.path).parents for file in process.open_files())
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return False


def _is_program(word: str) -> bool:
    """Ray's servers, and the scripts of its package that Python runs."""
    return Path(word).name in _PROGRAMS or (word.endswith(".py") and "/ray/" in word)


def _rank(process: psutil.Process) -> int:
    """0 for the raylet, 2 for the one that all others talk to, 1 for what is between."""
    try:
        name = process.name()
    except psutil.NoSuchProcess:
        return 1
    return {"raylet": 0, "gcs_server": 2}.get(name, 1)


def _signal(process: psutil.Process, *, kill: bool) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)


@app.command()
def stop_command(
    folder: Annotated[
        Path | None,
        typer.Option(
            "--temp-dir",
            help="What `ray start` was given; by default the folder of this environment's Ray.",
        ),
    ] = None,
) -> None:
    """End one Ray on this host, and no other.

    Example: ssmrl cluster stop --temp-dir /tmp/ray
    """
    folder = temp_dir() if folder is None else folder
    typer.echo(f"ended {stop(folder)} processes of the Ray in {folder}")


if __name__ == "__main__":
    app()
