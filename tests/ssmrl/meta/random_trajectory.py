"""Small actors and random experience in float64, for tests of formulas."""

from typing import Any

import torch
from torch import Tensor

from ssmrl.config import PolicyConfig, TrainConfig
from ssmrl.meta.settings import ProMPSettings
from ssmrl.models.actor import GaussianActor, log_density, make_actor
from ssmrl.types import Params, Trajectory

O, A = 2, 1
N, B, T = 3, 2, 6
TINY = ProMPSettings(inner_lr=0.1, clip=0.2, inner_kl=0.5, num_epochs=2, outer_lr=0.01)
"""Large step sizes and weights, so that no term of the loss is too small to be seen."""


def tiny_config(algorithm: str, **settings: Any) -> TrainConfig:
    """A configuration of an algorithm with these settings, and ``TINY`` where it has them."""
    base = TrainConfig(algorithm=algorithm)
    tiny = {f"meta.{name}": value for name, value in (vars(TINY) | settings).items()}
    return base.with_knobs({k: v for k, v in tiny.items() if k in base.knobs()})


def tiny_actor(method: str, seed: int = 0) -> GaussianActor:
    """An actor of a few dozen random parameters."""
    config = PolicyConfig(method=method, state_dim=4, hidden_dim=4, init_std=0.7)
    generator = torch.Generator().manual_seed(seed)
    actor = make_actor(config, O, A, generator).double()
    with torch.no_grad():
        for parameter in actor.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator).double())
    return actor


def detached(actor: GaussianActor) -> Params:
    return {name: value.detach().clone() for name, value in actor.named_parameters()}


def random_trajectory(actor: GaussianActor, seed: int, spread: float = 0.0) -> Trajectory:
    """Experience with early ends in some lanes.

    Args:
        actor: Its density of the actions is recorded.
        seed: Of everything random.
        spread: Standard deviation added to the recorded log densities, as if other parameters
            had acted: likelihood ratios then leave the trust interval on both sides.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).double()

    observation = normal(N, B, T, O)
    terminated = torch.rand(N, B, T, generator=generator) < 0.2
    first = torch.cat([torch.ones(N, B, 1, dtype=torch.bool), terminated[..., :-1]], dim=-1)
    truncated = torch.zeros_like(terminated)
    truncated[..., -1] = ~terminated[..., -1]
    with torch.no_grad():
        lanes = N * B
        mean, log_std, _ = actor(
            observation.flatten(0, 1), actor.init_hidden(lanes), first.flatten(0, 1)
        )
        mean = mean.unflatten(0, (N, B))
        action = mean + log_std.exp() * normal(N, B, T, A)
        log_prob = log_density(action, mean, log_std)
    return Trajectory(
        observation=observation,
        action=action,
        reward=normal(N, B, T),
        log_prob=log_prob + spread * normal(N, B, T),
        first=first,
        terminated=terminated,
        truncated=truncated,
        last_observation=normal(N, B, O),
        motion=torch.empty(N, B, T, 0),
    )


def random_batch(
    actor: GaussianActor, num_inner_steps: int, seed: int = 0
) -> tuple[list[Trajectory], Trajectory]:
    """Supports and a query, as after a collection with ``num_inner_steps`` adaptations."""
    supports = [random_trajectory(actor, 10 * seed + k, 0.1) for k in range(num_inner_steps)]
    return supports, random_trajectory(actor, 10 * seed + 9, 0.2)
