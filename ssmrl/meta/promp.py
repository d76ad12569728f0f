"""ProMP: clipped surrogate of the adapted policies, with a KL penalty on the pre-adaptation ones.

References:
    Rothfuss et al. 2019, "ProMP: Proximal Meta-Policy Search", algorithm 1.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from ssmrl.meta.adam_steps import make_adam, of_part, steps_of_adam
from ssmrl.meta.batch import MetaBatch, Part, PartLoss
from ssmrl.meta.gradient import (
    Distribution,
    Sample,
    adapt_along,
    distribution_along,
    kept,
    mean_divergence,
)
from ssmrl.meta.objectives import clipped_loss
from ssmrl.meta.settings import ProMPSettings
from ssmrl.models.actor import GaussianActor, log_density
from ssmrl.types import Params

QueryLoss: TypeAlias = Callable[[Tensor, Sample], Tensor]
"""``(log_prob (B, T), query) -> ()``: loss of one task, from the adapted policy's log density of
the query's actions, and the query; differentiable in the first."""


class ProMP:
    """Steps of Adam on ProMP's loss.

    Args:
        actor: Policy; its parameters are the meta-parameters.
        settings: Loss weights, learning rates and epochs.
        query_loss: Loss of the adapted policies, instead of ProMP's clipped surrogate; the
            divergence of the pre-adaptation policies is added as usual.

    Attributes:
        optimizer: Adam over the actor's parameters.
    """

    def __init__(
        self, actor: GaussianActor, settings: ProMPSettings, query_loss: QueryLoss | None = None
    ) -> None:
        self._actor, self._settings = actor, settings
        self._query_loss = query_loss
        self.optimizer = make_adam(
            actor, lr=settings.outer_lr, encoder_lr_scale=settings.encoder_lr_scale
        )

    def loss(self, batch: MetaBatch) -> Tensor:
        """The outer loss at the present meta-parameters."""
        return self._of_tasks(batch.params(), batch.supports, batch.query, None)[0]

    def step(self, batch: MetaBatch) -> dict[str, float]:
        """Update the meta-parameters in place."""

        def loss_from(sampled_from: Sequence[Distribution] | None) -> PartLoss:
            def loss(
                params: Params, part: Part
            ) -> tuple[Tensor, tuple[list[Distribution], Tensor]]:
                old = of_part(sampled_from, part)
                return self._of_tasks(params, part.supports, part.query, old)

            return loss

        return steps_of_adam(batch, self.optimizer, loss_from, self._settings.num_epochs)

    def _of_tasks(
        self,
        params: Params,
        supports: Sequence[Sample],
        query: Sample,
        sampled_from: Sequence[Distribution] | None,
    ) -> tuple[Tensor, tuple[list[Distribution], Tensor]]:
        return promp_loss(
            self._actor, params, supports, query, sampled_from, self._settings, self._query_loss
        )


def clipped_gain(clip: float) -> QueryLoss:
    """ProMP's query loss: minus the clipped likelihood ratio times the advantage."""

    def loss(log_prob: Tensor, query: Sample) -> Tensor:
        return clipped_loss(log_prob, query.log_prob, query.advantage, clip)

    return loss


def promp_loss(
    actor: GaussianActor,
    params: Params,
    supports: Sequence[Sample],
    query: Sample,
    sampled_from: Sequence[Distribution] | None,
    settings: ProMPSettings,
    query_loss: QueryLoss | None = None,
) -> tuple[Tensor, tuple[list[Distribution], Tensor]]:
    """The outer loss of a meta-batch.

    Args:
        actor: The policy's structure.
        params: Meta-parameters, without a task axis.
        supports: Experience before each adaptation step, in order.
        query: Experience after the last one.
        sampled_from: Distributions that sampled the supports, for the divergence; None if
            ``params`` sampled them, since divergence and gradient are then 0.
        settings: Weights of the terms.
        query_loss: Loss of one task's adapted policy; default: ProMP's clipped surrogate.

    Returns:
        The loss, and (the distributions along the supports, the mean divergence).
    """
    loss_of_query = clipped_gain(settings.clip) if query_loss is None else query_loss

    def of_task(
        params: Params,
        supports: tuple[Sample, ...],
        query: Sample,
        old: tuple[Distribution, ...] | None,
    ) -> tuple[Tensor, list[Distribution], Tensor]:
        adapted, now = adapt_along(actor, settings, params, supports)
        log_prob = log_density(query.action, *distribution_along(actor, adapted, query))
        kl = mean_divergence(old, now)
        return loss_of_query(log_prob, query) + settings.inner_kl * kl, kept(now), kl

    old = None if sampled_from is None else tuple(sampled_from)
    in_dims = (None, 0, 0, None if old is None else 0)
    loss, distributions, kl = torch.func.vmap(of_task, in_dims=in_dims)(
        params, tuple(supports), query, old
    )
    return loss.mean(), (distributions, kl.mean())
