"""How many examples a property is tried on, and that they are the same in every run."""

from hypothesis import settings

# A fixed choice of examples: a failure on a shared machine is then always a change of the code.
# No deadline per example, because the first one pays for imports and caches.
PROPERTY = settings(max_examples=25, deadline=None, derandomize=True)
