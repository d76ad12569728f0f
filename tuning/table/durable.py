"""Files of JSON lines that survive a killed process: every appended line is there and whole."""

import errno
import json
import os
import warnings
from functools import partial
from pathlib import Path

from ssmrl.disk_room import with_room


def append_line(path: Path, line: str) -> None:
    """Appends one line and returns when it is on the disk.

    The line is written in one call. If that fails half-way, the written part is removed, so that a
    later line does not run into it. On a full disk it waits for free space.

    Raises:
        OSError: If the file cannot be written; it is then unchanged.
    """
    with_room(partial(_append, path, line), path)


def _append(path: Path, line: str) -> None:
    with path.open("ab", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        data = f"{line}\n".encode()
        try:
            if (written := file.write(data)) != len(data):
                only = f"only {written} of {len(data)} bytes could be added to {path}"
                raise OSError(errno.ENOSPC, only)
            os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), size)
            raise


def recover_lines(path: Path) -> list[str]:
    """The complete lines of a file of JSON lines, after moving away a torn last line.

    A process that is killed while it appends leaves an incomplete last line. It is moved to
    ``<path>.torn``, so that no byte is lost, with a warning.

    Args:
        path: The file; it is truncated to its complete lines.

    Returns:
        The lines without their newlines, each of them valid JSON; empty if there is no file.

    Raises:
        ValueError: If a line before the last is not JSON: the file was damaged, not torn.
    """
    if not path.exists():
        return []
    *complete, tail = path.read_bytes().split(b"\n")
    if not tail and complete and not _is_json(complete[-1]):
        tail = complete.pop() + b"\n"
    for number, line in enumerate(complete, start=1):
        if not _is_json(line):
            raise ValueError(
                f"every line of {path} must be JSON, but line {number} is {line[:80]!r}; "
                "another program changed the file: restore it or start under another name."
            )
    if tail:
        _set_aside(path, tail)
    return [line.decode() for line in complete]


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)  # noqa: TID251  # Optuna writes NaN into its journal
    except ValueError:  # also what is not UTF-8
        return False
    return True


def _set_aside(path: Path, tail: bytes) -> None:
    torn = path.with_name(f"{path.name}.torn")
    with torn.open("ab") as file:
        file.write(tail if tail.endswith(b"\n") else tail + b"\n")
        file.flush()
        os.fsync(file.fileno())
    os.truncate(path, path.stat().st_size - len(tail))
    warnings.warn(
        f"the last line of {path} was torn ({len(tail)} bytes, probably a killed process); "
        f"it was moved to {torn.name}",
        stacklevel=4,
    )
