"""Results of RLlib's learners, or the error of one that failed."""

from collections.abc import Iterable
from typing import Any

import torch

from ssmrl.meta.diverged import DivergedError


def checked(results: Iterable[Any]) -> list[Any]:
    """The values that the learners returned.

    Args:
        results: Results of RLlib's ``foreach_learner``.

    Raises:
        DivergedError: If the updates diverged.
        torch.OutOfMemoryError: If a learner's device ran out of memory.
        RuntimeError: If a learner is lost: the others cannot continue without it.
    """
    values = [result.get() for result in results]
    for value in values:
        if isinstance(value, torch.OutOfMemoryError):
            raise value
        if isinstance(value, Exception):
            raise RuntimeError(
                f"a learner was lost ({value}); resume from the last checkpoint"
            ) from value
        if isinstance(value, str):
            raise DivergedError(value)
    return values
