"""Writes that wait while the disk is full, instead of failing."""

import errno
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ssmrl.heartbeat import beat

PATIENCE_S = 600.0
"""How long to wait for free disk space [s]."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_SECONDS_BETWEEN = 1.0

Result = TypeVar("Result")


def is_full(error: BaseException | None) -> bool:
    """Whether an error says that a disk or a disk quota is full."""
    return isinstance(error, OSError) and error.errno in _FULL


def free_room(path: Path) -> int:
    """Free space on the disk of an existing or future file [bytes]."""
    folder = path
    while not folder.is_dir():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def with_room(
    write: Callable[[], Result], path: Path, *, patience_s: float | None = None
) -> Result:
    """Call ``write``; while the disk is full, say so in one line and retry every second.

    Args:
        write: Function that writes; it must allow another call after a failure.
        path: Path being written, for the message.
        patience_s: Timeout; default: ``PATIENCE_S`` [s].

    Raises:
        OSError: If the disk is still full after the timeout, or if ``write`` fails otherwise.
    """
    patience_s = PATIENCE_S if patience_s is None else patience_s
    began: float | None = None
    while True:
        try:
            return write()
        except OSError as error:
            if not is_full(error):
                raise
            if began is None:
                began = time.monotonic()
                print(no_room(path, patience_s), file=sys.stderr, flush=True)
            elif time.monotonic() - began > patience_s:
                raise
        beat()  # waiting is not hanging
        time.sleep(_SECONDS_BETWEEN)


def wait_for_room(folder: Path, num_bytes: int) -> None:
    """Wait until ``num_bytes`` can be written, for at most ``PATIENCE_S``.

    Args:
        folder: Folder to write to.
        num_bytes: Size of a probe file that is written and removed [bytes].

    Raises:
        OSError: If the disk is still full after that time.
    """
    probe = folder / f".room.{os.getpid()}.part"

    def write() -> None:
        try:
            probe.write_bytes(bytes(num_bytes))
        finally:
            probe.unlink(missing_ok=True)

    with_room(write, folder)


def no_room(path: Path, patience_s: float) -> str:
    """One-line message that asks the user to free disk space."""
    return (
        f"no room on the disk for {path}: {free_room(path):,} bytes are free; free some space: "
        f"the write is retried every second for {patience_s:.0f} s"
    )
