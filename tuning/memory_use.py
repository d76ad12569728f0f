"""Peak memory of this process, and how many processes the kernel killed to free memory."""

import re
import resource
from contextlib import suppress
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
_FORGET_PEAK = "5"

_COUNTERS = (
    Path("/sys/fs/cgroup/memory.events"),  # version 2 of control groups
    Path("/sys/fs/cgroup/memory/memory.oom_control"),  # version 1
    Path("/proc/vmstat"),
)
_KILLS = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


def forget_peak() -> None:
    """Reset the peak of this process, where the system allows it."""
    with suppress(OSError):  # else it is the peak of the process's whole life, which is not less
        _CLEAR.write_text(_FORGET_PEAK)


def peak_bytes() -> int:
    """The most memory that this process held since ``forget_peak`` [bytes]."""
    try:
        found = _PEAK.search(_STATUS.read_text())
    except OSError:
        found = None
    kilobytes = int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * 1024


def num_memory_kills() -> int:
    """How many processes of this machine the kernel has killed so far because memory ran out."""
    counts = [0]
    for path in _COUNTERS:
        try:
            counts += map(int, _KILLS.findall(path.read_text()))
        except OSError:
            continue
    return max(counts)
