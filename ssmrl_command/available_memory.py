"""How much memory this process could still take."""

from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_LIMIT = Path("/sys/fs/cgroup/memory.max")
_USED = Path("/sys/fs/cgroup/memory.current")


def available_memory() -> int | None:
    """What the machine has left, and what the container may still take, whichever is less [bytes].

    Returns:
        None where neither is told, as outside of Linux.
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
    except (OSError, ValueError):  # no such files; or "max", which is no limit
        return None
