"""The path of a run's folder on this machine, from the run's name; no folder is created here."""

import os
import re
import time
from contextlib import suppress
from pathlib import Path

from ssmrl.files import check_mounted

JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray in the processes of a submitted job."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_OF_WINDOWS = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?|.*\.", re.IGNORECASE)
_STARTED = ("config.json", "device.json", "ledger.jsonl", "warm_start.jsonl", ".lock", ".owner")


def run_folder(storage: Path, name: str) -> Path:
    """The folder of the run with this name; an absolute path inside a Ray job, as it is printed.

    Args:
        storage: Folder of all runs.
        name: Name of the run.

    Raises:
        ValueError: If the name could lead out of the storage folder, or the storage is a URL
            instead of a mounted folder.

    Example:
        >>> run_folder(Path("runs"), "first").as_posix()
        'runs/first'
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            "`--name` must be letters, digits, `.`, `_` and `-`, starting with a letter or digit, "
            f"but got {name!r}"
        )
    if _OF_WINDOWS.fullmatch(name):
        raise ValueError(
            "`--name` must be valid as a folder name on every system, but Windows does not allow "
            f"{name!r}; choose another"
        )
    check_mounted("--storage", storage)
    folder = storage / name
    return folder.absolute() if JOB_VARIABLE in os.environ else folder


def default_name(*parts: str) -> str:
    """The default name of a run: its subject and the time.

    Args:
        parts: Words for its subject. The colon of an import path becomes a dot, which file names
            may contain on every system.

    Example:
        >>> default_name("my_package.tasks:FAMILY", "ssm")[:26]
        'my_package.tasks.FAMILY-ss'
    """
    label = "-".join(part.replace(":", ".") for part in parts)
    return f"{label}-{time.strftime('%Y%m%d-%H%M%S')}"


def contents(folder: Path) -> frozenset[str]:
    """The names of a folder's entries; empty if the folder does not exist."""
    return frozenset(os.listdir(folder)) if folder.is_dir() else frozenset()


def forget_start(folder: Path, before: frozenset[str]) -> None:
    """Remove the files of a start that was refused before its first round, to free its name.

    Args:
        folder: Folder of the run; it stays if anything else is in it.
        before: Names that were in it before the start; they stay.
    """
    if {"rounds.jsonl", "trials.jsonl"} & contents(folder):
        return
    for name in set(_STARTED) - before:
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
