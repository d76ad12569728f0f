"""``python -m experiments.faults.driver``: ``tuning.sweep``, whose trials go wrong by a list.

The list is ``faults.json`` in the storage folder. A hang is taken for one sooner than a user's.
"""

import os
from functools import partial
from unittest.mock import patch

from experiments.faults.clock import set_back_if_asked
from tuning.folder.quiet_start import quiet_start

FLOOR_S, START_S = 6.0, 60.0
"""In place of 20 s and 180 s, which so many hangs would wait for [s]."""

IMPATIENT = "SSMRL_NIGHT_HAS_HANGS"
"""Set in the environment where the list has hangs; without, users' limits count."""


def main() -> None:
    """Change what trials are made of, then do as ``python -m tuning.sweep`` does."""
    quiet_start()
    set_back_if_asked()
    import tuning.driver
    from experiments.faults.faulty_training import FaultyTraining
    from tuning.sweep import app
    from tuning.watch import Watch

    watch = partial(Watch, floor_s=FLOOR_S, start_s=START_S) if IMPATIENT in os.environ else Watch
    with (
        patch.object(tuning.driver, "MetaTraining", FaultyTraining),
        patch.object(tuning.driver, "Watch", watch),
    ):
        app()


if __name__ == "__main__":
    main()
