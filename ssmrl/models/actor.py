"""A Gaussian policy over any sequence model."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from ssmrl.config import MEMORY_RESETS, METHODS, PolicyConfig, SequenceConfig
from ssmrl.import_path import is_import_path
from ssmrl.models.gru import GRU
from ssmrl.models.lstm import LSTM
from ssmrl.models.mlp import MLP
from ssmrl.models.own_model import OwnModel
from ssmrl.models.policy import SequencePolicy
from ssmrl.models.ssm import StateSpaceModel
from ssmrl.models.transformer import Transformer
from ssmrl.types import Hidden
from ssmrl.unknown_name import UnknownNameError


class GaussianActor(nn.Module):
    """Diagonal Gaussian actions: the sequence model gives the mean, a parameter the log std.

    Args:
        policy: Sequence model; its output is the mean.
        init_std: Initial standard deviation, the same in every state.
        rl2_inputs: Whether the last action, the last reward and an episode-start flag are inputs
            beside the observation; ``policy.input_dim`` must include them.
        memory_reset: Reset of the hidden state: at the start of each ``"episode"``, or only
            of the ``"trial"``, where the caller passes a zero hidden state.

    Raises:
        ValueError: If ``memory_reset`` is neither.

    References:
        Duan et al. 2016, "RL^2: Fast Reinforcement Learning via Slow Reinforcement Learning",
        section 2.2.
    """

    def __init__(
        self,
        policy: SequencePolicy,
        init_std: float = 1.0,
        *,
        rl2_inputs: bool = False,
        memory_reset: str = "episode",
    ) -> None:
        if memory_reset not in MEMORY_RESETS:
            raise ValueError(
                f"`memory_reset` must be one of {list(MEMORY_RESETS)}, but got {memory_reset!r}"
            )
        super().__init__()
        self.policy = policy
        self.log_std = nn.Parameter(torch.full((policy.output_dim,), math.log(init_std)))
        self._rl2_inputs = rl2_inputs
        self._forgets_at_first = memory_reset == "episode"

    @property
    def input_is_observation(self) -> bool:
        """Whether observations are the inputs, so that ``make_input`` is not needed."""
        return not self._rl2_inputs

    def init_hidden(self, batch_size: int) -> Hidden:
        """The initial hidden state of ``batch_size`` sequences, zeros."""
        return self.policy.init_hidden(batch_size)

    def forward(
        self, inputs: Tensor, hidden: Hidden, first: Tensor
    ) -> tuple[Tensor, Tensor, Hidden]:
        """Step on ``(B, I)``, scan on ``(B, T, I)``.

        Args:
            inputs: Inputs from ``make_input`` or ``lane_input``.
            hidden: Hidden state before; zeros at the start of a lane.
            first: Whether an episode starts, ``(B,)`` or ``(B, T)``; it resets the hidden state,
                unless ``memory_reset`` is ``"trial"``.

        Returns:
            Mean ``(B, A)`` or ``(B, T, A)``, log standard deviation ``(A,)``, next hidden state.
        """
        forget = first if self._forgets_at_first else torch.zeros_like(first)
        mean, next_hidden = self.policy(inputs, hidden, forget)
        return mean, self.log_std, next_hidden

    def make_input(
        self,
        observation: Float[Tensor, "*batch O"],
        previous_action: Float[Tensor, "*batch A"],
        previous_reward: Float[Tensor, "*batch"],
        first: Bool[Tensor, "*batch"],
    ) -> Float[Tensor, "*batch I"]:
        """The policy's inputs at one step, or at each of many.

        Args:
            observation: Current observation.
            previous_action: Action of the step before in the same lane; 0 at the lane's start.
            previous_reward: Reward of that action; 0 at the lane's start.
            first: Whether an episode starts. If ``memory_reset`` is ``"episode"``, the last action
                and reward are then set to 0.
        """
        if not self._rl2_inputs:
            return observation
        starts = first.unsqueeze(-1)
        last_step = torch.cat([previous_action, previous_reward.unsqueeze(-1)], dim=-1)
        if self._forgets_at_first:
            last_step = last_step.masked_fill(starts, 0.0)
        return torch.cat([observation, last_step, starts.to(observation.dtype)], dim=-1)

    def lane_input(
        self,
        observation: Float[Tensor, "*batch T O"],
        action: Float[Tensor, "*batch T A"],
        reward: Float[Tensor, "*batch T"],
        first: Bool[Tensor, "*batch T"],
    ) -> Float[Tensor, "*batch T I"]:
        """The same inputs for whole lanes, from the tensors of a trajectory.

        Args:
            observation: Observation at each step.
            action: Action at each step; the last is not used.
            reward: Reward of each step; the last is not used.
            first: Whether an episode starts at each step.
        """
        if not self._rl2_inputs:
            return observation
        previous_action = functional.pad(action[..., :-1, :], (0, 0, 1, 0))
        return self.make_input(
            observation, previous_action, functional.pad(reward[..., :-1], (1, 0)), first
        )


def encoder_names(actor: GaussianActor) -> set[str]:
    """Parameter names of the sequence encoder: all of the policy but its output layer."""
    return {
        name
        for name, _ in actor.named_parameters()
        if name.startswith("policy.") and not name.startswith("policy.head.")
    }


def make_actor(
    config: PolicyConfig, observation_dim: int, action_dim: int, generator: torch.Generator
) -> GaussianActor:
    """Build the policy that a configuration describes.

    Args:
        config: Settings: the sequence model, its sizes and its inputs.
        observation_dim: Width of the observation, ``O``.
        action_dim: Width of the action, ``A``.
        generator: Random generator of the initial weights.
    """
    seed = int(torch.randint(2**62, (1,), generator=generator))
    # Last action, last reward, episode-start flag.
    input_dim = observation_dim + (action_dim + 2 if config.rl2_inputs else 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        policy = make_policy(config, input_dim, action_dim)
    return GaussianActor(
        policy, config.init_std, rl2_inputs=config.rl2_inputs, memory_reset=config.memory_reset
    )


def make_policy(config: SequenceConfig, input_dim: int, output_dim: int) -> SequencePolicy:
    """Build the sequence model alone, with initial weights from torch's global generator.

    Raises:
        KeyError: If ``config.method`` is unknown.
        ImportPathError: If its import path does not lead to a sequence model.
    """
    if is_import_path(config.method):
        return OwnModel(config.method, config, input_dim, output_dim)
    hidden_dim, num_layers = config.hidden_dim, config.num_layers
    match config.method:
        case "ssm":
            return StateSpaceModel(
                config.state_dim,
                input_dim,
                output_dim,
                hidden_dim,
                num_layers=num_layers,
                gated=config.gated,
            )
        case "lstm":
            return LSTM(input_dim, output_dim, hidden_dim)
        case "gru":
            return GRU(input_dim, output_dim, hidden_dim)
        case "transformer":
            return Transformer(
                input_dim, output_dim, hidden_dim, num_layers, config.num_heads, config.window
            )
        case "mlp":
            return MLP(input_dim, output_dim, hidden_dim)
    raise UnknownNameError(
        f"unknown method {config.method!r}; the methods are: {', '.join(METHODS)}"
    )


def log_density(action: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log density of a diagonal normal, summed over the action's components.

    Args:
        action: Actions, ``(..., A)``.
        mean: Means, ``(..., A)``.
        log_std: Log standard deviations, ``(A,)``.
    """
    scaled = (action - mean) * torch.exp(-log_std)
    return (-0.5 * scaled.square() - log_std - 0.5 * math.log(2.0 * math.pi)).sum(-1)


def divergence(mean: Tensor, log_std: Tensor, new_mean: Tensor, new_log_std: Tensor) -> Tensor:
    """Kullback-Leibler divergence of two diagonal normals, ``KL(old || new)``, ``(...)``.

    It is summed over the action's components.
    """
    ratio = torch.exp(2.0 * (log_std - new_log_std))
    shift = (mean - new_mean).square() * torch.exp(-2.0 * new_log_std)
    return (new_log_std - log_std + 0.5 * (ratio + shift - 1.0)).sum(-1)
