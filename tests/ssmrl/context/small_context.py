"""Small context-sac configurations, and random experience for them."""

from typing import Any

import torch
from torch import Tensor

from ssmrl.config import TrainConfig
from ssmrl.context.networks import ContextNetworks
from ssmrl.context.sac import Batch
from ssmrl.types import Trajectory


def small_context(task: str = "point", **knobs: Any) -> TrainConfig:
    """Four lanes of ten steps, a replay of three iterations, networks of a few hundred weights."""
    small = {
        "env.horizon": 10,
        "policy.state_dim": 8,
        "policy.hidden_dim": 16,
        "meta.num_lanes": 4,
        "meta.random_env_steps": 40,
        "meta.replay_env_steps": 120,
        "meta.batch_size": 32,
        "meta.critic_hidden_dim": 16,
        "meta.actor_hidden_dim": 16,
        "meta.updates_per_env_step": 0.1,
        "meta.inference_updates_per_meta_episode": 0.5,
        "meta.inference_batch": 4,
        "evaluation.num_tasks": 3,
    }
    return TrainConfig.for_task(task).with_knobs(small | knobs)


def random_trajectories(
    num_episodes: int, lanes: int, horizon: int, observation_dim: int, action_dim: int, seed: int
) -> list[Trajectory]:
    """Meta-episodes of ``lanes`` tasks with one lane each, some of which end early."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(lanes, 1, *shape, generator=generator)

    trajectories = []
    for _ in range(num_episodes):
        terminated = torch.rand(lanes, 1, horizon, generator=generator) < 0.2
        first = torch.cat([torch.ones(lanes, 1, 1, dtype=torch.bool), terminated[..., :-1]], -1)
        truncated = torch.zeros_like(terminated)
        truncated[..., -1] = ~terminated[..., -1]
        trajectories.append(
            Trajectory(
                observation=normal(horizon, observation_dim),
                action=torch.tanh(normal(horizon, action_dim)),
                reward=normal(horizon),
                log_prob=normal(horizon),
                first=first,
                terminated=terminated,
                truncated=truncated,
                last_observation=normal(observation_dim),
                motion=normal(horizon, 5).double(),
            )
        )
    return trajectories


def random_networks(config: TrainConfig, seed: int = 0) -> ContextNetworks:
    """Networks of the point in float64 whose weights and biases are all random."""
    generator = torch.Generator().manual_seed(seed)
    networks = ContextNetworks(config, 2, 2).double()
    with torch.no_grad():
        for parameter in networks.parameters():
            noise = torch.randn(parameter.shape, generator=generator).double()
            parameter.add_(0.2 * noise)
    return networks


def random_batch(size: int = 7, seed: int = 0) -> Batch:
    """Transitions of the point in float64, of which some are the last ones."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(size, *shape, generator=generator).double()

    continues = (torch.rand(size, generator=generator) < 0.7).double()
    return Batch(
        normal(2), torch.tanh(normal(2)), normal(), normal(2), continues, normal(2).clamp(-1, 1)
    )
