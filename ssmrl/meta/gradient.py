"""Shared parts of all algorithms that adapt by gradient steps: samples, adaptation, distributions.

Pure functions; each algorithm's outer loss is in its own module.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ssmrl.meta.inner import inner_step
from ssmrl.meta.objectives import (
    discounted_sum,
    gae,
    likelihood_ratio_loss,
    linear_baseline,
    normalise_per_task,
)
from ssmrl.meta.settings import GradientSettings
from ssmrl.meta.task_parts import tasks_at_once
from ssmrl.models.actor import GaussianActor, divergence, log_density
from ssmrl.types import Params, Trajectory


class Sample(NamedTuple):
    """The parts of a trajectory that losses need, of one task or all: ``([N,] B, T, ...)``."""

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


def make_sample(trajectory: Trajectory, settings: GradientSettings) -> Sample:
    """Estimate advantages, normalised per task.

    The horizon is part of the objective, as in the literature: the value after a lane's last step
    is 0, and time is an input of the baseline.

    Args:
        trajectory: Rollouts of ``N`` tasks.
        settings: Settings with the discount and GAE's lambda.
    """
    returns = discounted_sum(trajectory.reward, trajectory.terminated, settings.discount)
    advantage = gae(
        trajectory.reward,
        linear_baseline(trajectory.observation, returns),
        torch.zeros_like(trajectory.reward[..., 0]),
        trajectory.terminated,
        discount=settings.discount,
        gae_lambda=settings.gae_lambda,
    )
    return Sample(
        trajectory.observation,
        trajectory.action,
        trajectory.reward,
        trajectory.log_prob,
        trajectory.first,
        normalise_per_task(advantage),
    )


def adapt(
    actor: GaussianActor,
    params: Params,
    support: Sample,
    settings: GradientSettings,
    rows_at_once: int | None = None,
) -> Params:
    """One adaptation step of every task on its own experience.

    Args:
        actor: The policy's structure; its own parameters are not used.
        params: Parameters of each task, every tensor ``(N, ...)``.
        support: Experience collected with these parameters.
        settings: Inner learning rate and order.
        rows_at_once: Number of sequence steps that should be in memory at once; by default that of
            a CPU.

    Returns:
        Adapted parameters, every tensor ``(N, ...)``.
    """

    def of_task(params: Params, support: Sample) -> Params:
        return adapt_task(actor, settings, params, support)[0]

    _, num_lanes, num_steps = support.first.shape
    chunk_size = tasks_at_once(num_lanes * num_steps, rows_at_once)
    adapted: Params = torch.func.vmap(of_task, chunk_size=chunk_size)(params, support)
    return adapted


def adapted_distribution(
    actor: GaussianActor,
    params: Params,
    supports: Sequence[Sample],
    query: Sample,
    settings: GradientSettings,
) -> Distribution:
    """Action distributions of every task's adapted policy along its query.

    Args:
        actor: The policy's structure.
        params: Meta-parameters, without a task axis.
        supports: Experience before each adaptation step, in order.
        query: Experience after the last one.
        settings: Inner learning rate and order.

    Returns:
        Mean ``(N, B, T, A)`` and log standard deviation ``(N, A)``, differentiable in ``params``.
    """

    def of_task(params: Params, supports: tuple[Sample, ...], query: Sample) -> Distribution:
        params, _ = adapt_along(actor, settings, params, supports)
        return distribution_along(actor, params, query)

    adapted: Distribution = torch.func.vmap(of_task, in_dims=(None, 0, 0))(
        params, tuple(supports), query
    )
    return adapted


def adapt_along(
    actor: GaussianActor,
    settings: GradientSettings,
    params: Params,
    supports: Sequence[Sample],
) -> tuple[Params, list[Distribution]]:
    """Adapt the parameters of one task by a step on each support in turn.

    Args:
        actor: The policy's structure.
        settings: Inner learning rate and order.
        params: Parameters of the task, without a task axis.
        supports: Experience of the task before each step, in order.

    Returns:
        The adapted parameters, and the distributions along each support before its step.
    """
    distributions: list[Distribution] = []
    for support in supports:
        params, now = adapt_task(actor, settings, params, support)
        distributions.append(now)
    return params, distributions


def mean_divergence(old: Sequence[Distribution] | None, new: Sequence[Distribution]) -> Tensor:
    """Mean divergence of new from old policies along one task's supports; 0 if ``old`` is None."""
    kl = torch.zeros(())
    if old is None:
        return kl
    for before, now in zip(old, new, strict=True):
        kl = kl + divergence(*before, *now).mean() / len(new)
    return kl


def kept(distributions: Sequence[Distribution]) -> list[Distribution]:
    """Copies without a graph; the log std is cloned, as the optimiser overwrites it in place."""
    return [Distribution(now.mean.detach(), now.log_std.detach().clone()) for now in distributions]


def adapt_task(
    actor: GaussianActor, settings: GradientSettings, params: Params, support: Sample
) -> tuple[Params, Distribution]:
    """Make one adaptation step; return parameters and the distribution before the step."""

    def loss(params: Params) -> tuple[Tensor, Distribution]:
        distribution = distribution_along(actor, params, support)
        log_prob = log_density(support.action, *distribution)
        value = likelihood_ratio_loss(log_prob, support.log_prob, support.advantage)
        return value, distribution

    return inner_step(loss, params, lr=settings.inner_lr, first_order=settings.first_order)


def distribution_along(actor: GaussianActor, params: Params, sample: Sample) -> Distribution:
    """Action distribution along a trajectory of one task, from a zero hidden state."""
    inputs = actor.lane_input(sample.observation, sample.action, sample.reward, sample.first)
    hidden = actor.init_hidden(inputs.shape[0])
    mean, log_std, _ = torch.func.functional_call(actor, params, (inputs, hidden, sample.first))
    return Distribution(mean, log_std)
