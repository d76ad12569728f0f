"""Setting the clock of Python's own ``time.time`` back by an hour."""

import os
import time

VARIABLE = "SSMRL_CLOCK_BACK_AFTER_S"
"""Environment variable: time after a process's start at which its clock is set back [s]."""

HOUR_S = 3600.0


def set_back_if_asked() -> None:
    """Set this process's clock back, if its environment says so.

    ``datetime`` and Ray's own non-Python processes keep the machine's clock.
    """
    if (after := os.environ.get(VARIABLE)) is None:
        return
    usual, began = time.time, time.monotonic()

    def earlier() -> float:
        return usual() - (HOUR_S if time.monotonic() - began >= float(after) else 0.0)

    vars(time)["time"] = earlier
