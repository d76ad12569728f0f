"""The inner loop of MAML: differentiable gradient steps as functions of the parameters."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from ssmrl.types import Params

Seen = TypeVar("Seen")


def inner_adapt(
    loss: Callable[[Params], Tensor],
    params: Params,
    *,
    lr: float,
    num_steps: int = 1,
    first_order: bool = False,
) -> Params:
    """Take gradient steps on a loss, as a function from parameters to parameters.

    Args:
        loss: Scalar loss of one task, as a function of the parameters.
        params: Initial parameters; not changed.
        lr: Learning rate.
        num_steps: Number of steps.
        first_order: Treat the gradient as a constant when the result is differentiated.

    Returns:
        Adapted parameters, differentiable in ``params``; may be called under ``torch.func.vmap``.

    Example:
        >>> loss = lambda p: (p["w"] - 1.0).square()
        >>> inner_adapt(loss, {"w": torch.tensor(0.0)}, lr=0.25, num_steps=2)["w"].item()
        0.75

    References:
        Finn et al. 2017, "Model-Agnostic Meta-Learning", equation 1 and section 5.2 (first order).
    """
    for _ in range(num_steps):
        params, _ = inner_step(lambda now: (loss(now), ()), params, lr=lr, first_order=first_order)
    return params


def inner_step(
    loss: Callable[[Params], tuple[Tensor, Seen]],
    params: Params,
    *,
    lr: float,
    first_order: bool = False,
) -> tuple[Params, Seen]:
    """One step of ``inner_adapt`` that also returns intermediate results of the loss.

    Args:
        loss: Function from the parameters of one task to its scalar loss and any other tensors.
        params: Initial parameters; not changed.
        lr: Learning rate.
        first_order: Treat the gradient as a constant when the result is differentiated.

    Returns:
        Adapted parameters, and the other tensors at ``params``; both differentiable in ``params``.
    """
    gradient, seen = torch.func.grad(loss, has_aux=True)(params)
    if first_order:
        gradient = {name: value.detach() for name, value in gradient.items()}
    return {name: value - lr * gradient[name] for name, value in params.items()}, seen


def stack_params(params: Params, num_tasks: int) -> Params:
    """The same parameters for each of ``num_tasks`` tasks: every tensor gets a leading ``N``."""
    return {name: value.expand(num_tasks, *value.shape) for name, value in params.items()}
