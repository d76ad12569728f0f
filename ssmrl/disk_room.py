"""Writes that wait until the disk has room for them, instead of ending what they belong to."""

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
"""So long room is waited for [s]."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_SECONDS_BETWEEN = 1.0

Result = TypeVar("Result")


def is_full(error: BaseException | None) -> bool:
    """Whether an error says that a disk, or somebody's share of it, is full."""
    return isinstance(error, OSError) and error.errno in _FULL


def free_room(path: Path) -> int:
    """What is free where a file is, or would be [bytes]."""
    folder = path
    while not folder.is_dir():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def with_room(
    write: Callable[[], Result], path: Path, *, patience_s: float | None = None
) -> Result:
    """Write; while the disk is full, say so in one line and try again every second.

    Args:
        write: May be called again after it failed.
        path: What is written, for the line.
        patience_s: How long; by default ``PATIENCE_S`` [s].

    Raises:
        OSError: If the disk is still full then, or whatever else ``write`` raises.
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
        beat()  # it waits, it does not hang
        time.sleep(_SECONDS_BETWEEN)


def wait_for_room(folder: Path, num_bytes: int) -> None:
    """Return as soon as so many bytes can be written, or after ``PATIENCE_S`` anyway.

    Args:
        folder: Where.
        num_bytes: How many; they are written and removed [bytes].

    Raises:
        OSError: If they still cannot be written then.
    """
    probe = folder / f".room.{os.getpid()}.part"

    def write() -> None:
        try:
            probe.write_bytes(bytes(num_bytes))
        finally:
            probe.unlink(missing_ok=True)

    with_room(write, folder)


def no_room(path: Path, patience_s: float) -> str:
    """One line for whoever can make room."""
    return (
        f"no room on the disk for {path}: {free_room(path):,} bytes are free; it goes on when "
        f"there is more, and gives up after {patience_s:.0f} s"
    )
