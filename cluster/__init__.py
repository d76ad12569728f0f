"""Ray: meta-learning as an RLlib algorithm, its actors, and the session they run in."""

import ssmrl as _ssmrl  # noqa: F401 (before RLlib loads torch, which reads what ssmrl sets)
