"""Soft actor-critic on the code of the hidden task: loss functions and optimiser steps.

An update reads no tensor's value, so that a device can capture it. With stacked networks, ``*R`` is
the axis of seeds: one call updates every seed, and no seed's gradient depends on the others. The
axis is left out for a single seed.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ssmrl.context.networks import ContextNetworks
from ssmrl.context.settings import ContextSettings

LOG_STD_RANGE = (-5.0, 2.0)


class Batch(NamedTuple):
    """Transitions for one update, with the code of the task that paid their rewards.

    Attributes:
        observation: Normalised, ``(*R, M, O)``.
        action: ``(*R, M, A)``, in ``[-1, 1]``.
        reward: ``(*R, M)``.
        next_observation: Normalised, ``(*R, M, O)``; after a termination it is the first
            observation of the next episode.
        continues: 0 if the episode terminated, else 1, ``(*R, M)``.
        code: ``(*R, M, Z)``.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    next_observation: Tensor
    continues: Tensor
    code: Tensor


class Losses(NamedTuple):
    """Losses of critics, actor and temperature, and the mean entropy, each ``(*R)``."""

    critic: Tensor
    actor: Tensor
    temperature: Tensor
    entropy: Tensor


def squashed(
    output: Float[Tensor, "*batch AA"], noise: Float[Tensor, "*batch A"]
) -> tuple[Float[Tensor, "*batch A"], Float[Tensor, "*batch"]]:
    """An action in ``(-1, 1)`` and its log density.

    Args:
        output: Output of the actor: mean before the tanh, and raw log standard deviation.
        noise: Standard normal numbers; zeros give the mode before squashing.

    References:
        Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications", appendix C.
    """
    mean, raw = output.chunk(2, dim=-1)
    low, high = LOG_STD_RANGE
    log_std = low + 0.5 * (high - low) * (torch.tanh(raw) + 1.0)
    before = mean + log_std.exp() * noise
    return torch.tanh(before), _log_density(noise, log_std, before)


def _log_density(noise: Tensor, log_std: Tensor, before: Tensor) -> Tensor:
    """Log density of the action ``tanh(before)``, summed over its components."""
    density = -0.5 * noise.square() - log_std - 0.5 * math.log(2.0 * math.pi)
    # log(1 - tanh(x)^2), without the loss of digits where tanh is near 1.
    stretch = 2.0 * (math.log(2.0) - before - functional.softplus(-2.0 * before))
    return (density - stretch).sum(-1)


def critic_target(
    networks: ContextNetworks,
    batch: Batch,
    noise: Float[Tensor, "*R M A"],
    discount: float,
    *,
    ends_free: bool,
) -> Float[Tensor, "*R M"]:
    """Target of both critics: the reward plus the discounted soft value of the next state.

    Args:
        networks: Networks; the actor chooses the next action, the targets evaluate it.
        batch: Transitions.
        noise: Standard normal numbers for the next action.
        discount: Discount per env step.
        ends_free: Whether the value after a termination is 0. Otherwise it is the next start's
            value if that is negative, so that no policy learns to fall to escape negative rewards.
    """
    seen = torch.cat([batch.next_observation, batch.code], dim=-1)
    action, log_prob = squashed(networks.actor.passed(seen)[0][0], noise)
    value = networks.target.passed(torch.cat([seen, action], dim=-1))[0].amin(0)[..., 0]
    soft = value - networks.log_temperature.exp().unsqueeze(-1) * log_prob
    after_end = torch.zeros_like(soft) if ends_free else soft.clamp(max=0.0)
    target: Tensor = batch.reward + discount * torch.lerp(after_end, soft, batch.continues)
    return target


def critic_loss(
    networks: ContextNetworks, batch: Batch, target: Float[Tensor, "*R M"]
) -> Float[Tensor, "*R"]:
    """Squared error of both critics, summed over them."""
    inputs = torch.cat([batch.observation, batch.code, batch.action], dim=-1)
    value = networks.critic(inputs)[..., 0]
    loss: Tensor = (value - target).square().mean(-1).sum(0)
    return loss


def actor_loss(
    networks: ContextNetworks, batch: Batch, noise: Float[Tensor, "*R M A"]
) -> tuple[Float[Tensor, "*R"], Float[Tensor, "*R"]]:
    """Minus the soft value of the actor's own actions, and minus their mean entropy."""
    seen = torch.cat([batch.observation, batch.code], dim=-1)
    action, log_prob = squashed(networks.actor(seen)[0], noise)
    value = networks.critic(torch.cat([seen, action], dim=-1)).amin(0)[..., 0]
    temperature = networks.log_temperature.detach().exp().unsqueeze(-1)
    return (temperature * log_prob - value).mean(-1), log_prob.mean(-1)


def temperature_loss(
    log_temperature: Float[Tensor, "*R"], log_prob: Float[Tensor, "*R"], target_entropy: float
) -> Float[Tensor, "*R"]:
    """Loss that raises the temperature if the policy has less entropy than the target."""
    return -log_temperature.exp() * (log_prob.detach() + target_entropy)


class SoftActorCritic:
    """Owns the optimisers of actor, critics and temperature.

    Args:
        networks: Networks, trained in place.
        settings: Learning rate, discount and averaging rates.
        fused: Whether to use fused optimiser kernels, which not every device has.
        capturable: Whether an optimiser's step can be part of a CUDA graph.

    References:
        Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications", algorithm 1; Fujimoto
        et al. 2018, "Addressing Function Approximation Error in Actor-Critic Methods" (two critics,
        and an actor that moves less often).
    """

    def __init__(
        self,
        networks: ContextNetworks,
        settings: ContextSettings,
        *,
        fused: bool = True,
        capturable: bool = False,
    ) -> None:
        self._networks, self._settings = networks, settings
        self._target_entropy = settings.target_entropy * networks.action_dim
        moved = {
            "critic": [networks.critic.flat],
            "actor": [networks.actor.flat, networks.log_temperature],
        }
        self.optimizers = {
            name: torch.optim.Adam(
                parameters, settings.learning_rate, fused=fused, capturable=capturable
            )
            for name, parameters in moved.items()
        }

    @torch.no_grad()
    def update(
        self, batch: Batch, noise: Float[Tensor, "2 *R M A"], *, moves_actor: bool
    ) -> Losses | None:
        """Update the critics and their targets, and optionally actor and temperature.

        Args:
            batch: Transitions.
            noise: Standard normal numbers for the target and for the actor.
            moves_actor: Whether to update actor and temperature.

        Returns:
            The losses if the actor was updated, else None.
        """
        networks, settings = self._networks, self._settings
        target = critic_target(
            networks, batch, noise[0], settings.discount, ends_free=settings.ends_free
        )
        of_critic, networks.critic.flat.grad = critic_step(networks, batch, target)
        self.optimizers["critic"].step()
        losses = None
        if moves_actor:
            found = actor_step(networks, batch, noise[1])
            of_temperature = temperature_loss(
                networks.log_temperature, found.log_prob, self._target_entropy
            )
            networks.actor.flat.grad = found.gradient
            # The loss is linear in exp(log_temperature), so it equals its own gradient.
            networks.log_temperature.grad = of_temperature
            self.optimizers["actor"].step()
            networks.average.flat.lerp_(networks.actor.flat, settings.average_rate)
            losses = Losses(of_critic, found.loss, of_temperature, -found.log_prob)
        networks.target.flat.lerp_(networks.critic.flat, settings.target_rate)
        return losses


class ActorStep(NamedTuple):
    """Loss of the actor and its mean log density, ``(*R)``, and the gradient of its weights."""

    loss: Tensor
    log_prob: Tensor
    gradient: Tensor


def critic_step(
    networks: ContextNetworks, batch: Batch, target: Float[Tensor, "*R M"]
) -> tuple[Float[Tensor, "*R"], Tensor]:
    """``critic_loss`` and the hand-written gradient of the critics' weights."""
    inputs = torch.cat([batch.observation, batch.code, batch.action], dim=-1)
    value, way = networks.critic.passed(inputs)
    error = value - target.unsqueeze(-1)
    loss = error.square().mean(-2).sum((0, -1))
    return loss, networks.critic.weight_gradient(way, error * (2.0 / target.shape[-1]))


def actor_step(
    networks: ContextNetworks, batch: Batch, noise: Float[Tensor, "*R M A"]
) -> ActorStep:
    """``actor_loss`` and the hand-written gradient of the actor's weights."""
    seen = torch.cat([batch.observation, batch.code], dim=-1)
    output, way = networks.actor.passed(seen)
    mean, raw = output[0].chunk(2, dim=-1)
    low, high = LOG_STD_RANGE
    bent = torch.tanh(raw)
    log_std = low + 0.5 * (high - low) * (bent + 1.0)
    deviation = log_std.exp() * noise
    before = mean + deviation
    action = torch.tanh(before)
    log_prob = _log_density(noise, log_std, before)
    value, critic_way = networks.critic.passed(torch.cat([seen, action], dim=-1))
    lower, which = value.min(0)
    temperature, size = networks.log_temperature.exp(), noise.shape[-2]
    weight = (temperature / size)[..., None, None]
    # Only the lower critic counts; its value enters the loss with a minus sign.
    counts = torch.full_like(value, 0.0).scatter_(0, which.unsqueeze(0), -1.0 / size)
    to_action = networks.critic.input_gradient(critic_way, counts, action.shape[-1])
    # The tanh adds 2 tanh(x) to the gradient of the log density.
    to_before = to_action * (1.0 - action.square()) + 2.0 * weight * action
    to_log_std = to_before * deviation - weight
    to_raw = to_log_std * (1.0 - bent.square()) * (0.5 * (high - low))
    gradient = networks.actor.weight_gradient(
        way, torch.cat([to_before, to_raw], dim=-1).unsqueeze(0)
    )
    mean_log_prob = log_prob.mean(-1)
    loss = temperature * mean_log_prob - lower.mean((-2, -1))
    return ActorStep(loss, mean_log_prob, gradient)
