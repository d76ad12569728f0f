"""The networks of context-sac: what it consists of, and how it starts; nothing here learns."""

import math
from itertools import pairwise
from typing import NamedTuple

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


class Passed(NamedTuple):
    """What a pass through the networks left for the way back, layer by layer.

    Attributes:
        inputs: Of each product, ``(K, M, I)``.
        scales: What the rows of each hidden layer were divided by, as factors, ``(K, M, 1)``.
        sums: Of each hidden layer before that, ``(K, M, H)``.
    """

    inputs: list[Tensor]
    scales: list[Tensor]
    sums: list[Tensor]


class ParallelMLP(nn.Module):
    """``K`` perceptrons with the same input, each layer of all of them one batched product.

    Two hidden layers of rectified units, whose rows are divided by their root mean square before
    they are rectified. All weights are parts of one vector, so that an optimiser has one thing to
    move, and the gradient is written out by hand: on a CPU the bookkeeping of automatic
    differentiation takes as long as the products.

    Args:
        num_networks: ``K``.
        input_dim: ``I``.
        hidden_dim: Width of both hidden layers, ``H``.
        output_dim: ``O``.
        generator: Where the initial weights come from.

    Attributes:
        flat: All weights and biases.

    References:
        Zhang & Sennrich 2019, "Root Mean Square Layer Normalization"; Nauman et al. 2024, "Bigger,
        Regularized, Optimistic: Scaling for Compute and Sample-Efficient Continuous Control", for
        critics that are normalised.
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
        self._shapes: list[tuple[int, ...]] = []
        parts = []
        for fan_in, fan_out in pairwise((input_dim, hidden_dim, hidden_dim, output_dim)):
            uniform = torch.rand(num_networks, fan_in, fan_out, generator=generator)
            parts += [
                (2.0 * uniform - 1.0) / math.sqrt(fan_in),
                torch.zeros(num_networks, 1, fan_out),
            ]
            self._shapes += [tuple(part.shape) for part in parts[-2:]]
        self.flat = nn.Parameter(torch.cat([part.flatten() for part in parts]))

    def forward(self, x: Float[Tensor, "M I"]) -> Float[Tensor, "K M O"]:
        """Apply every network to every row, differentiably: the plain twin of ``passed``."""
        weights = self._split(self.flat)
        hidden = x.expand(len(weights[0]), *x.shape)
        for weight, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
            total = torch.baddbmm(bias, hidden, weight)
            hidden = functional.relu(total * _factor(total))
        return torch.baddbmm(weights[-1], hidden, weights[-2])

    def passed(self, x: Float[Tensor, "M I"]) -> tuple[Float[Tensor, "K M O"], Passed]:
        """The same numbers, and what ``weight_gradient`` and ``input_gradient`` need."""
        weights = self._split(self.flat.detach())
        hidden = x.expand(len(weights[0]), *x.shape)
        way = Passed([hidden], [], [])
        for weight, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
            total = torch.baddbmm(bias, hidden, weight)
            factor = _factor(total)
            hidden = (total * factor).clamp_(min=0.0)
            way.sums.append(total)
            way.scales.append(factor)
            way.inputs.append(hidden)
        return torch.baddbmm(weights[-1], hidden, weights[-2]), way

    def weight_gradient(self, way: Passed, upstream: Float[Tensor, "K M O"]) -> Tensor:
        """Gradient of ``flat`` from that of the output.

        Args:
            way: Of the pass that gave the output.
            upstream: Gradient of the output.
        """
        weights = self._split(self.flat.detach())
        gradient = torch.empty_like(self.flat.detach())
        parts = self._split(gradient)
        for layer in reversed(range(len(way.inputs))):
            torch.bmm(way.inputs[layer].mT, upstream, out=parts[2 * layer])
            torch.sum(upstream, dim=1, keepdim=True, out=parts[2 * layer + 1])
            if layer:
                upstream = _back(way, layer, torch.bmm(upstream, weights[2 * layer].mT))
        return gradient

    def input_gradient(
        self, way: Passed, upstream: Float[Tensor, "K M O"], num_last: int
    ) -> Float[Tensor, "M L"]:
        """Gradient of the last inputs, summed over the networks.

        Args:
            way: Of the pass that gave the output.
            upstream: Gradient of the output.
            num_last: How many inputs, ``L``.
        """
        weights = self._split(self.flat.detach())
        for layer in reversed(range(1, len(way.inputs))):
            upstream = _back(way, layer, torch.bmm(upstream, weights[2 * layer].mT))
        return torch.bmm(upstream, weights[0][:, -num_last:].mT).sum(0)

    def _split(self, flat: Tensor) -> list[Tensor]:
        """Weight and bias of each layer, as views."""
        sizes = [math.prod(shape) for shape in self._shapes]
        return [
            part.view(shape) for part, shape in zip(flat.split(sizes), self._shapes, strict=True)
        ]


def _factor(total: Float[Tensor, "K M H"]) -> Float[Tensor, "K M 1"]:
    """One over the root mean square of each row."""
    length = torch.linalg.vector_norm(total, dim=-1, keepdim=True)
    factor: Tensor = 1.0 / (length * total.shape[-1] ** -0.5 + 1e-5)
    return factor


def _back(way: Passed, layer: int, upstream: Float[Tensor, "K M H"]) -> Float[Tensor, "K M H"]:
    """From the gradient of a hidden layer's output to that of its sums."""
    output, factor, total = way.inputs[layer], way.scales[layer - 1], way.sums[layer - 1]
    passed = upstream.mul_(torch.sign(output))  # what was rectified passes nothing
    # The factor falls as the row grows longer: f' = -f^2 x / (H * rms(x)), and rms is 1/f - eps.
    width = total.shape[-1]
    along = torch.linalg.vecdot(passed, output).unsqueeze(-1)
    pull = along * factor.square() / (width * (1.0 - 1e-5 * factor))
    return passed.mul_(factor).addcmul_(total, pull, value=-1.0)


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
