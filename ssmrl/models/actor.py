"""A Gaussian policy over any sequence model."""

import math

import torch
from torch import Tensor, nn

from ssmrl.config import PolicyConfig
from ssmrl.models.mlp import MLP
from ssmrl.models.policy import SequencePolicy
from ssmrl.models.ssm import StateSpaceModel
from ssmrl.types import Hidden


class GaussianActor(nn.Module):
    """Independent normal actions: the sequence model gives the mean, one parameter the spread.

    Args:
        policy: The sequence model; its output is the mean.
        init_std: Initial standard deviation, the same at every state.
    """

    def __init__(self, policy: SequencePolicy, init_std: float = 1.0) -> None:
        super().__init__()
        self.policy = policy
        self.log_std = nn.Parameter(torch.full((policy.output_dim,), math.log(init_std)))

    def init_hidden(self, batch_size: int) -> Hidden:
        """An empty memory for each sequence."""
        return self.policy.init_hidden(batch_size)

    def forward(
        self, observation: Tensor, hidden: Hidden, first: Tensor
    ) -> tuple[Tensor, Tensor, Hidden]:
        """Step on ``(B, O)``, scan on ``(B, T, O)``.

        Returns:
            Mean ``(B, A)`` or ``(B, T, A)``, log standard deviation ``(A,)``, next memory.
        """
        mean, next_hidden = self.policy(observation, hidden, first)
        return mean, self.log_std, next_hidden


def make_actor(
    config: PolicyConfig, observation_dim: int, action_dim: int, generator: torch.Generator
) -> GaussianActor:
    """Build the policy that a configuration describes.

    Args:
        config: Which sequence model, and its sizes.
        observation_dim: ``O``.
        action_dim: ``A``.
        generator: Where the initial weights come from.
    """
    seed = int(torch.randint(2**62, (1,), generator=generator))
    policy: SequencePolicy
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if config.method == "ssm":
            policy = StateSpaceModel(
                config.state_dim, observation_dim, action_dim, config.hidden_dim
            )
        else:
            policy = MLP(observation_dim, action_dim, config.hidden_dim)
    return GaussianActor(policy, config.init_std)


def log_density(action: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log density of a diagonal normal, summed over the action's axes.

    Args:
        action: ``(..., A)``.
        mean: ``(..., A)``.
        log_std: ``(A,)``.
    """
    scaled = (action - mean) * torch.exp(-log_std)
    return (-0.5 * scaled.square() - log_std - 0.5 * math.log(2.0 * math.pi)).sum(-1)


def divergence(mean: Tensor, log_std: Tensor, new_mean: Tensor, new_log_std: Tensor) -> Tensor:
    """Kullback-Leibler divergence of a new diagonal normal from an old one, ``(...)``.

    ``KL(old || new)``, summed over the action's axes.
    """
    ratio = torch.exp(2.0 * (log_std - new_log_std))
    shift = (mean - new_mean).square() * torch.exp(-2.0 * new_log_std)
    return (new_log_std - log_std + 0.5 * (ratio + shift - 1.0)).sum(-1)
