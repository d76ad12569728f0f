"""ProMP on trajectories: how a task's parameters adapt, and what the meta-parameters minimise.

Functions of values; the optimiser lives in ``ssmrl.meta.learner``. The outer losses of MAML-TRPO
and E-MAML, which share all but a term with ProMP's, are here too.

References:
    Rothfuss et al. 2019, "ProMP: Proximal Meta-Policy Search", algorithm 1.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ssmrl.config import MetaConfig
from ssmrl.meta.inner import inner_step, tasks_at_once
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

    def of_task(params: Params, support: Sample) -> Params:
        return _adapt_task(actor, config, params, support)[0]

    _, num_lanes, num_steps = support.first.shape
    chunk_size = tasks_at_once(num_lanes * num_steps)
    adapted: Params = torch.func.vmap(of_task, chunk_size=chunk_size)(params, support)
    return adapted


def meta_loss(
    actor: GaussianActor,
    params: Params,
    supports: Sequence[Sample],
    query: Sample,
    sampled_from: Sequence[Distribution] | None,
    config: MetaConfig,
    adjusted_return: Tensor | None = None,
) -> tuple[Tensor, tuple[list[Distribution], Tensor]]:
    """The outer loss of a meta-batch.

    Each algorithm's loss has the gain of the adapted policies on the query. ProMP clips it and adds
    the divergence of the policies before the adaptation. MAML-TRPO does neither, as its step keeps
    to a trust region. E-MAML adds to ProMP's loss what the experience before the adaptation was
    worth: the mean likelihood ratio of each support times the adjusted return of its task, so that
    actions become likelier whose adaptation led far.

    The paper of E-MAML weighs the sum of a trajectory's log densities with its return; the usual
    code, the mean of the log densities with the mean reward, standardised over all steps of the
    meta-batch, and for the first support only. Here it is the mean, as in the code, over every
    support, as in the gradient of the paper's expectation when there are several, and with the
    task's return, standardised over tasks. The ratio has the log density's gradient where the
    experience was sampled, and stays right in later epochs.

    Args:
        actor: The policy's structure.
        params: Meta-parameters, without a task axis.
        supports: Experience before each adaptation step, in order.
        query: Experience after the last one.
        sampled_from: The distributions that the supports were drawn from, for the divergence;
            None at the point where they were drawn, where it vanishes with its gradient.
        config: The algorithm, and the weights of the terms.
        adjusted_return: Of each task after the adaptation, standardised over the meta-batch,
            ``(N,)``; for E-MAML and for no other.

    Returns:
        The loss, and (the distributions along the supports, the mean divergence).

    Raises:
        ValueError: If adjusted returns are given to another algorithm than E-MAML, or not to it.

    References:
        Finn et al. 2017, "Model-Agnostic Meta-Learning", section 5.3; Stadie et al. 2018, "Some
        Considerations on Learning to Explore via Meta-Reinforcement Learning", the gradient of
        E-MAML.
    """
    if (adjusted_return is not None) != (config.algorithm == "e-maml"):
        raise ValueError(
            "`adjusted_return` must be given for the algorithm 'e-maml' and for no other, but got "
            f"{adjusted_return} for {config.algorithm!r}"
        )
    old = None if sampled_from is None else tuple(sampled_from)
    step = partial(_task_loss, actor, config)
    in_dims = (None, 0, 0, None if old is None else 0, None if adjusted_return is None else 0)
    loss, distributions, kl = torch.func.vmap(step, in_dims=in_dims)(
        params, tuple(supports), query, old, adjusted_return
    )
    return loss.mean(), (distributions, kl.mean())


def adapted_distribution(
    actor: GaussianActor,
    params: Params,
    supports: Sequence[Sample],
    query: Sample,
    config: MetaConfig,
) -> Distribution:
    """How the adapted policy of every task acts along its query.

    Args:
        actor: The policy's structure.
        params: Meta-parameters, without a task axis.
        supports: Experience before each adaptation step, in order.
        query: Experience after the last one.
        config: Inner learning rate and order.

    Returns:
        Mean ``(N, B, T, A)`` and log standard deviation ``(N, A)``, differentiable in ``params``.
    """

    def of_task(params: Params, supports: tuple[Sample, ...], query: Sample) -> Distribution:
        for support in supports:
            params, _ = _adapt_task(actor, config, params, support)
        return _distribution(actor, params, query)

    adapted: Distribution = torch.func.vmap(of_task, in_dims=(None, 0, 0))(
        params, tuple(supports), query
    )
    return adapted


def surrogate(adapted: Distribution, query: Sample) -> Tensor:
    """The outer loss of MAML-TRPO at adapted policies: minus their gain, not clipped."""
    log_std = adapted.log_std[:, None, None, :]
    log_prob = log_density(query.action, adapted.mean, log_std)
    return likelihood_ratio_loss(log_prob, query.log_prob, query.advantage)


def adapted_divergence(old: Distribution, new: Distribution) -> Tensor:
    """Mean divergence of adapted policies from others, over tasks and the steps of their query."""
    (mean, log_std), (new_mean, new_log_std) = old, new
    return divergence(
        mean, log_std[:, None, None, :], new_mean, new_log_std[:, None, None, :]
    ).mean()


def _task_loss(
    actor: GaussianActor,
    config: MetaConfig,
    params: Params,
    supports: tuple[Sample, ...],
    query: Sample,
    old: tuple[Distribution, ...] | None,
    adjusted_return: Tensor | None,
) -> tuple[Tensor, list[Distribution], Tensor]:
    distributions: list[Distribution] = []
    kl = exploration = torch.zeros(())
    for index, support in enumerate(supports):
        params, now = _adapt_task(actor, config, params, support)
        if old is not None:
            kl = kl + divergence(*old[index], *now).mean() / len(supports)
        if adjusted_return is not None:
            log_prob = log_density(support.action, *now)
            exploration = exploration + likelihood_ratio_loss(
                log_prob, support.log_prob, adjusted_return.expand_as(log_prob)
            )
        # A copy: the log std is the parameter itself, which the optimiser overwrites in place.
        distributions.append(Distribution(now.mean.detach(), now.log_std.detach().clone()))
    log_prob = log_density(query.action, *_distribution(actor, params, query))
    if config.algorithm == "maml-trpo":
        gain = likelihood_ratio_loss(log_prob, query.log_prob, query.advantage)
        return gain, distributions, kl
    gain = clipped_loss(log_prob, query.log_prob, query.advantage, config.clip)
    return gain + config.inner_kl * kl + exploration, distributions, kl


def _adapt_task(
    actor: GaussianActor, config: MetaConfig, params: Params, support: Sample
) -> tuple[Params, Distribution]:
    """Adapted parameters, and the distribution along the support before the step."""

    def loss(params: Params) -> tuple[Tensor, Distribution]:
        distribution = _distribution(actor, params, support)
        log_prob = log_density(support.action, *distribution)
        value = likelihood_ratio_loss(log_prob, support.log_prob, support.advantage)
        return value, distribution

    return inner_step(loss, params, lr=config.inner_lr, first_order=config.first_order)


def _distribution(actor: GaussianActor, params: Params, sample: Sample) -> Distribution:
    inputs = actor.lane_input(sample.observation, sample.action, sample.reward, sample.first)
    hidden = actor.init_hidden(inputs.shape[0])
    mean, log_std, _ = torch.func.functional_call(actor, params, (inputs, hidden, sample.first))
    return Distribution(mean, log_std)
