"""The linear recurrence with resets, ``h_t = a * keep_t * h_{t-1} + b_t``, and its plain twin.

Complex numbers are stored as pairs of reals along the last axis, ``(re, im, re, im, ...)``, so
that parameters and memories stay real.

References:
    Lu et al. 2023, "Structured State Space Models for In-Context Reinforcement Learning",
    section 3.1, for the reset inside the recurrence.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def multiply(x: Float[Tensor, "*#batch S"], y: Float[Tensor, "*#batch S"]) -> Tensor:
    """Complex product of two tensors of pairs; leading axes broadcast."""
    x_real, x_imag = x[..., 0::2], x[..., 1::2]
    y_real, y_imag = y[..., 0::2], y[..., 1::2]
    return torch.stack(
        [x_real * y_real - x_imag * y_imag, x_real * y_imag + x_imag * y_real], dim=-1
    ).flatten(-2)


def conjugate(x: Float[Tensor, "*batch S"]) -> Float[Tensor, "*batch S"]:
    """Complex conjugate of a tensor of pairs."""
    return torch.stack([x[..., 0::2], -x[..., 1::2]], dim=-1).flatten(-2)


def recurrence(
    decay: Float[Tensor, " S"],
    drive: Float[Tensor, "B T S"],
    initial: Float[Tensor, "B S"],
    first: Bool[Tensor, "B T"],
) -> Float[Tensor, "B T S"]:
    """All states of a diagonal linear recurrence.

    Args:
        decay: ``a``, pairs.
        drive: ``b_t``, pairs.
        initial: The state before the first step, pairs.
        first: Where the previous state is forgotten.

    Returns:
        ``h_t``, pairs. Differentiable any number of times and under ``vmap``.
    """
    keep = (~first).to(drive.dtype)
    return _apply(decay, drive, initial, keep)


def recurrence_by_steps(
    decay: Float[Tensor, " S"],
    drive: Float[Tensor, "B T S"],
    initial: Float[Tensor, "B S"],
    first: Bool[Tensor, "B T"],
) -> Float[Tensor, "B T S"]:
    """The plain twin of ``recurrence``: a loop that autograd records step by step."""
    state, states = initial, []
    for t in range(drive.shape[1]):
        kept = state.masked_fill(first[:, t, None], 0.0)
        state = multiply(decay, kept) + drive[:, t]
        states.append(state)
    return torch.stack(states, dim=1)


class _Recurrence(torch.autograd.Function):
    """The recurrence as one node of the graph.

    The gradient of a linear recurrence is the same recurrence run backwards with the conjugate
    decay, so the backward pass applies this class again: that is what makes it differentiable
    any number of times. Leading axes (tasks) may be added to every argument but time stays last
    but one.
    """

    @staticmethod
    def forward(decay: Tensor, drive: Tensor, initial: Tensor, keep: Tensor) -> Tensor:
        drive_by_time = torch.view_as_complex(
            drive.movedim(-2, 0).unflatten(-1, (-1, 2)).contiguous()
        )
        factor = torch.view_as_complex(decay.unflatten(-1, (-1, 2)).contiguous()).unsqueeze(-2)
        keep_by_time = keep.movedim(-1, 0).unsqueeze(-1)
        state = torch.view_as_complex(initial.unflatten(-1, (-1, 2)).contiguous())
        states = torch.empty_like(drive_by_time)
        never_forgets = bool((keep == 1.0).all())
        for t in range(drive_by_time.shape[0]):
            kept = state if never_forgets else state * keep_by_time[t]
            state = torch.addcmul(drive_by_time[t], factor, kept, out=states[t])
        return torch.view_as_real(states).flatten(-2).movedim(0, -2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        decay, _, initial, keep = inputs
        ctx.save_for_backward(decay, initial, keep, output)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        decay, initial, keep, states = ctx.saved_tensors
        (grad_states,) = grad_outputs
        back = conjugate(decay)
        # Run backwards, step t takes what flows from t + 1, through the forgetting of t + 1.
        keep_of_next = torch.cat([keep[..., 1:], torch.ones_like(keep[..., :1])], dim=-1)
        grad_drive = _apply(
            back, grad_states.flip(-2), torch.zeros_like(initial), keep_of_next.flip(-1)
        ).flip(-2)
        previous = torch.cat([initial.unsqueeze(-2), states[..., :-1, :]], dim=-2)
        kept = previous * keep.unsqueeze(-1)
        grad_decay = multiply(grad_drive, conjugate(kept)).sum((-3, -2))
        grad_initial = multiply(back.unsqueeze(-2), grad_drive[..., 0, :] * keep[..., :1])
        return grad_decay, grad_drive, grad_initial, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Tensor) -> tuple[Tensor, int]:
        batched = [
            argument.expand(info.batch_size, *argument.shape)
            if dim is None
            else argument.movedim(dim, 0)
            for argument, dim in zip(arguments, in_dims, strict=True)
        ]
        return _apply(*batched), 0


def _apply(decay: Tensor, drive: Tensor, initial: Tensor, keep: Tensor) -> Tensor:
    states: Tensor = _Recurrence.apply(decay, drive, initial, keep)  # type: ignore[no-untyped-call]
    return states
