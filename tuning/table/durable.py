"""Files of JSON lines that outlive a killed process: what was appended is there, and whole."""

import errno
import json
import os
import warnings
from functools import partial
from pathlib import Path

from ssmrl.disk_room import with_room


def append_line(path: Path, line: str) -> None:
    """Adds one line and returns when it is on the disk.

    The line is written in one call. If that fails half-way (a full disk), the half is taken back,
    so that a later line does not run into it.

    Where the disk is full, room is waited for.

    Raises:
        OSError: If the file cannot be written; it is then as it was before.
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
    """The complete lines of a file of JSON lines, after setting a torn last one aside.

    A process that is killed while it appends leaves a last line without its end. It is moved to
    ``<path>.torn``, so that no byte is lost, and a warning says so.

    Args:
        path: The file; it is cut back to its complete lines.

    Returns:
        The lines without their ends, each of them valid JSON; none if there is no file.

    Raises:
        ValueError: If another line than the last is not JSON: the file was damaged, not torn.
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
                "the file was changed by something else: restore it or start under another name."
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
