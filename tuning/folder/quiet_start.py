"""Clean exit of a command stopped while it starts: one line, and 128 plus the signal's number.

It imports nothing slow, so that it can run before the slow imports.
"""

import os
import signal
import sys
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The stop signals: sent by Ctrl-C, by a job scheduler, by a closed terminal."""

NOTHING_BEGUN = "\nstopped before it began\n"


def quiet_start() -> None:
    """On a stop signal from now on, print one line and exit with 128 plus the signal's number."""

    def stop(number: int, frame: Any) -> None:
        tell(NOTHING_BEGUN)
        os._exit(128 + number)

    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)


def tell(text: str) -> None:
    """Write to stderr from a signal handler, which may have interrupted another write."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except RuntimeError:  # Python's buffered streams are not reentrant
        os.write(2, text.encode())
    except OSError:
        pass  # in a pipeline, Ctrl-C ends the reader of stderr too
