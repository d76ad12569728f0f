"""Atomic replacement of files, and checks of folders given on the command line."""

import os
import re
import tempfile
from pathlib import Path

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")  # Path collapses the two slashes to one


def replace_file(path: Path, content: str | bytes) -> None:
    """Write a file atomically: a reader finds the old file or the new one, never a part.

    Args:
        path: Path of the file; its folder must exist.
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
        os.chmod(name, 0o644)  # with mkstemp's 0600 other users could not read it
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def check_mounted(flag: str, folder: Path) -> None:
    """Check that a folder is a path of this machine, not a URL.

    Args:
        flag: Command-line option that gave the folder, for the message.
        folder: Path to check; it need not exist.

    Raises:
        ValueError: If the folder is a URL.
    """
    if _URL.match(str(folder)):
        raise ValueError(
            f"`{flag}` must be a folder that is mounted here, but got {str(folder)!r}, which "
            "looks like a URL: runs are resumed in place, which object stores do not support; "
            "copy the finished folder there"
        )


def part_path(path: Path) -> Path:
    """Path where this process writes a file until it is complete."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def clear_parts(path: Path) -> None:
    """Remove partial files that dead processes of this machine left behind."""
    for part in path.parent.glob(f".{path.name}.*.part"):
        pid = part.name.split(".")[-2]
        if pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            part.unlink(missing_ok=True)


def aside(path: Path) -> Path:
    """An unused path beside a damaged file, to move it to."""
    number = 1
    while (found := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return found
