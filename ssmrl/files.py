"""Whole files, replaced so that no reader finds a part of one; folders of this machine alone."""

import os
import re
import tempfile
from pathlib import Path

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")  # a Path has left one of the slashes


def replace_file(path: Path, content: str | bytes) -> None:
    """Writes a whole file so that a reader finds the old one or the new one, never a part.

    Args:
        path: The file; its folder is there.
        content: Bytes, or text, which is written as UTF-8.

    Raises:
        OSError: If the folder cannot be written; the old file is then untouched.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # mkstemp's 0600 would keep the report from the user's colleagues
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def check_mounted(flag: str, folder: Path) -> None:
    """See that a folder is one of this machine.

    Args:
        flag: Of the command line, that gave it.
        folder: Need not exist.

    Raises:
        ValueError: If it is an address.
    """
    if _URL.match(str(folder)):
        raise ValueError(
            f"`{flag}` must be a folder that is mounted here, but got {str(folder)!r}, which "
            "reads like an address: runs are gone on from in place, which object stores do not "
            "allow; copy the finished folder there"
        )


def part_path(path: Path) -> Path:
    """Where this process writes a file until it is whole."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def clear_parts(path: Path) -> None:
    """Remove what processes of this machine that are dead left half written of a file."""
    for part in path.parent.glob(f".{path.name}.*.part"):
        pid = part.name.split(".")[-2]
        if pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            part.unlink(missing_ok=True)


def aside(path: Path) -> Path:
    """A name beside a damaged file under which nothing is kept yet."""
    number = 1
    while (found := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return found
