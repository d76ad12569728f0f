"""Advantages and surrogate losses as pure functions, without parameters or optimiser."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def discounted_sum(
    x: Float[Tensor, "*batch T"], ends: Bool[Tensor, "*batch T"], discount: float
) -> Float[Tensor, "*batch T"]:
    """Discounted sum from each step to the end of its episode or lane.

    Args:
        x: Values to sum.
        ends: Whether an episode ends at this step.
        discount: Discount per step.
    """
    keep = discount * (~ends).to(x.dtype)
    total = torch.zeros_like(x[..., 0])
    sums = []
    for t in reversed(range(x.shape[-1])):
        total = x[..., t] + keep[..., t] * total
        sums.append(total)
    return torch.stack(sums[::-1], dim=-1)


def gae(
    reward: Float[Tensor, "*batch T"],
    value: Float[Tensor, "*batch T"],
    last_value: Float[Tensor, "*batch"],
    terminated: Bool[Tensor, "*batch T"],
    *,
    discount: float,
    gae_lambda: float,
) -> Float[Tensor, "*batch T"]:
    """Generalised advantage estimation over lanes that may hold several episodes.

    Args:
        reward: Reward of each step.
        value: Value of the observation before each step.
        last_value: Value of the observation after the last step; used if that step did not
            terminate. Zero when the horizon is part of the objective.
        terminated: Whether the episode ended at this step; nothing after it is counted.
        discount: Discount per step.
        gae_lambda: Lambda; 1 is Monte Carlo, 0 is one-step.

    References:
        Schulman et al. 2016, "High-Dimensional Continuous Control Using Generalized Advantage
        Estimation", equation 16.
    """
    next_value = torch.cat([value[..., 1:], last_value.unsqueeze(-1)], dim=-1)
    next_value = next_value.masked_fill(terminated, 0.0)
    surprise = reward + discount * next_value - value
    return discounted_sum(surprise, terminated, discount * gae_lambda)


def linear_baseline(
    observation: Float[Tensor, "N B T O"], target: Float[Tensor, "N B T"]
) -> Float[Tensor, "N B T"]:
    """Fit a linear value function to each task and return its values.

    Features are the clipped observation, its square, the time in units of 100 steps, its square
    and cube, and a constant; least squares with a ridge of 1e-5.

    Args:
        observation: Observations of the policy.
        target: Returns to go.

    References:
        Duan et al. 2016, "Benchmarking Deep Reinforcement Learning", section 6 (the features).
    """
    num_steps = observation.shape[2]
    seen = observation.double().clamp(-10.0, 10.0)
    time = torch.arange(num_steps, dtype=torch.float64, device=seen.device) / 100.0
    powers = torch.stack([time, time**2, time**3, torch.ones_like(time)], dim=-1)
    features = torch.cat([seen, seen.square(), powers.expand(*seen.shape[:3], 4)], dim=-1).flatten(
        1, 2
    )
    gram = features.mT @ features
    ridge = 1e-5 * torch.eye(gram.shape[-1], dtype=torch.float64, device=seen.device)
    # A sum, because a matrix-vector product would be rounded differently for a single task.
    moment = (features * target.double().flatten(1, 2).unsqueeze(-1)).sum(1)
    # Non-finite numbers pass through; the caller detects them.
    weights, _ = torch.linalg.solve_ex(gram + ridge, moment.unsqueeze(-1))
    value: Tensor = (features * weights.mT).sum(-1).unflatten(1, target.shape[1:])
    return value.to(target.dtype)


def normalise_per_task(advantage: Float[Tensor, "N B T"]) -> Float[Tensor, "N B T"]:
    """Shift and scale the advantages of each task to mean 0 and standard deviation 1."""
    mean = advantage.mean((1, 2), keepdim=True)
    centred = advantage - mean
    # Not `std`, which rounds differently for a single task.
    deviation = centred.square().mean((1, 2), keepdim=True).sqrt()
    return centred / (deviation + 1e-8)


def standardise_over_tasks(
    value: Float[Tensor, " N"], num_tasks: int, add_up: Callable[[Tensor], Tensor]
) -> Float[Tensor, " N"]:
    """Shift and scale one number per task to mean 0 and standard deviation 1 over a meta-batch.

    Args:
        value: Values of this learner's tasks.
        num_tasks: Number of tasks in the whole meta-batch.
        add_up: Function that sums a vector over all learners; the identity if there is one.
    """
    centred = value - add_up(value.sum(0, keepdim=True)) / num_tasks
    variance = add_up(centred.square().sum(0, keepdim=True)) / num_tasks
    return centred / (variance.sqrt() + 1e-8)


def likelihood_ratio_loss(
    log_prob: Float[Tensor, "*batch"],
    old_log_prob: Float[Tensor, "*batch"],
    advantage: Float[Tensor, "*batch"],
) -> Float[Tensor, ""]:
    """The inner loss: minus the mean of likelihood ratio times advantage.

    Its gradient at the sampling policy is the policy gradient, and its second derivative is that
    of the low variance curvature estimator. It is also the outer loss of MAML-TRPO. With a task's
    adjusted return instead of the advantage, it is E-MAML's exploration term.

    References:
        Rothfuss et al. 2019, "ProMP", equation 11.
    """
    return -(torch.exp(log_prob - old_log_prob) * advantage).mean()


def clipped_loss(
    log_prob: Float[Tensor, "*batch"],
    old_log_prob: Float[Tensor, "*batch"],
    advantage: Float[Tensor, "*batch"],
    clip: float,
) -> Float[Tensor, ""]:
    """The outer loss: minus the surrogate with the likelihood ratio clipped to ``1 +- clip``.

    References:
        Schulman et al. 2017, "Proximal Policy Optimization Algorithms", equation 7.
    """
    ratio = torch.exp(log_prob - old_log_prob)
    cut = ratio.clamp(1.0 - clip, 1.0 + clip)
    return -torch.minimum(ratio * advantage, cut * advantage).mean()
