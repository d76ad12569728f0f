"""``python -m cluster.stop``: end one Ray instance on this host, not a whole cluster."""

import importlib.util
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

# psutil is bundled inside Ray; importing Ray itself would take seconds.
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
    """The temporary folder of the Ray that this environment starts."""
    return Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray"


def ray_processes(folder: Path) -> list[psutil.Process]:
    """The processes of the Ray with a given temporary folder, its raylet first.

    Ray's own programs have their session's folder on their command lines. Workers and agents rename
    themselves, but they and the jobs descend from the raylet. If the raylet has ended before them,
    they are known by the log files that they have open in the folder.

    Args:
        folder: The ``--temp-dir`` of ``ray start``.
    """
    roots = [process for process in psutil.process_iter() if _belongs(process, folder)]
    found = {process.pid: process for process in roots}
    for process in roots:
        try:
            found.update({child.pid: child for child in process.children(recursive=True)})
        except psutil.NoSuchProcess:
            continue
    found.pop(os.getpid(), None)  # in case a job of this cluster calls
    return sorted(found.values(), key=_rank)


def stop(folder: Path, grace: float = _GRACE_SECONDS) -> int:
    """End the Ray with a given temporary folder.

    Args:
        folder: The ``--temp-dir`` of ``ray start``.
        grace: Time between SIGTERM and SIGKILL [s].

    Returns:
        The number of its processes.
    """
    processes = ray_processes(folder)
    for rank in (0, 1, 2):  # processes complain if those they depend on end first
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
    """Whether a word names a server of Ray's, or a Python script of its package."""
    return Path(word).name in _PROGRAMS or (word.endswith(".py") and "/ray/" in word)


def _rank(process: psutil.Process) -> int:
    """The stop order: 0 for the raylet, 2 for the GCS server, which all others use, 1 otherwise."""
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
            help="The `--temp-dir` of `ray start`; by default the one of this environment's Ray.",
        ),
    ] = None,
) -> None:
    """End one Ray instance on this host, and no other.

    Example: ssmrl cluster stop --temp-dir /tmp/ray
    """
    folder = temp_dir() if folder is None else folder
    typer.echo(f"ended {stop(folder)} processes of the Ray in {folder}")


if __name__ == "__main__":
    app()
