"""Meta-learning with state space model policies on MuJoCo task families.

Not a distributed system: Ray lives in ``cluster``, search in ``tuning``.
"""

import os

# By default MKL rounds a task's matrix products differently at other places of a batch, where the
# memory is aligned otherwise; then a result would depend on how many workers share the tasks.
# MKL reads this at its first call, so it must be set before anything is computed.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
