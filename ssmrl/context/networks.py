"""The networks of context-sac: what it consists of, and how it starts; nothing here learns."""

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ssmrl.config import TrainConfig
from ssmrl.context.inference import TaskInference
from ssmrl.envs.families import get_family
from ssmrl.envs.hidden_code import HiddenCode
from ssmrl.envs.task import TaskFamily
from ssmrl.seeding import Purpose, stream

OBSERVATION_LIMIT = 8.0
"""Normalised observations are clipped to it: a simulation that explodes must not explode a net."""


class ParallelMLP(nn.Module):
    """``K`` perceptrons with the same input, each layer of all of them one batched product.

    Two hidden layers of rectified units, normalised over the layer before they are rectified. The
    normalisation has no parameters of its own.

    Args:
        num_networks: ``K``.
        input_dim: ``I``.
        hidden_dim: Width of both hidden layers, ``H``.
        output_dim: ``O``.
        generator: Where the initial weights come from.

    References:
        Ba et al. 2016, "Layer Normalization"; Nauman et al. 2024, "Bigger, Regularized, Optimistic:
        Scaling for Compute and Sample-Efficient Continuous Control", for critics that have it.
    """

    def __init__(
        self,
        num_networks: int,
        input_dim: int,
        hidden_dim: int,
        output_dim: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in pairwise((input_dim, hidden_dim, hidden_dim, output_dim)):
            bound = 1.0 / math.sqrt(fan_in)
            uniform = torch.rand(num_networks, fan_in, fan_out, generator=generator)
            self.weights.append(nn.Parameter(bound * (2.0 * uniform - 1.0)))
            self.biases.append(nn.Parameter(torch.zeros(num_networks, 1, fan_out)))

    def forward(self, x: Float[Tensor, "M I"]) -> Float[Tensor, "K M O"]:
        """Apply every network to every row."""
        hidden = x.expand(len(self.weights[0]), *x.shape)
        last = len(self.weights) - 1
        for depth, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = torch.baddbmm(bias, hidden, weight)
            if depth < last:
                hidden = functional.relu(functional.layer_norm(hidden, hidden.shape[-1:]))
        return hidden


class ContextNetworks(nn.Module):
    """Actor, critics, their targets, temperature, task inference and observation statistics.

    Args:
        config: A configuration of context-sac; its seed decides the initial weights.
        observation_dim: ``O``.
        action_dim: ``A``.

    Attributes:
        actor: From observation and code ``Z`` of the hidden task to what ``squashed`` reads.
        critic: Two of them, from observation, code and action to a value.
        target: What the critics follow; moves slowly after them.
        inference: From what was seen to the code of the hidden task.
        log_temperature: Log of the entropy's weight.
        center: Of the observation, ``(O,)``.
        inverse_scale: One over its standard deviation, ``(O,)``.
    """

    center: Tensor
    inverse_scale: Tensor

    def __init__(self, config: TrainConfig, observation_dim: int, action_dim: int) -> None:
        super().__init__()
        meta = config.meta
        self.observation_dim, self.action_dim = observation_dim, action_dim
        self.code_dim = hidden_code(config).dim
        words = stream(config.seed, Purpose.INITIAL_WEIGHTS).generate_state(2)
        generator = torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)
        seen = observation_dim + self.code_dim
        self.actor = ParallelMLP(1, seen, meta.actor_hidden_dim, 2 * action_dim, generator)
        critics = (2, seen + action_dim, meta.critic_hidden_dim, 1)
        self.critic = ParallelMLP(*critics, generator)
        self.target = ParallelMLP(*critics, generator).requires_grad_(False)
        self.target.load_state_dict(self.critic.state_dict())
        self.inference = TaskInference(
            config.policy, observation_dim, action_dim, self.code_dim, generator
        )
        self.log_temperature = nn.Parameter(torch.tensor(math.log(meta.init_temperature)))
        self.register_buffer("center", torch.zeros(observation_dim))
        self.register_buffer("inverse_scale", torch.ones(observation_dim))

    def normalised(self, observation: Float[Tensor, "*batch O"]) -> Float[Tensor, "*batch O"]:
        """The observation as the networks see it."""
        scaled: Tensor = (observation - self.center) * self.inverse_scale
        return scaled.clamp(-OBSERVATION_LIMIT, OBSERVATION_LIMIT)

    def set_statistics(self, observation: Float[Tensor, "M O"]) -> None:
        """Normalise by what was seen so far; a number that never changes becomes 0.

        Args:
            observation: All of it.
        """
        spread = observation.std(0, correction=0)
        changes = spread > 1e-6 * (1.0 + observation.abs().amax(0))
        self.center.copy_(observation.mean(0))
        self.inverse_scale.copy_(torch.where(changes, 1.0 / (spread + 1e-2), 0.0))


def hidden_code(config: TrainConfig) -> HiddenCode:
    """The scale in which the hidden variable of the configured task is inferred.

    Raises:
        ValueError: If the family has no hidden variable that can be.
    """
    family: TaskFamily = get_family(config.env.task)
    if family.hidden is None:
        raise ValueError(
            f"`env.task` must have a hidden variable that a memory can infer, but {family.name!r} "
            "has none; train it by an algorithm that adapts by gradient"
        )
    return family.hidden
