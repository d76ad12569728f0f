"""An owner file that keeps a run folder to one process, where file locks fail or have no effect.

The kernel releases a lock when its holder dies, but a file stays. So the file names the process
that made it, and a later process checks whether that one is alive: on this machine by process id
and start time, on another machine by the file's heartbeat.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from ssmrl.strict_json import json_object, json_text

OWNER = ".owner"
"""The file's name."""

BEAT_S, WATCH_S = 3.0, 15.0
"""Heartbeat period of an owner, and how long a heartbeat from another machine is awaited [s]."""

_WRITTEN_WITHIN_S = 1.0
_ATTEMPTS = 5


class OwnedError(RuntimeError):
    """A living process owns a folder; the message names it."""


@dataclass(frozen=True)
class Owner:
    """A process that works on a folder.

    Attributes:
        pid: Process id.
        host: Host name of its machine.
        since: Time at which it took the folder, in seconds since 1970.
        boot: Boot id of the machine at that time.
        space: PID namespace that ``pid`` counts in: containers have their own.
        began: Start time of the process in the kernel's clock ticks since boot.
        file: Inode number of the owner file: a copy has another.
    """

    pid: int
    host: str
    since: int
    boot: str
    space: str
    began: str
    file: int

    def __str__(self) -> str:
        """The owner as error messages show it."""
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"process {self.pid} on {self.host}, since {since}"

    def is_alive(self) -> bool | None:
        """Whether it still runs; None if this process cannot tell."""
        if self.host != socket.gethostname():
            return None
        if self.boot != _boot():
            return False
        if self.space != _space():
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except (OSError, OverflowError):
            pass  # a process of another user
        state, began = _state(self.pid)
        return state != "Z" and (not began or began == self.began)


def read_owner(folder: Path) -> Owner | None:
    """The owner that a folder's file names; None if there is no valid file or it is a copy.

    Args:
        folder: Folder of a run.
    """
    path = folder / OWNER
    try:
        with path.open("rb") as file:
            told = json_object(file.read(), OWNER)
            own = os.fstat(file.fileno()).st_ino
        owner = Owner(
            int(told["pid"]),
            str(told["host"]),
            int(told["since"]),
            str(told["boot"]),
            str(told["space"]),
            str(told["began"]),
            int(told["file"]),
        )
        str(owner)  # raises if `since` is not a valid time
    except (KeyError, OSError, OverflowError, TypeError, ValueError):
        return None
    return owner if owner.file == own else None


@contextmanager
def owned(folder: Path, *, is_locked: bool) -> Iterator[None]:
    """Own a folder for the duration of the block.

    Args:
        folder: Folder of a run.
        is_locked: Whether a lock is held, too. Then the file may be missing, as on a full disk.

    Raises:
        OwnedError: If a living process owns it.
        OSError: If there is no lock, and no file can be written either.
    """
    path, done = folder / OWNER, threading.Event()
    beat = threading.Thread(target=_beat, args=(path, done), daemon=True)
    try:
        _mine[path] = _claim(path)
    except OSError:
        if not is_locked:
            raise
    else:
        beat.start()
    try:
        yield
    finally:
        done.set()
        if beat.is_alive():
            beat.join(BEAT_S)  # with a timeout, since a dead network file system would block it
        _leave(path)


def leave_all() -> None:
    """Release all owned folders; for a process exit that skips the ``finally`` blocks."""
    for path in list(_mine):
        _leave(path)


_mine: dict[Path, bytes] = {}


def _leave(path: Path) -> None:
    mine = _mine.pop(path, None)
    with suppress(OSError):
        if path.read_bytes() == mine:
            path.unlink()


def _claim(path: Path) -> bytes:
    """Create the owner file and return its content."""
    for _ in range(_ATTEMPTS):
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            _see_gone(path)
            continue
        try:
            content = json_text(asdict(_self(os.fstat(handle).st_ino))).encode()
            os.write(handle, content)
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(handle)
        return content
    raise OwnedError("others, which start and stop")


def _see_gone(path: Path) -> None:
    """Remove the file of a dead owner; raise if the owner is alive."""
    try:
        content, began = path.read_bytes(), time.monotonic()
        while not content and time.monotonic() - began < _WRITTEN_WITHIN_S:
            time.sleep(0.02)  # it is being written
            content = path.read_bytes()
    except FileNotFoundError:
        return
    owner = read_owner(path.parent)
    if owner is not None:
        is_alive = owner.is_alive()
        if is_alive or (is_alive is None and _beats(path)):
            raise OwnedError(str(owner))
    # Another process may have replaced the file meanwhile, so the removed file is checked again.
    taken = path.with_name(f"{OWNER}.{socket.gethostname()}.{os.getpid()}")
    with suppress(FileNotFoundError):
        path.rename(taken)
        if taken.read_bytes() != content and not path.exists():
            taken.rename(path)
        else:
            taken.unlink()


def _beats(path: Path) -> bool:
    """Whether an owner on another machine or in a container touches its file in ``WATCH_S``."""
    began, first = time.monotonic(), _touched(path)
    while time.monotonic() - began < WATCH_S:
        if _touched(path) != first:
            return True
        time.sleep(0.2)
    return False


def _touched(path: Path) -> int:
    """The file's mtime [ns]; opening it makes a network file system refresh the value."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_mtime_ns
    except OSError:
        return 0


def _beat(path: Path, done: threading.Event) -> None:
    while not done.wait(BEAT_S):
        with suppress(OSError):
            os.utime(path)


def _self(file: int) -> Owner:
    pid = os.getpid()
    _, began = _state(pid)
    return Owner(pid, socket.gethostname(), int(time.time()), _boot(), _space(), began, file)


def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _space() -> str:
    with suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""


def _state(pid: int) -> tuple[str, str]:
    """State letter and start time of a process from ``/proc``; empty if unknown."""
    with suppress(OSError, IndexError):
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return words[0], words[19]
    return "", ""
