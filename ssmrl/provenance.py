"""Provenance of a result: commit of the code, versions of the libraries, and the machine."""

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("torch", "numpy", "mujoco", "gymnasium", "ray", "optuna")
_CPUINFO = Path("/proc/cpuinfo")


@cache
def provenance() -> dict[str, str | int | dict[str, str] | None]:
    """The provenance as JSON values: only installed packages; the commit is None outside git."""
    return {
        "ssmrl": _version("ssmrl"),
        "commit": _commit(Path(__file__)),
        "python": platform.python_version(),
        "packages": {name: own for name in _PACKAGES if (own := _version(name))},
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit(file: Path) -> str | None:
    """The commit a file is checked out from, with ``-dirty`` if its repository has changes.

    None if the file is not tracked by a repository, such as an installed package in a virtual
    environment inside another project.
    """
    if _git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
        return None
    return _git(file.parent, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *words], cwd=folder, capture_output=True, text=True, check=True, timeout=10.0
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _processor() -> str:
    """Model name of the processor, from ``/proc/cpuinfo`` if it is there."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
