"""The signs of life of a trial, in a file that the driver reads on any machine."""

import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

from ssmrl.disk_room import with_room
from ssmrl.heartbeat import listen

_SECONDS_BETWEEN = 0.5
_WIDTH = 20  # digits of the count, so that one write replaces the one before


class Sign(NamedTuple):
    """Content of a pulse file.

    Attributes:
        beats: Count of the signs of life; 0 before the first.
        pid: Process id of the trial.
        host: Host name of its machine.
    """

    beats: int
    pid: int
    host: str

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The last content of a pulse file; None if there is none, or it is just being written."""
        try:
            beats, pid, host = path.read_text().split()
            return cls(int(beats), int(pid), host)
        except (OSError, ValueError):
            return None

    def cpu_seconds(self) -> float | None:
        """CPU time of the process so far [CPU s]; None if it is elsewhere or gone."""
        if self.host != socket.gethostname():
            return None
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Pulse:
    """Writes the signs of life of this process to a file, at most twice a second.

    Args:
        path: Path of the file; its folder is created.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._count, self._written = path, 0, -_SECONDS_BETWEEN
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        self._file = with_room(lambda: os.open(path, flags, 0o644), path)
        self._tail = f" {os.getpid()} {socket.gethostname()}\n"
        self._write()
        self._stop = listen(self.beat)

    def beat(self) -> None:
        """Count a sign of life."""
        self._count += 1
        now = time.monotonic()
        if now - self._written >= _SECONDS_BETWEEN:
            self._written = now
            self._write()

    def _write(self) -> None:
        with suppress(OSError):  # a full disk is no reason to stop
            os.pwrite(self._file, f"{self._count:{_WIDTH}d}{self._tail}".encode(), 0)

    def close(self) -> None:
        """Stop, and delete the file."""
        self._stop()
        os.close(self._file)
        self._path.unlink(missing_ok=True)
