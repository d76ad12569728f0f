"""The end of a command that has only begun to start: 128 and the signal's number, and one line.

Imports nothing that takes its time, so that it can come before all that does.
"""

import os
import signal
import sys
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ask for the end: Ctrl-C, a scheduler, a terminal that is closed."""

NOTHING_BEGUN = "\nstopped before it began\n"


def quiet_start() -> None:
    """Before there is anything to go on with, Ctrl-C ends the process with 130 and one line."""

    def stop(number: int, frame: Any) -> None:
        tell(NOTHING_BEGUN)
        os._exit(128 + number)

    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)


def tell(text: str) -> None:
    """Write to stderr from a signal's handler, which may have come in the middle of a write."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except RuntimeError:  # Python does not enter its own buffer twice
        os.write(2, text.encode())
    except OSError:
        pass  # of a pipeline, Ctrl-C ends the reader too: nobody is left to be told
