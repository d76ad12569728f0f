"""Exclusive use of a run's folder by one process, and an orderly end when it is stopped."""

import errno
import fcntl
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TextIO

from tuning.folder.folder_owner import OwnedError, leave_all, owned, read_owner
from tuning.folder.quiet_start import NOTHING_BEGUN, SIGNALS, tell


class FolderError(RuntimeError):
    """A folder cannot be used to store a run; the message says why."""


class BusyError(FolderError):
    """Another process is working on the same folder."""


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a folder for one driver: two would lose each other's trials, so the second is refused.

    A lock decides which driver is first, and an owner file names it. If the file system has no
    locks, or grants them to all, as some network file systems do, the owner file decides.

    Raises:
        BusyError: If another process holds the folder.
        FolderError: If the folder cannot be written.
    """
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FolderError(f"{folder} cannot be written; change its mode, or copy it elsewhere")
    try:
        lock = (folder / ".lock").open("a+")
    except OSError as error:
        raise FolderError(f"{folder} cannot be written: {error}") from error
    with lock as file:
        is_locked = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise _busy(folder, _name(folder)) from error
            is_locked = False  # some network file systems have no locks
        with ExitStack() as held:
            try:
                held.enter_context(owned(folder, is_locked=is_locked))
            except OwnedError as error:
                raise _busy(folder, str(error)) from error
            except OSError as error:
                raise FolderError(
                    f"{folder} cannot be kept for one process: its file system has no locks, and "
                    f"the owner file cannot be written: {error}; use another folder"
                ) from error
            yield


def _busy(folder: Path, owner: str) -> BusyError:
    owner = owner and f": {owner}"
    return BusyError(f"another process is working on the sweep in {folder}{owner}")


def _name(folder: Path) -> str:
    """The lock holder as its owner file names it; empty if none appears within 1 s."""
    for _ in range(20):
        owner = read_owner(folder)
        if owner is not None and owner.is_alive() is not False:
            return str(owner)
        time.sleep(0.05)
    return ""


_BEGUN = ("config.json", "rounds.jsonl", "trials.jsonl")
_handlers: dict[signal.Signals, Any] = {}


@contextmanager
def interruptible(command: str, folder: Path) -> Iterator[None]:
    """On a stop signal: print how to resume, stop Ray, and exit with 128 plus the signal's number.

    If nothing is recorded yet, there is nothing to resume, and the message says so.

    Stop signals are Ctrl-C, SIGTERM and, unless started with ``nohup``, the terminal's closing.
    Inside the block, a reader of the output that goes away does not stop the run.
    """

    def stop(number: int, frame: Any) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        if any((folder / name).exists() for name in _BEGUN):
            tell(f"\nstopped; finished trials are kept in {folder}. Resume with:\n  {command}\n")
        else:
            tell(NOTHING_BEGUN)
        _stop_ray()
        leave_all()
        os._exit(128 + number)

    _handlers.update(
        (number, stop)
        for number in SIGNALS
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
    """Reinstall the handlers of ``interruptible``: Ray replaces some when it starts."""
    for number, handler in _handlers.items():
        signal.signal(number, handler)


class _Lasting(io.TextIOBase):
    """A stream that outlives its reader: output is dropped once the reader is gone.

    Args:
        stream: The wrapped stream.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or drop the text if the reader is gone."""
        try:
            return self._stream.write(text)
        except OSError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        """Flush, unless the reader is gone."""
        try:
            self._stream.flush()
        except OSError:
            self._drop()

    def _drop(self) -> None:
        """Redirect the stream to ``/dev/null``, with what is buffered and all later output."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        with suppress(OSError):
            os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def fileno(self) -> int:
        """The wrapped stream's file descriptor."""
        return self._stream.fileno()

    def isatty(self) -> bool:
        """Whether the wrapped stream is a terminal."""
        return self._stream.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The wrapped stream's encoding."""
        return self._stream.encoding


def _stop_ray() -> None:
    """Shut Ray down, waiting at most 3 s, and show the terminal's cursor again."""
    # Ray is not imported here: if its import was interrupted, there is nothing to shut down.
    shutdown = getattr(sys.modules.get("ray"), "shutdown", None)
    if shutdown is not None:
        thread = threading.Thread(target=shutdown, daemon=True)
        thread.start()
        thread.join(3.0)
    if sys.stdout.isatty():
        sys.stdout.write("\x1b[?25h")  # the live view hides the cursor
        sys.stdout.flush()
