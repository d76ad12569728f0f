"""Soft actor-critic on the code of the hidden task: pure losses, and the optimisers' owner.

Nothing in an update reads a tensor's value, so that it can be captured on a device. Where the
networks are those of several seeds, ``*R`` is the axis of the seeds, and one update is that of each
of them: no seed's gradient depends on the others. It is left out for a single seed.
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
        next_observation: Normalised, ``(*R, M, O)``; after an end it is the start of the next
            episode.
        continues: 0 where the episode ended by its own rules, else 1, ``(*R, M)``.
        code: ``(*R, M, Z)``.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    next_observation: Tensor
    continues: Tensor
    code: Tensor


class Losses(NamedTuple):
    """What an update saw, each ``(*R)``: critics, actor, temperature, mean entropy."""

    critic: Tensor
    actor: Tensor
    temperature: Tensor
    entropy: Tensor


def squashed(
    output: Float[Tensor, "*batch AA"], noise: Float[Tensor, "*batch A"]
) -> tuple[Float[Tensor, "*batch A"], Float[Tensor, "*batch"]]:
    """An action in ``(-1, 1)`` and its log density.

    Args:
        output: Of the actor: mean before the hyperbolic tangent, and what gives its log standard
            deviation.
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
    """Of the action ``tanh(before)``, summed over its axes."""
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
    """What both critics should say: reward, and the soft value of what follows.

    Args:
        networks: The targets judge, the actor acts.
        batch: What happened.
        noise: Standard normal numbers for the action that follows.
        discount: Per env step.
        ends_free: Whether nothing follows an end. Otherwise the next start follows where that is
            worse than nothing, so that no policy learns to fall because its task costs too much.
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
    """Falls as the temperature rises where the policy has less entropy than wanted."""
    return -log_temperature.exp() * (log_prob.detach() + target_entropy)


class SoftActorCritic:
    """Owns the optimisers of actor, critics and temperature.

    Args:
        networks: Trained in place.
        settings: Step size, discount, rates.
        fused: Whether an optimiser's step is one kernel, which not every device has.
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
        """One step of the critics and their targets, and of actor and temperature if wanted.

        Args:
            batch: Transitions.
            noise: Standard normal numbers for the target and for the actor.
            moves_actor: Whether the actor moves.

        Returns:
            The losses, if the actor moved.
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
            # The loss is linear in the temperature, of which the parameter is the logarithm.
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
    """``critic_loss`` and the gradient of the critics' weights, written out."""
    inputs = torch.cat([batch.observation, batch.code, batch.action], dim=-1)
    value, way = networks.critic.passed(inputs)
    error = value - target.unsqueeze(-1)
    loss = error.square().mean(-2).sum((0, -1))
    return loss, networks.critic.weight_gradient(way, error * (2.0 / target.shape[-1]))


def actor_step(
    networks: ContextNetworks, batch: Batch, noise: Float[Tensor, "*R M A"]
) -> ActorStep:
    """``actor_loss`` and the gradient of the actor's weights, written out."""
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
    # Only the lower critic counts; the sign is that of minus its value.
    counts = torch.full_like(value, 0.0).scatter_(0, which.unsqueeze(0), -1.0 / size)
    to_action = networks.critic.input_gradient(critic_way, counts, action.shape[-1])
    # The log density grows by 2 tanh(x) where the action's logarithmic slope falls.
    to_before = to_action * (1.0 - action.square()) + 2.0 * weight * action
    to_log_std = to_before * deviation - weight
    to_raw = to_log_std * (1.0 - bent.square()) * (0.5 * (high - low))
    gradient = networks.actor.weight_gradient(
        way, torch.cat([to_before, to_raw], dim=-1).unsqueeze(0)
    )
    mean_log_prob = log_prob.mean(-1)
    loss = temperature * mean_log_prob - lower.mean((-2, -1))
    return ActorStep(loss, mean_log_prob, gradient)
