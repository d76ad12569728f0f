"""The memory that this process can still allocate."""

from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_LIMIT = Path("/sys/fs/cgroup/memory.max")
_USED = Path("/sys/fs/cgroup/memory.current")


def available_memory() -> int | None:
    """Free memory of the machine or the container, whichever is less [bytes].

    Returns:
        The free memory; None if neither is known, as outside Linux.
    """
    known = [value for value in (_of_machine(), _of_container()) if value is not None]
    return min(known) if known else None


def _of_machine() -> int | None:
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None


def _of_container() -> int | None:
    try:
        return max(0, int(_LIMIT.read_text()) - int(_USED.read_text()))
    except (OSError, ValueError):  # missing files, or "max" for no limit
        return None
