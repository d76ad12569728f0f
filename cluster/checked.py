"""What RLlib's learners answered, or why one of them could not."""

from collections.abc import Iterable
from typing import Any

import torch

from ssmrl.meta.diverged import DivergedError


def checked(results: Iterable[Any]) -> list[Any]:
    """What the learners returned.

    Args:
        results: Of RLlib's ``foreach_learner``.

    Raises:
        DivergedError: If their updates did.
        torch.OutOfMemoryError: If the device of one had no room.
        RuntimeError: If a learner is lost: the others cannot go on without its part.
    """
    values = [result.get() for result in results]
    for value in values:
        if isinstance(value, torch.OutOfMemoryError):
            raise value
        if isinstance(value, Exception):
            raise RuntimeError(
                f"a learner was lost ({value}); go on from the last checkpoint"
            ) from value
        if isinstance(value, str):
            raise DivergedError(value)
    return values
