"""Conversion of a caller's actions to an array; environments check shape and values."""

from typing import Any

import numpy as np
from torch import Tensor


def action_array(action: Any) -> np.ndarray:
    """Actions as an array.

    Args:
        action: An array, a tensor, or lists of numbers.

    Raises:
        ValueError: If it is none of these.
    """
    try:
        array = action.detach().cpu().numpy() if isinstance(action, Tensor) else np.asarray(action)
    except (ValueError, TypeError) as error:  # for example lists of unequal lengths
        raise ValueError(f"`action` must be an array of numbers, but got {action!r}") from error
    if array.dtype.kind not in "fiu":
        raise ValueError(f"`action` must be real numbers, but got {array.dtype} {array.shape}")
    return array
