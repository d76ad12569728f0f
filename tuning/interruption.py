"""What a long run owes to others: one process at a time, and an orderly end when it is stopped."""

import fcntl
import io
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TextIO


class FolderError(RuntimeError):
    """Nothing can be kept in a folder; the message says why."""


class BusyError(FolderError):
    """Another process is working on the same folder."""


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Two drivers on one folder would lose each other's trials: the second is refused.

    Raises:
        BusyError: If there is a first one.
        FolderError: If the folder cannot be written.
    """
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FolderError(f"{folder} cannot be written; change its mode, or copy it elsewhere")
    try:
        lock = (folder / ".lock").open("a+")
    except OSError as error:
        raise FolderError(f"{folder} cannot be written: {error}") from error
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = _owner(folder / ".lock")
            raise BusyError(
                f"another process is working on the sweep in {folder}" + (owner and f": {owner}")
            ) from error
        with suppress(OSError):  # on a full disk nobody can be named
            file.truncate(0)
            file.write(f"{os.getpid()} {time.time():.0f} {socket.gethostname()}\n")
            file.flush()
        yield


def _owner(lock: Path) -> str:
    """Who holds a folder, as that process wrote it down; empty if it has not yet."""
    try:
        pid, since, host = lock.read_text().split()
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(int(since)))
    except (OSError, ValueError, OverflowError):
        return ""
    return f"process {pid} on {host}, since {began}"


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_handlers: dict[signal.Signals, Any] = {}


def quiet_start() -> None:
    """Before there is anything to go on with, Ctrl-C ends the process with 130 and one line."""

    def stop(number: int, frame: Any) -> None:
        _tell("\nstopped before it began\n")
        os._exit(128 + number)

    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)


@contextmanager
def interruptible(command: str, folder: Path) -> Iterator[None]:
    """At a signal that asks for the end: say how to go on, stop Ray, leave with 128 and its number.

    These are Ctrl-C, SIGTERM and, unless it was started with ``nohup``, a terminal that is closed.
    Meanwhile a reader of the output that goes away stops nothing.
    """

    def stop(number: int, frame: Any) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        _tell(f"\nstopped; finished trials are kept in {folder}. Go on with:\n  {command}\n")
        _stop_ray()
        os._exit(128 + number)

    _handlers.update(
        (number, stop)
        for number in _SIGNALS
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
    )
    previous = {number: signal.signal(number, stop) for number in _handlers}
    try:
        with redirect_stdout(_Lasting(sys.stdout)), redirect_stderr(_Lasting(sys.stderr)):
            yield
    finally:
        _handlers.clear()
        for number, handler in previous.items():
            signal.signal(number, handler)


def hear_signals() -> None:
    """Take the signals of ``interruptible`` back from Ray, which takes some when it starts."""
    for number, handler in _handlers.items():
        signal.signal(number, handler)


class _Lasting(io.TextIOBase):
    """A stream that outlives its reader: what nobody reads any more is dropped.

    Args:
        stream: Where to write.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, if anybody reads."""
        try:
            return self._stream.write(text)
        except OSError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        """Hand on what was written, if anybody reads."""
        try:
            self._stream.flush()
        except OSError:
            self._drop()

    def _drop(self) -> None:
        """Send this and all that follows nowhere; what was buffered, too."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        with suppress(OSError):
            os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def fileno(self) -> int:
        """Of the stream itself."""
        return self._stream.fileno()

    def isatty(self) -> bool:
        """Whether the stream itself is a terminal."""
        return self._stream.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of the stream itself."""
        return self._stream.encoding


def _tell(text: str) -> None:
    """Write to stderr from a signal's handler, which may have come in the middle of a write."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except RuntimeError:  # Python does not enter its own buffer twice
        os.write(2, text.encode())
    except OSError:
        pass  # of a pipeline, Ctrl-C ends the reader too: nobody is left to be told


def _stop_ray() -> None:
    """End Ray and give the terminal back, but wait for it no longer than 3 s."""
    # Not imported here: it may be what was interrupted, and then there is nothing to end.
    shutdown = getattr(sys.modules.get("ray"), "shutdown", None)
    if shutdown is not None:
        thread = threading.Thread(target=shutdown, daemon=True)
        thread.start()
        thread.join(3.0)
    if sys.stdout.isatty():
        sys.stdout.write("\x1b[?25h")  # the live view hides the cursor
        sys.stdout.flush()
