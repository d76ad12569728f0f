"""Where a run is kept: a folder of this machine, by the name of the run; it makes none."""

import os
import re
import time
from contextlib import suppress
from pathlib import Path

from ssmrl.files import check_mounted

JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray in the processes of a job that was handed in."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_OF_WINDOWS = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?|.*\.", re.IGNORECASE)
_STARTED = ("config.json", "device.json", "ledger.jsonl", "warm_start.jsonl", ".lock", ".owner")


def run_folder(storage: Path, name: str) -> Path:
    """Where a run of this name is kept; inside a job of Ray the whole path, which is printed.

    Args:
        storage: Folder of all runs.
        name: Of the run.

    Raises:
        ValueError: If the name could lead out of the storage folder, or that is none of this
            machine.

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
            "`--name` must be one that every system can hold, but Windows cannot hold a folder "
            f"{name!r}; choose another"
        )
    check_mounted("--storage", storage)
    folder = storage / name
    return folder.absolute() if JOB_VARIABLE in os.environ else folder


def default_name(*parts: str) -> str:
    """The name of a run that was given none: what it is about, and the time.

    Args:
        parts: What it is about; of an import path the colon becomes a dot, which every system's
            file names can have.

    Example:
        >>> default_name("my_package.tasks:FAMILY", "ssm")[:26]
        'my_package.tasks.FAMILY-ss'
    """
    label = "-".join(part.replace(":", ".") for part in parts)
    return f"{label}-{time.strftime('%Y%m%d-%H%M%S')}"


def contents(folder: Path) -> frozenset[str]:
    """The names of what is in a folder; nothing if there is none."""
    return frozenset(os.listdir(folder)) if folder.is_dir() else frozenset()


def forget_start(folder: Path, before: frozenset[str]) -> None:
    """Remove what a start left that was refused before its first round, so that its name is free.

    Args:
        folder: Of the run; it stays if anything else is in it.
        before: What was in it before the start, and stays.
    """
    if {"rounds.jsonl", "trials.jsonl"} & contents(folder):
        return
    for name in set(_STARTED) - before:
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
