"""Several steps of Adam on one meta-batch, for any outer loss."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch

from ssmrl.meta.batch import MetaBatch, Part, PartLoss, finite_norm
from ssmrl.meta.gradient import Distribution
from ssmrl.models.actor import GaussianActor, encoder_names

LossFrom: TypeAlias = Callable[[Sequence[Distribution] | None], PartLoss]
"""The outer loss, from the distributions that sampled the supports; None in the first epoch."""


def make_adam(actor: GaussianActor, *, lr: float, encoder_lr_scale: float) -> torch.optim.Adam:
    """Adam over an actor's parameters, with a separate learning rate for the sequence encoder.

    Args:
        actor: Policy; its parameters are the meta-parameters.
        lr: Learning rate.
        encoder_lr_scale: Learning rate of the encoder relative to ``lr``.
    """
    encoder = encoder_names(actor)
    groups: list[dict[str, Any]] = [
        {"params": [], "lr": lr},
        {"params": [], "lr": lr * encoder_lr_scale},
    ]
    for name, parameter in actor.named_parameters():
        groups[name in encoder]["params"].append(parameter)
    return torch.optim.Adam(groups)


def steps_of_adam(
    batch: MetaBatch, optimizer: torch.optim.Adam, loss_from: LossFrom, num_epochs: int
) -> dict[str, float]:
    """Update the meta-parameters in place.

    Args:
        batch: The meta-batch.
        optimizer: Optimiser of its actor's parameters.
        loss_from: The outer loss.
        num_epochs: Number of steps.

    Returns:
        Loss of the first and the last epoch, divergence, and gradient norm.

    Raises:
        DivergedError: If the loss or its gradient is not finite.
    """
    sampled_from: list[Distribution] | None = None
    first_loss = 0.0
    for epoch in range(num_epochs):
        outer = batch.gradient(batch.params(), loss_from(sampled_from))
        norm = finite_norm(outer, epoch, "meta.outer_lr")
        if epoch == 0:
            first_loss, sampled_from = float(outer.loss), outer.distributions
        for name, parameter in batch.actor.named_parameters():
            parameter.grad = outer.gradient[name]
        optimizer.step()
    return {
        "loss_first": first_loss,
        "loss_last": float(outer.loss),
        "divergence": float(outer.divergence),
        "gradient_norm": norm,
    }


def of_part(distributions: Sequence[Distribution] | None, part: Part) -> list[Distribution] | None:
    """The distributions of a part's tasks."""
    if distributions is None:
        return None
    return [Distribution(*(leaf[part.tasks] for leaf in each)) for each in distributions]
