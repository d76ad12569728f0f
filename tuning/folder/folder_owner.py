"""Who works on a folder, in a file of it; for file systems whose locks fail, or hold nobody back.

The kernel lets go of a lock when its holder dies; a file stays. So the file says who made it, and
whoever comes later finds out whether that process lives: of this machine by its number and when it
began, of another one by its beat.
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
"""How often an owner shows that it lives, and how long one of another machine is looked at [s]."""

_WRITTEN_WITHIN_S = 1.0
_ATTEMPTS = 5


class OwnedError(RuntimeError):
    """A living process owns a folder; the message names it."""


@dataclass(frozen=True)
class Owner:
    """A process that works on a folder.

    Attributes:
        pid: Its number.
        host: Its machine.
        since: When it came, in seconds since 1970.
        boot: Which start of the machine that was.
        space: In which space its number counts: containers have their own.
        began: When the kernel began it, by the clock of the machine's start.
        file: The number of the file itself: a copy has another.
    """

    pid: int
    host: str
    since: int
    boot: str
    space: str
    began: str
    file: int

    def __str__(self) -> str:
        """As a message names it."""
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"process {self.pid} on {self.host}, since {since}"

    def is_alive(self) -> bool | None:
        """Whether it still runs; None if that cannot be told from here."""
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
            pass  # another user's
        state, began = _state(self.pid)
        return state != "Z" and (not began or began == self.began)


def read_owner(folder: Path) -> Owner | None:
    """Who says to own a folder; None if nobody does, or only in a file that was copied.

    Args:
        folder: Of a run.
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
        str(owner)  # a time that no clock has is none
    except (KeyError, OSError, OverflowError, TypeError, ValueError):
        return None
    return owner if owner.file == own else None


@contextmanager
def owned(folder: Path, *, is_locked: bool) -> Iterator[None]:
    """Own a folder for a while.

    Args:
        folder: Of a run.
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
            beat.join(BEAT_S)  # but not for ever, of a network that is gone
        _leave(path)


def leave_all() -> None:
    """Own nothing any more; before an end of the process that no block sees."""
    for path in list(_mine):
        _leave(path)


_mine: dict[Path, bytes] = {}


def _leave(path: Path) -> None:
    mine = _mine.pop(path, None)
    with suppress(OSError):
        if path.read_bytes() == mine:
            path.unlink()


def _claim(path: Path) -> bytes:
    """Make the file; what is in it."""
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
    raise OwnedError("others, which come and go")


def _see_gone(path: Path) -> None:
    """Take away the file of an owner that is gone."""
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
    # Others may see the same and be faster: what is taken away is looked at once more.
    taken = path.with_name(f"{OWNER}.{socket.gethostname()}.{os.getpid()}")
    with suppress(FileNotFoundError):
        path.rename(taken)
        if taken.read_bytes() != content and not path.exists():
            taken.rename(path)
        else:
            taken.unlink()


def _beats(path: Path) -> bool:
    """Whether an owner that cannot be seen shows that it lives."""
    began, first = time.monotonic(), _touched(path)
    while time.monotonic() - began < WATCH_S:
        if _touched(path) != first:
            return True
        time.sleep(0.2)
    return False


def _touched(path: Path) -> int:
    """When the file was touched; opened for it, since a network file system looks again then."""
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
    """What a process does, in a letter, and when it began; empty where nothing tells."""
    with suppress(OSError, IndexError):
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return words[0], words[19]
    return "", ""
