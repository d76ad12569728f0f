"""What a caller gave as actions, as an array; not whether an environment can take them."""

from typing import Any

import numpy as np
from torch import Tensor


def action_array(action: Any) -> np.ndarray:
    """Actions as an array.

    Args:
        action: An array, a tensor, or lists of numbers.

    Raises:
        ValueError: If it is none of them.
    """
    try:
        array = action.detach().cpu().numpy() if isinstance(action, Tensor) else np.asarray(action)
    except (ValueError, TypeError) as error:  # lists of unequal lengths, say
        raise ValueError(f"`action` must be an array of numbers, but got {action!r}") from error
    if array.dtype.kind not in "fiu":
        raise ValueError(f"`action` must be real numbers, but got {array.dtype} {array.shape}")
    return array
