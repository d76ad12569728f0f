"""A driver as a separate process, with a record of every process that it starts."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import ray  # noqa: F401  (it makes its own copy of psutil importable)

import psutil  # isort: skip

GONE_WITHIN_S = 20.0
"""Time after which the remaining processes of a dead driver are killed [s]."""

_LONGEST_END_S = 60.0


class DriverProcess:
    """A running driver.

    Args:
        command: Command to run.
        log: File its output is appended to.
        environment: Variables added to this process's environment.
    """

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        with log.open("ab") as file, _all_heard():
            self._process = subprocess.Popen(
                command,
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=os.environ | dict(environment or {}),
            )
        self._started: dict[int, float] = {}  # kernel start time of each process, by pid

    @property
    def pid(self) -> int:
        """Process id of the driver itself."""
        return self._process.pid

    def code(self) -> int | None:
        """Exit code; None while the driver runs."""
        return self._process.poll()

    def look(self) -> None:
        """Record all processes it has started: those of a dead parent cannot be found later."""
        for pid in (self.pid, *self._started):
            with suppress(psutil.Error):
                for child in psutil.Process(pid).children(recursive=True):
                    with suppress(psutil.Error):
                        self._started.setdefault(child.pid, child.create_time())

    def left(self) -> dict[int, str]:
        """Processes it started that still run, as names by pid."""
        return {pid: _name(pid) for pid, began in self._started.items() if _is_running(pid, began)}

    def has_started(self, pid: int) -> bool:
        """Whether it started this process."""
        self.look()
        return pid in self._started

    def end(self, number: signal.Signals) -> tuple[int, float]:
        """Send it a signal and wait.

        Returns:
            Its exit code, and how long that took [s].
        """
        self.look()
        began = time.monotonic()
        self._process.send_signal(number)
        while self._process.poll() is None and time.monotonic() - began < _LONGEST_END_S:
            self.look()
            time.sleep(0.05)
        seconds = time.monotonic() - began
        self._process.kill()
        return self._process.wait(), seconds

    def wait_until_gone(self) -> tuple[list[str], float]:
        """Wait until the processes it started have ended, and kill those that remain.

        Returns:
            Names of the killed processes, and how long it waited [s].
        """
        began = time.monotonic()
        while (left := self.left()) and time.monotonic() - began < GONE_WITHIN_S:
            time.sleep(0.05)
        seconds = time.monotonic() - began
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return sorted(left.values()), seconds


@contextmanager
def _all_heard() -> Iterator[None]:
    """Let new children handle signals that ``nohup`` or a shell made this process ignore."""
    ignored = [n for n in (signal.SIGHUP, signal.SIGINT) if signal.getsignal(n) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)


def _is_running(pid: int, began: float) -> bool:
    try:
        process = psutil.Process(pid)
        return bool(process.create_time() == began and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _name(pid: int) -> str:
    """What a process runs: a program's file, a module, or what the process calls itself."""
    try:
        words = psutil.Process(pid).cmdline()
    except psutil.Error:
        return "ended meanwhile"
    files = [Path(word).name for word in words if word.endswith(".py")]
    modules = [after for word, after in pairwise(words) if word == "-m"]
    return (files or modules or [Path(words[0]).name if words else "without a name"])[0]
