"""Ends what a private Ray leaves behind where its driver is killed; Ray does so in part, and late.

A process of its own waits for the end of the driver: so whatever ends that is noticed.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_GRACE_SECONDS = 3.0
_ALL_IS_WELL = b"ended"

# The pipe ends when the driver does. Nothing of Ray is imported before: most drivers end well.
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
    """End the processes of a private Ray if this one dies within the block.

    Args:
        session: The folder of its session, which its processes have on their command lines.
    """
    root = Path(__file__).resolve().parents[1]
    waiting = subprocess.Popen(
        [sys.executable, "-c", _WAIT, str(root), str(session)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # what ends the driver's group does not end it
    )
    try:
        yield
    finally:
        with suppress(BrokenPipeError):
            waiting.communicate(_ALL_IS_WELL)
