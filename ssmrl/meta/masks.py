"""Masks of the valid steps in padded sequences, for tasks of unequal lengths."""

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

Lengths: TypeAlias = Tensor | tuple[Tensor, Tensor]
"""Number of valid steps of each task; one tensor for support and query alike, or a pair."""


def step_masks(lengths: Lengths, stacked: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Masks of the valid steps of support and query.

    Args:
        lengths: Number of valid leading steps of each task's sequences, whole numbers ``(N,)``, for
            support and query alike; or a pair of such tensors. Each may also be a boolean mask
            ``(N, T)`` of the valid steps.
        stacked: The four parts from ``stack_tasks``, with inputs ``(N, B, T, I)``.

    Returns:
        Boolean masks ``(N, T)`` of the support and of the query.

    Raises:
        ValueError: If the tasks have no sequences, or a mask or a length does not fit them.

    Example:
        >>> x = torch.zeros(2, 1, 3, 1)
        >>> support, _ = step_masks(torch.tensor([1, 3]), [x, x, x, x])
        >>> support.tolist()
        [[True, False, False], [True, True, True]]
    """
    support, query = lengths if isinstance(lengths, tuple) else (lengths, lengths)
    return _mask(support, stacked[0], "support_x"), _mask(query, stacked[2], "query_x")


def masked_mse(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error over the valid steps; 0 if there are none.

    Args:
        prediction: Predictions, ``(B, T, O)``.
        target: Targets, ``(B, T, O)``.
        mask: Mask of the valid steps, ``(B, T)``.
    """
    return masked_mean((prediction - target).square().mean(-1), mask)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the valid steps; 0 if there are none.

    Args:
        values: Values, ``(B, T)``; they must be finite at invalid steps too.
        mask: Mask of the valid steps, ``(B, T)``.
    """
    counts = mask.to(values.dtype)
    return (values * counts).sum() / counts.sum().clamp(min=1.0)


def _mask(lengths: Tensor, x: Tensor, name: str) -> Tensor:
    if x.ndim != 4:
        raise ValueError(
            f"`lengths` needs sequences, `{name}` of shape (B, T, I) in each task, but got "
            f"{tuple(x.shape[1:])}; leave `lengths` out"
        )
    num_tasks, num_steps = x.shape[0], x.shape[2]
    if lengths.dtype == torch.bool:
        if lengths.shape != (num_tasks, num_steps):
            raise ValueError(
                f"a mask in `lengths` must have the shape {(num_tasks, num_steps)}, tasks and "
                f"steps of `{name}`, but got {tuple(lengths.shape)}"
            )
        return lengths
    if lengths.shape != (num_tasks,) or lengths.is_floating_point():
        raise ValueError(
            f"`lengths` must be {num_tasks} whole numbers, one for each task, or a pair of such "
            f"tensors, but got shape {tuple(lengths.shape)} of {lengths.dtype}"
        )
    outside = ((lengths < 0) | (lengths > num_steps)).nonzero().flatten().tolist()
    if outside:
        raise ValueError(
            f"`lengths` must lie in [0, {num_steps}], the steps of `{name}`, but those of tasks "
            f"{outside} are {lengths[outside].tolist()}"
        )
    return torch.arange(num_steps, device=lengths.device) < lengths.unsqueeze(1)
