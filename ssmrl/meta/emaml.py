"""E-MAML: experience before the adaptation is credited with the return that it led to.

The paper weighs the sum of a trajectory's log densities with its return; the usual code, the mean
of the log densities with the mean reward, standardised over all steps of the meta-batch, and for
the first support only. Here it is the mean, as in the code, over every support, as in the gradient
of the paper's expectation when there are several, and with the task's return, standardised over
tasks. The ratio has the log density's gradient where the experience was sampled, and stays right in
later epochs.

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
        actor: Its parameters are the meta-parameters.
        settings: Weights, step sizes and epochs.

    Attributes:
        optimizer: Adam.
    """

    def __init__(self, actor: GaussianActor, settings: ProMPSettings) -> None:
        self._actor, self._settings = actor, settings
        self.optimizer = make_adam(
            actor, lr=settings.outer_lr, encoder_lr_scale=settings.encoder_lr_scale
        )

    def loss(self, batch: MetaBatch) -> Tensor:
        """At the present meta-parameters; returns are standardised over the batch's tasks."""
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
        """Improve the meta-parameters in place."""
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
        """Of each task that is here after the adaptation, ``(N,)``."""
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

    The clipped gain of the adapted policies on the query, the divergence of the policies before the
    adaptation, and the mean likelihood ratio of each support times the adjusted return of its task,
    so that actions become likelier whose adaptation led far.

    Args:
        actor: The policy's structure.
        params: Meta-parameters, without a task axis.
        supports: Experience before each adaptation step, in order.
        query: Experience after the last one.
        sampled_from: The distributions that the supports were drawn from, for the divergence;
            None at the point where they were drawn, where it vanishes with its gradient.
        settings: Weights of the terms.
        adjusted_return: Of each task after the adaptation, standardised over the meta-batch,
            ``(N,)``.

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
