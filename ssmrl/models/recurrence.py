"""The linear recurrence with resets, ``h_t = a * keep_t * h_{t-1} + b_t``, and a reference loop.

Complex numbers are stored as pairs of reals along the last axis, ``(re, im, re, im, ...)``, so
that parameters and hidden states stay real. Not a layer: it has no parameters.

References:
    Lu et al. 2023, "Structured State Space Models for In-Context Reinforcement Learning",
    section 3.1, for the reset inside the recurrence.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

ALGORITHMS = ("loop", "doubling")


def multiply(x: Float[Tensor, "*#batch S"], y: Float[Tensor, "*#batch S"]) -> Tensor:
    """Complex product of two tensors of pairs; leading axes broadcast.

    It uses real products, because torch rounds complex ones differently at the end of a tensor. A
    task's result would then depend on the number of tasks in its batch.
    """
    x_real, x_imag = x[..., 0::2], x[..., 1::2]
    y_real, y_imag = y[..., 0::2], y[..., 1::2]
    return torch.stack(
        [x_real * y_real - x_imag * y_imag, x_real * y_imag + x_imag * y_real], dim=-1
    ).flatten(-2)


def conjugate(x: Float[Tensor, "*batch S"]) -> Float[Tensor, "*batch S"]:
    """Complex conjugate of a tensor of pairs, without a copy of a constant from the host."""
    return torch.stack([x[..., 0::2], -x[..., 1::2]], dim=-1).flatten(-2)


def recurrence(
    decay: Float[Tensor, " S"],
    drive: Float[Tensor, "B T S"],
    initial: Float[Tensor, "B S"],
    first: Bool[Tensor, "B T"],
    algorithm: str | None = None,
) -> Float[Tensor, "B T S"]:
    """All states of a diagonal linear recurrence.

    Args:
        decay: Decay ``a``, pairs.
        drive: Input ``b_t``, pairs.
        initial: State before the first step, pairs.
        first: Whether the previous state is reset before this step.
        algorithm: One of ``ALGORITHMS``; by default the faster one for the device and the length.
            That is one pass over time on a CPU. On a GPU it is ``log2(T)`` passes over all steps
            at once, which read no values back to the host.

    Returns:
        States ``h_t``, pairs; differentiable any number of times and under ``vmap``.

    Raises:
        ValueError: If the algorithm is unknown.
    """
    if algorithm is None:
        on_cpu = drive.device.type == "cpu"
        algorithm = "loop" if on_cpu or drive.shape[1] <= _SHORT else "doubling"
    if algorithm not in ALGORITHMS:
        raise ValueError(f"`algorithm` must be one of {list(ALGORITHMS)}, but got {algorithm!r}")
    keep = (~first).to(drive.dtype)
    states: Tensor = _apply(decay, drive, initial, keep, False, algorithm)
    return states


_SHORT = 8


def recurrence_by_steps(
    decay: Float[Tensor, " S"],
    drive: Float[Tensor, "B T S"],
    initial: Float[Tensor, "B S"],
    first: Bool[Tensor, "B T"],
) -> Float[Tensor, "B T S"]:
    """Reference implementation of ``recurrence``: a loop that autograd records step by step."""
    state, states = initial, []
    for t in range(drive.shape[1]):
        kept = state.masked_fill(first[:, t, None], 0.0)
        state = multiply(decay, kept) + drive[:, t]
        states.append(state)
    return torch.stack(states, dim=1)


class _Recurrence(torch.autograd.Function):
    """The recurrence as one node of the graph.

    The gradient of a linear recurrence is the same recurrence run backwards in time with the
    conjugate decay. The backward pass therefore applies this class again, which makes it
    differentiable any number of times. Every argument may have extra leading axes (tasks); time
    stays the second to last. If ``backwards`` is true, ``initial`` is the state after the last
    step.
    """

    @staticmethod
    def forward(
        decay: Tensor,
        drive: Tensor,
        initial: Tensor,
        keep: Tensor,
        backwards: bool,
        algorithm: str,
    ) -> Tensor:
        run = _by_loop if algorithm == "loop" else _by_doubling
        return _pairs(
            run(_complex(decay).unsqueeze(-2), _complex(drive), _complex(initial), keep, backwards)
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        decay, _, initial, keep, ctx.backwards, ctx.algorithm = inputs
        ctx.save_for_backward(decay, initial, keep, output)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        decay, initial, keep, states = ctx.saved_tensors
        (grad_states,) = grad_outputs
        back = conjugate(decay)
        # The gradient flows into each step from the next one, unless the next one resets.
        never = torch.ones_like(keep[..., :1])
        if ctx.backwards:
            keep_of_next = torch.cat([never, keep[..., :-1]], dim=-1)
            previous = torch.cat([states[..., 1:, :], initial.unsqueeze(-2)], dim=-2)
            start = -1
        else:
            keep_of_next = torch.cat([keep[..., 1:], never], dim=-1)
            previous = torch.cat([initial.unsqueeze(-2), states[..., :-1, :]], dim=-2)
            start = 0
        grad_drive = _apply(
            back,
            grad_states,
            torch.zeros_like(initial),
            keep_of_next,
            not ctx.backwards,
            ctx.algorithm,
        )
        kept = previous * keep.unsqueeze(-1)
        grad_decay = _conjugate_product_sum(grad_drive, kept)
        grad_initial = multiply(
            back.unsqueeze(-2), grad_drive[..., start, :] * keep[..., start, None]
        )
        return grad_decay, grad_drive, grad_initial, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Tensor, int]:
        *tensors, backwards, algorithm = arguments
        decay, drive, initial, keep = (
            tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
            for tensor, dim in zip(tensors, in_dims, strict=False)
        )
        return _apply(decay, drive, initial, keep, backwards, algorithm), 0


def _apply(
    decay: Tensor, drive: Tensor, initial: Tensor, keep: Tensor, backwards: bool, algorithm: str
) -> Tensor:
    """The recurrence, excluded from the graphs of ``torch.compile``.

    The compiler cannot trace the writes into a complex tensor, and compiling the loop unrolled over
    time would take minutes. ``disable`` is not used as a decorator, since that would load the
    compiler, which takes seconds, in every process that has a policy.
    """
    states_of = _states
    if torch.compiler.is_compiling():
        states_of = torch.compiler.disable(_states)
    return states_of(decay, drive, initial, keep, backwards, algorithm)


def _states(
    decay: Tensor, drive: Tensor, initial: Tensor, keep: Tensor, backwards: bool, algorithm: str
) -> Tensor:
    states: Tensor = _Recurrence.apply(  # type: ignore[no-untyped-call]
        decay, drive, initial, keep, backwards, algorithm
    )
    return states


def _by_loop(
    factor: Tensor, drive: Tensor, initial: Tensor, keep: Tensor, backwards: bool
) -> Tensor:
    """One pass over time, with the least arithmetic."""
    steps = range(drive.shape[-2])
    forgets = [True] * len(steps)
    if drive.shape[-1] >= _FAR_APART:
        forgets = (keep != 1.0).flatten(0, -2).any(0).tolist()
    state = initial
    states = torch.empty_like(drive, memory_format=torch.contiguous_format)
    for t in reversed(steps) if backwards else steps:
        kept = state * keep[..., t, None] if forgets[t] else state
        state = torch.addcmul(drive[..., t, :], factor, kept, out=states[..., t, :])
    return states


# torch rounds a complex product differently if a factor is closer to the result in memory than the
# width of a vector register. Rows of at least this many numbers are never that close. A lane's
# states are then bitwise the same whether or not other lanes are reset at that step.
_FAR_APART = 16


def _by_doubling(
    factor: Tensor, drive: Tensor, initial: Tensor, keep: Tensor, backwards: bool
) -> Tensor:
    """``log2(T)`` passes: after each pass a state covers twice as many steps.

    References:
        Hillis and Steele 1986, "Data Parallel Algorithms", for the doubling.
    """
    if backwards:
        return _by_doubling(factor, drive.flip(-2), initial, keep.flip(-1), False).flip(-2)
    start = drive[..., :1, :] + (factor * initial * keep[..., 0, None]).unsqueeze(-2)
    states = torch.cat([start, drive[..., 1:, :]], dim=-2)
    power, kept, distance = factor.unsqueeze(-2), keep.unsqueeze(-1), 1
    while distance < drive.shape[-2]:
        head, tail = states[..., :distance, :], states[..., distance:, :]
        states = torch.cat(
            [head, tail + power * (kept[..., distance:, :] * states[..., :-distance, :])], dim=-2
        )
        # Nothing passes through a window of twice the length if either half contains a reset.
        kept = torch.cat(
            [kept[..., :distance, :], kept[..., distance:, :] * kept[..., :-distance, :]], dim=-2
        )
        power, distance = power * power, 2 * distance
    return states


def _conjugate_product_sum(x: Tensor, y: Tensor) -> Tensor:
    """``sum(x * conj(y))`` over lanes and time, with real products as in ``multiply``."""
    straight = (x * y).sum((-3, -2)).unflatten(-1, (-1, 2))
    crossed = (x * y.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)).sum((-3, -2))
    crossed = crossed.unflatten(-1, (-1, 2))
    return torch.stack([straight.sum(-1), crossed[..., 1] - crossed[..., 0]], dim=-1).flatten(-2)


def _complex(pairs: Tensor) -> Tensor:
    return torch.view_as_complex(pairs.unflatten(-1, (-1, 2)).contiguous())


def _pairs(x: Tensor) -> Tensor:
    return torch.view_as_real(x).flatten(-2)
