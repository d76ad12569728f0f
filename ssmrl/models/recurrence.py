"""The linear recurrence with resets, ``h_t = a * keep_t * h_{t-1} + b_t``, and its plain twin.

Complex numbers are stored as pairs of reals along the last axis, ``(re, im, re, im, ...)``, so
that parameters and memories stay real. Not a layer: it has no parameters.

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

    Of real products on purpose: torch rounds a complex one differently at the end of a tensor, so
    a task's result would depend on how many others share its batch.
    """
    x_real, x_imag = x[..., 0::2], x[..., 1::2]
    y_real, y_imag = y[..., 0::2], y[..., 1::2]
    return torch.stack(
        [x_real * y_real - x_imag * y_imag, x_real * y_imag + x_imag * y_real], dim=-1
    ).flatten(-2)


def conjugate(x: Float[Tensor, "*batch S"]) -> Float[Tensor, "*batch S"]:
    """Complex conjugate of a tensor of pairs, without a number from the host."""
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
        decay: ``a``, pairs.
        drive: ``b_t``, pairs.
        initial: The state before the first step, pairs.
        first: Where the previous state is forgotten.
        algorithm: One of ``ALGORITHMS``; by default what is faster for the device and the length.
            A CPU does best with one pass over time, a GPU with ``log2(T)`` passes over all steps
            at once, in which no tensor's value is read.

    Returns:
        ``h_t``, pairs. Differentiable any number of times and under ``vmap``.

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
    """The plain twin of ``recurrence``: a loop that autograd records step by step."""
    state, states = initial, []
    for t in range(drive.shape[1]):
        kept = state.masked_fill(first[:, t, None], 0.0)
        state = multiply(decay, kept) + drive[:, t]
        states.append(state)
    return torch.stack(states, dim=1)


class _Recurrence(torch.autograd.Function):
    """The recurrence as one node of the graph.

    The gradient of a linear recurrence is the same recurrence run against the direction of time
    with the conjugate decay, so the backward pass applies this class again: that is what makes it
    differentiable any number of times. Leading axes (tasks) may be added to every argument; time
    stays last but one. Where ``backwards`` is true, ``initial`` is what follows the last step.
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
        # Each step takes what flows from its successor, through the forgetting of that successor.
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
    """The recurrence, which ``torch.compile`` leaves out of its graphs.

    It compiles what is around it: it cannot trace the writes into a complex tensor, and unrolled
    over time it would compile for minutes. As a decorator ``disable`` would load the compiler,
    which takes seconds, into every process that has a policy.
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
    """One pass over time: the least arithmetic."""
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


# torch rounds a complex product otherwise if a factor lies closer to the result than a vector
# register is wide. Rows of at least this many numbers never do, so that a lane's states have the
# same bits whether others forget at that step or not.
_FAR_APART = 16


def _by_doubling(
    factor: Tensor, drive: Tensor, initial: Tensor, keep: Tensor, backwards: bool
) -> Tensor:
    """``log2(T)`` passes: after each one a state has taken in twice as many steps.

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
        # Nothing comes through a window of twice the length if either half forgets.
        kept = torch.cat(
            [kept[..., :distance, :], kept[..., distance:, :] * kept[..., :-distance, :]], dim=-2
        )
        power, distance = power * power, 2 * distance
    return states


def _conjugate_product_sum(x: Tensor, y: Tensor) -> Tensor:
    """``sum(x * conj(y))`` over lanes and time, of real products as in ``multiply``."""
    straight = (x * y).sum((-3, -2)).unflatten(-1, (-1, 2))
    crossed = (x * y.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)).sum((-3, -2))
    crossed = crossed.unflatten(-1, (-1, 2))
    return torch.stack([straight.sum(-1), crossed[..., 1] - crossed[..., 0]], dim=-1).flatten(-2)


def _complex(pairs: Tensor) -> Tensor:
    return torch.view_as_complex(pairs.unflatten(-1, (-1, 2)).contiguous())


def _pairs(x: Tensor) -> Tensor:
    return torch.view_as_real(x).flatten(-2)
