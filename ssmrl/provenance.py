"""What made a result: the code's commit, the versions of what computes, and the machine."""

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
    """As JSON holds it; of packages those that are installed, a commit where the code is in git."""
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
    """The commit in which a file is checked out, with ``-dirty`` where something was changed since.

    None where it is in no repository, or lies in one that does not know it: an installed package in
    an environment inside of somebody's own project.
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
    """The maker's name of it, where the system tells."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
