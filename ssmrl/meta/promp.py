"""ProMP on trajectories: how a task's parameters adapt, and what the meta-parameters minimise.

Functions of values; the optimiser lives in ``ssmrl.meta.learner``.

References:
    Rothfuss et al. 2019, "ProMP: Proximal Meta-Policy Search", algorithm 1.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ssmrl.config import MetaConfig
from ssmrl.meta.inner import inner_adapt
from ssmrl.meta.objectives import (
    clipped_loss,
    discounted_sum,
    gae,
    likelihood_ratio_loss,
    linear_baseline,
    normalise_per_task,
)
from ssmrl.models.actor import GaussianActor, divergence, log_density
from ssmrl.types import Params, Trajectory


class Sample(NamedTuple):
    """What the losses need of a trajectory, one task or all: ``([N,] B, T, ...)``."""

    observation: Tensor
    action: Tensor
    reward: Tensor
    log_prob: Tensor
    first: Tensor
    advantage: Tensor


class Distribution(NamedTuple):
    """Action distributions along a trajectory: mean ``([N,] B, T, A)``, log std ``([N,] A)``."""

    mean: Tensor
    log_std: Tensor


def make_sample(trajectory: Trajectory, config: MetaConfig) -> Sample:
    """Estimate advantages, normalised per task.

    The horizon is part of the objective, as in the literature: nothing is expected after a lane's
    last step, and the baseline knows the time.

    Args:
        trajectory: Of ``N`` tasks.
        config: Discounts.
    """
    returns = discounted_sum(trajectory.reward, trajectory.terminated, config.discount)
    advantage = gae(
        trajectory.reward,
        linear_baseline(trajectory.observation, returns),
        torch.zeros_like(trajectory.reward[..., 0]),
        trajectory.terminated,
        discount=config.discount,
        gae_lambda=config.gae_lambda,
    )
    return Sample(
        trajectory.observation,
        trajectory.action,
        trajectory.reward,
        trajectory.log_prob,
        trajectory.first,
        normalise_per_task(advantage),
    )


def adapt(actor: GaussianActor, params: Params, support: Sample, config: MetaConfig) -> Params:
    """One adaptation step of every task on its own experience.

    Args:
        actor: The policy's structure; its own parameters are not used.
        params: Of each task, every leaf ``(N, ...)``.
        support: Experience of these parameters.
        config: Inner learning rate and order.

    Returns:
        Adapted parameters, every leaf ``(N, ...)``.
    """
    step = partial(_adapt_task, actor, config)
    adapted: Params = torch.func.vmap(step)(params, support)
    return adapted


def meta_loss(
    actor: GaussianActor,
    params: Params,
    supports: Sequence[Sample],
    query: Sample,
    sampled_from: Sequence[Distribution] | None,
    config: MetaConfig,
) -> tuple[Tensor, tuple[list[Distribution], Tensor]]:
    """The outer loss of a meta-batch.

    Args:
        actor: The policy's structure.
        params: Meta-parameters, without a task axis.
        supports: Experience before each adaptation step, in order.
        query: Experience after the last one.
        sampled_from: The distributions that the supports were drawn from, for the divergence;
            None at the point where they were drawn, where it vanishes with its gradient.
        config: Weights of the terms.

    Returns:
        The loss, and (the distributions along the supports, the mean divergence).
    """
    old = None if sampled_from is None else tuple(sampled_from)
    step = partial(_task_loss, actor, config)
    in_dims = (None, 0, 0, None if old is None else 0)
    loss, distributions, kl = torch.func.vmap(step, in_dims=in_dims)(
        params, tuple(supports), query, old
    )
    return loss.mean(), (distributions, kl.mean())


def _task_loss(
    actor: GaussianActor,
    config: MetaConfig,
    params: Params,
    supports: tuple[Sample, ...],
    query: Sample,
    old: tuple[Distribution, ...] | None,
) -> tuple[Tensor, list[Distribution], Tensor]:
    distributions: list[Distribution] = []
    kl = torch.zeros(())
    for index, support in enumerate(supports):
        now = _distribution(actor, params, support)
        if old is not None:
            kl = kl + divergence(*old[index], *now).mean() / len(supports)
        # A copy: the log std is the parameter itself, which the optimiser overwrites in place.
        distributions.append(Distribution(now.mean.detach(), now.log_std.detach().clone()))
        params = _adapt_task(actor, config, params, support)
    log_prob = log_density(query.action, *_distribution(actor, params, query))
    gain = clipped_loss(log_prob, query.log_prob, query.advantage, config.clip)
    return gain + config.inner_kl * kl, distributions, kl


def _adapt_task(
    actor: GaussianActor, config: MetaConfig, params: Params, support: Sample
) -> Params:
    def loss(params: Params) -> Tensor:
        log_prob = log_density(support.action, *_distribution(actor, params, support))
        return likelihood_ratio_loss(log_prob, support.log_prob, support.advantage)

    return inner_adapt(loss, params, lr=config.inner_lr, first_order=config.first_order)


def _distribution(actor: GaussianActor, params: Params, sample: Sample) -> Distribution:
    inputs = actor.lane_input(sample.observation, sample.action, sample.reward, sample.first)
    hidden = actor.init_hidden(inputs.shape[0])
    mean, log_std, _ = torch.func.functional_call(actor, params, (inputs, hidden, sample.first))
    return Distribution(mean, log_std)
