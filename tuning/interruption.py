"""What a long run owes to others: one process at a time, and an orderly end when it is stopped."""

import fcntl
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise FolderError(f"{folder} cannot be written: {error}") from error
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BusyError(f"another process is working on the sweep in {folder}") from error
        yield


@contextmanager
def interruptible(command: str, folder: Path) -> Iterator[None]:
    """On Ctrl-C or SIGTERM: say how to go on, stop Ray, and leave with 130 or 143."""

    def stop(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _tell(f"\nstopped; finished trials are kept in {folder}. Go on with:\n  {command}\n")
        _stop_ray()
        os._exit(128 + number)

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


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
