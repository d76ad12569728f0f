"""Ends the processes of a private Ray if its driver is killed; Ray does so only partly, and late.

A separate process waits for the driver to end, so it notices any cause, SIGKILL included.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_GRACE_SECONDS = 3.0
_ALL_IS_WELL = b"ended"

# The pipe closes when the driver ends. Ray is imported only then: most drivers end normally.
_WAIT = f"""
import sys
if sys.stdin.buffer.read() != {_ALL_IS_WELL!r}:
    sys.path.insert(0, sys.argv[1])
    from pathlib import Path
    from cluster.stop import stop
    stop(Path(sys.argv[2]), {_GRACE_SECONDS})
"""


@contextmanager
def no_orphans(session: Path) -> Iterator[None]:
    """End the processes of a private Ray if this process dies within the block.

    Args:
        session: Folder of its session, which appears on the command lines of its processes.
    """
    root = Path(__file__).resolve().parents[1]
    waiting = subprocess.Popen(
        [sys.executable, "-c", _WAIT, str(root), str(session)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # survives signals to the driver's process group
    )
    try:
        yield
    finally:
        with suppress(BrokenPipeError):
            waiting.communicate(_ALL_IS_WELL)
