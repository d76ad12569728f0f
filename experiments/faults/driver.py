"""``python -m experiments.faults.driver``: ``tuning.sweep`` with listed faults in its trials.

The list is ``faults.json`` in the storage folder. Hangs are detected sooner than in users' sweeps.
"""

import os
from functools import partial
from unittest.mock import patch

from experiments.faults.clock import set_back_if_asked
from tuning.folder.quiet_start import quiet_start

FLOOR_S, START_S = 6.0, 60.0
"""Shortest silence that is taken for a hang, after and before a trial's first report [s].

Users have 20 s and 180 s, which would take too long for many hangs.
"""

IMPATIENT = "SSMRL_NIGHT_HAS_HANGS"
"""Environment variable that is set if the list has hangs; without it users' timeouts apply."""


def main() -> None:
    """Patch the trials, then run ``python -m tuning.sweep``."""
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
