"""Speed against peers and against the floor, side by side in one process."""

import ssmrl as _ssmrl  # noqa: F401 (before torch is loaded, which reads what ssmrl sets)
