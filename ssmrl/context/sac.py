"""Soft actor-critic on the code of the hidden task: pure losses, and the optimisers' owner.

Nothing in an update reads a tensor's value, so that it can be captured on a device.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ssmrl.context.networks import ContextNetworks
from ssmrl.context.settings import ContextSettings

LOG_STD_RANGE = (-5.0, 2.0)


class Batch(NamedTuple):
    """Transitions for one update, with the code of the task that paid their rewards.

    Attributes:
        observation: Normalised, ``(M, O)``.
        action: ``(M, A)``, in ``[-1, 1]``.
        reward: ``(M,)``.
        next_observation: Normalised, ``(M, O)``.
        continues: 0 where the episode ended by its own rules, else 1, ``(M,)``.
        code: ``(M, Z)``.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    next_observation: Tensor
    continues: Tensor
    code: Tensor


class Losses(NamedTuple):
    """What an update saw, each a scalar tensor: critics, actor, temperature, mean entropy."""

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
    density = -0.5 * noise.square() - log_std - 0.5 * math.log(2.0 * math.pi)
    # log(1 - tanh(x)^2), without the loss of digits where tanh is near 1.
    stretch = 2.0 * (math.log(2.0) - before - functional.softplus(-2.0 * before))
    return torch.tanh(before), (density - stretch).sum(-1)


def critic_target(
    networks: ContextNetworks, batch: Batch, noise: Float[Tensor, "M A"], discount: float
) -> Float[Tensor, " M"]:
    """What both critics should say: reward, and the soft value of what follows."""
    seen = torch.cat([batch.next_observation, batch.code], dim=-1)
    action, log_prob = squashed(networks.actor(seen)[0], noise)
    value = networks.target(torch.cat([seen, action], dim=-1)).amin(0)[:, 0]
    soft = value - networks.log_temperature.exp() * log_prob
    return batch.reward + discount * batch.continues * soft


def critic_loss(networks: ContextNetworks, batch: Batch, target: Float[Tensor, " M"]) -> Tensor:
    """Squared error of both critics, summed over them."""
    inputs = torch.cat([batch.observation, batch.code, batch.action], dim=-1)
    value = networks.critic(inputs)[..., 0]
    return (value - target).square().mean(-1).sum()


def actor_loss(
    networks: ContextNetworks, batch: Batch, noise: Float[Tensor, "M A"]
) -> tuple[Tensor, Tensor]:
    """Minus the soft value of the actor's own actions, and minus their mean entropy."""
    seen = torch.cat([batch.observation, batch.code], dim=-1)
    action, log_prob = squashed(networks.actor(seen)[0], noise)
    value = networks.critic(torch.cat([seen, action], dim=-1)).amin(0)[:, 0]
    temperature = networks.log_temperature.detach().exp()
    return (temperature * log_prob - value).mean(), log_prob.mean()


def temperature_loss(log_temperature: Tensor, log_prob: Tensor, target_entropy: float) -> Tensor:
    """Falls as the temperature rises where the policy has less entropy than wanted."""
    return -log_temperature.exp() * (log_prob.detach() + target_entropy)


class SoftActorCritic:
    """Owns the optimisers of actor, critics and temperature.

    Args:
        networks: Trained in place.
        settings: Step size, discount, rates.

    References:
        Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications", algorithm 1; Fujimoto
        et al. 2018, "Addressing Function Approximation Error in Actor-Critic Methods" (two critics,
        and an actor that moves less often).
    """

    def __init__(self, networks: ContextNetworks, settings: ContextSettings) -> None:
        self._networks, self._settings = networks, settings
        self._target_entropy = -0.5 * networks.action_dim
        self._critic = list(networks.critic.parameters())
        self._target = list(networks.target.parameters())
        self._of_actor = [*networks.actor.parameters(), networks.log_temperature]
        lr = settings.learning_rate
        self._critic_optimizer = torch.optim.Adam(self._critic, lr, fused=True)
        self._actor_optimizer = torch.optim.Adam(self._of_actor, lr, fused=True)

    def update(
        self, batch: Batch, noise: Float[Tensor, "2 M A"], *, moves_actor: bool
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
        with torch.no_grad():
            target = critic_target(networks, batch, noise[0], settings.discount)
        of_critic = critic_loss(networks, batch, target)
        self._step(self._critic_optimizer, self._critic, of_critic)
        losses = None
        if moves_actor:
            of_actor, log_prob = actor_loss(networks, batch, noise[1])
            of_temperature = temperature_loss(
                networks.log_temperature, log_prob, self._target_entropy
            )
            self._step(self._actor_optimizer, self._of_actor, of_actor + of_temperature)
            losses = Losses(
                of_critic.detach(), of_actor.detach(), of_temperature.detach(), -log_prob.detach()
            )
        with torch.no_grad():
            torch._foreach_lerp_(self._target, self._critic, settings.target_rate)
        return losses

    def state(self) -> dict[str, Tensor]:
        """The optimisers' moments by name, copied."""
        return {
            f"{part}.{key}.{index}": torch.as_tensor(value).clone()
            for part, optimizer, parameters in self._parts()
            for index, parameter in enumerate(parameters)
            for key, value in optimizer.state[parameter].items()
        }

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of ``state``."""
        for part, optimizer, parameters in self._parts():
            for index, parameter in enumerate(parameters):
                optimizer.state[parameter] = {
                    key: tensors[f"{part}.{key}.{index}"].clone()
                    for key in ("step", "exp_avg", "exp_avg_sq")
                    if f"{part}.{key}.{index}" in tensors
                }

    def _parts(self) -> tuple[tuple[str, torch.optim.Adam, list[nn.Parameter]], ...]:
        return (
            ("critic_optimizer", self._critic_optimizer, self._critic),
            ("actor_optimizer", self._actor_optimizer, self._of_actor),
        )

    def _step(
        self, optimizer: torch.optim.Adam, parameters: list[nn.Parameter], loss: Tensor
    ) -> None:
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(loss, parameters), strict=True
        ):
            parameter.grad = gradient
        optimizer.step()
