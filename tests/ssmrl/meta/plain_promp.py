"""The plain twin of ``ssmrl.meta.promp``: loops over tasks and time, and nothing functional.

Densities and divergences are those of ``torch.distributions``, gradients those of
``torch.autograd.grad``, and the policy is run step by step.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from ssmrl.meta.gradient import Sample
from ssmrl.meta.settings import GradientSettings, ProMPSettings, TrustRegionSettings
from ssmrl.models.actor import GaussianActor
from ssmrl.types import Params


def task_of(sample: Sample, index: int) -> Sample:
    """One task's part, without the task axis."""
    return Sample(*(value[index] for value in sample))


def action_distribution(actor: GaussianActor, params: Params, sample: Sample) -> Normal:
    """Along a trajectory of one task, ``(B, T, A)``."""
    num_lanes, num_steps = sample.first.shape
    hidden = actor.init_hidden(num_lanes)
    means = []
    for t in range(num_steps):
        mean, log_std, hidden = torch.func.functional_call(
            actor, params, (sample.observation[:, t], hidden, sample.first[:, t])
        )
        means.append(mean)
    mean = torch.stack(means, dim=1)
    return Normal(mean, log_std.exp().expand_as(mean))


def adapt_task(
    actor: GaussianActor, params: Params, support: Sample, config: GradientSettings
) -> Params:
    """One adaptation step of one task, in the graph of ``params``."""
    log_prob = action_distribution(actor, params, support).log_prob(support.action).sum(-1)
    loss = -((log_prob - support.log_prob).exp() * support.advantage).mean()
    gradients = torch.autograd.grad(
        loss, list(params.values()), create_graph=not config.first_order, allow_unused=True
    )
    return {
        name: value if gradient is None else value - config.inner_lr * gradient
        for (name, value), gradient in zip(params.items(), gradients, strict=True)
    }


def plain_meta_loss(
    actor: GaussianActor,
    params: Params,
    supports: Sequence[Sample],
    query: Sample,
    old_params: Params | None,
    config: ProMPSettings | TrustRegionSettings,
    adjusted_return: Tensor | None = None,
) -> Tensor:
    """The outer loss, one task after the other.

    Args:
        actor: The policy's structure.
        params: Meta-parameters that require a gradient.
        supports: Experience before each adaptation step.
        query: Experience after the last one.
        old_params: The meta-parameters that collected the experience, or None if these did.
        config: Weights; of a trust region, where no term has one.
        adjusted_return: Of each task, for E-MAML.
    """
    losses = []
    for index in range(len(query.observation)):
        now, old = params, old_params
        divergence = exploration = torch.zeros(()).double()
        for support in supports:
            part = task_of(support, index)
            if old is not None:
                old = {name: value.detach().requires_grad_() for name, value in old.items()}
                before = action_distribution(actor, old, part)
                after = action_distribution(actor, now, part)
                before = Normal(before.mean.detach(), before.stddev.detach())
                kl = kl_divergence(before, after).sum(-1).mean()
                divergence = divergence + kl / len(supports)
                old = adapt_task(actor, old, part, config)
            if adjusted_return is not None:
                log_prob = action_distribution(actor, now, part).log_prob(part.action).sum(-1)
                ratio = (log_prob - part.log_prob).exp()
                exploration = exploration + adjusted_return[index] * ratio.mean()
            now = adapt_task(actor, now, part, config)
        part = task_of(query, index)
        log_prob = action_distribution(actor, now, part).log_prob(part.action).sum(-1)
        ratio = (log_prob - part.log_prob).exp()
        if isinstance(config, TrustRegionSettings):
            losses.append(-(ratio * part.advantage).mean())
            continue
        cut = ratio.clamp(1.0 - config.clip, 1.0 + config.clip)
        gain = torch.minimum(ratio * part.advantage, cut * part.advantage).mean()
        losses.append(-gain + config.inner_kl * divergence - exploration)
    return torch.stack(losses).mean()
