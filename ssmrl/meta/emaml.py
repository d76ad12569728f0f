"""E-MAML: pre-adaptation experience is credited with the return after adaptation.

The paper weights the sum of a trajectory's log densities by its return. The usual code weights the
mean of the log densities by the mean reward, standardised over all steps of the meta-batch, and
uses the first support only. Here the mean is used, as in the code, but over every support, as in
the gradient of the paper's expectation with several supports. The weight is the task's return,
standardised over tasks. The likelihood ratio replaces the log density: both have the same gradient
at the sampling policy, but the ratio stays correct in later epochs.

References:
    Stadie et al. 2018, "Some Considerations on Learning to Explore via Meta-Reinforcement
    Learning", the gradient of E-MAML.
"""

from collections.abc import Sequence

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
from ssmrl.meta.objectives import (
    clipped_loss,
    discounted_sum,
    likelihood_ratio_loss,
    standardise_over_tasks,
)
from ssmrl.meta.settings import ProMPSettings
from ssmrl.models.actor import GaussianActor, log_density
from ssmrl.types import Params


class EMAML:
    """Steps of Adam on E-MAML's loss.

    Args:
        actor: Policy; its parameters are the meta-parameters.
        settings: Loss weights, learning rates and epochs.

    Attributes:
        optimizer: Adam over the actor's parameters.
    """

    def __init__(self, actor: GaussianActor, settings: ProMPSettings) -> None:
        self._actor, self._settings = actor, settings
        self.optimizer = make_adam(
            actor, lr=settings.outer_lr, encoder_lr_scale=settings.encoder_lr_scale
        )

    def loss(self, batch: MetaBatch) -> Tensor:
        """The loss at the present meta-parameters; returns are standardised over the tasks."""
        return emaml_loss(
            self._actor,
            batch.params(),
            batch.supports,
            batch.query,
            None,
            self._settings,
            self._adjusted_return(batch),
        )[0]

    def step(self, batch: MetaBatch) -> dict[str, float]:
        """Update the meta-parameters in place."""
        worth = self._adjusted_return(batch)

        def loss_from(sampled_from: Sequence[Distribution] | None) -> PartLoss:
            def loss(
                params: Params, part: Part
            ) -> tuple[Tensor, tuple[list[Distribution], Tensor]]:
                return emaml_loss(
                    self._actor,
                    params,
                    part.supports,
                    part.query,
                    of_part(sampled_from, part),
                    self._settings,
                    worth[part.tasks],
                )

            return loss

        return steps_of_adam(batch, self.optimizer, loss_from, self._settings.num_epochs)

    def _adjusted_return(self, batch: MetaBatch) -> Tensor:
        """Standardised return after the adaptation of each of this learner's tasks, ``(N,)``."""
        played = batch.played
        returns = discounted_sum(played.reward, played.terminated, self._settings.discount)
        return standardise_over_tasks(returns[..., 0].mean(-1), batch.num_tasks, batch.add_up)


def emaml_loss(
    actor: GaussianActor,
    params: Params,
    supports: Sequence[Sample],
    query: Sample,
    sampled_from: Sequence[Distribution] | None,
    settings: ProMPSettings,
    adjusted_return: Tensor,
) -> tuple[Tensor, tuple[list[Distribution], Tensor]]:
    """The outer loss of a meta-batch.

    It is the sum of three terms: the clipped loss of the adapted policies on the query, the
    divergence of the pre-adaptation policies, and an exploration term. The last is minus the mean
    likelihood ratio of each support times its task's adjusted return. It makes actions likelier if
    adaptation to them gave a high return.

    Args:
        actor: The policy's structure.
        params: Meta-parameters, without a task axis.
        supports: Experience before each adaptation step, in order.
        query: Experience after the last one.
        sampled_from: Distributions that sampled the supports, for the divergence; None if
            ``params`` sampled them, since divergence and gradient are then 0.
        settings: Weights of the terms.
        adjusted_return: Return of each task after the adaptation, standardised over the
            meta-batch, ``(N,)``.

    Returns:
        The loss, and (the distributions along the supports, the mean divergence).
    """

    def of_task(
        params: Params,
        supports: tuple[Sample, ...],
        query: Sample,
        old: tuple[Distribution, ...] | None,
        worth: Tensor,
    ) -> tuple[Tensor, list[Distribution], Tensor]:
        adapted, now = adapt_along(actor, settings, params, supports)
        exploration = torch.zeros(())
        for support, distribution in zip(supports, now, strict=True):
            log_prob = log_density(support.action, *distribution)
            exploration = exploration + likelihood_ratio_loss(
                log_prob, support.log_prob, worth.expand_as(log_prob)
            )
        log_prob = log_density(query.action, *distribution_along(actor, adapted, query))
        gain = clipped_loss(log_prob, query.log_prob, query.advantage, settings.clip)
        kl = mean_divergence(old, now)
        return gain + settings.inner_kl * kl + exploration, kept(now), kl

    old = None if sampled_from is None else tuple(sampled_from)
    in_dims = (None, 0, 0, None if old is None else 0, 0)
    loss, distributions, kl = torch.func.vmap(of_task, in_dims=in_dims)(
        params, tuple(supports), query, old, adjusted_return
    )
    return loss.mean(), (distributions, kl.mean())
