"""The networks of context-sac and their initial weights; training is elsewhere.

The networks of several seeds of one configuration can be stacked. Then every tensor has an axis
``R`` of seeds before its rows, and one batched product serves all of them. In shapes, ``*R`` marks
this axis; it is left out for a single seed.
"""

import copy
import math
from collections.abc import Sequence
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
"""Clipping limit of normalised observations: an unstable simulation must not harm a network."""


class Passed(NamedTuple):
    """Values of a forward pass that the backward pass needs, layer by layer.

    Attributes:
        inputs: Inputs of each product, ``(K * R, M, I)``.
        rows: Rows of each hidden layer, normalised, before the ReLU, ``(K * R, M, H)``.
        factors: Factors that normalised the rows, ``(K * R, M, 1)``.
    """

    inputs: list[Tensor]
    rows: list[Tensor]
    factors: list[Tensor]


class ParallelMLP(nn.Module):
    """``K`` MLPs with the same input; one batched product computes a layer of all of them.

    They have two hidden layers of ReLU units. Rows are divided by their root mean square before
    the ReLU. All weights are parts of one vector, so that an optimiser updates a single tensor.
    The gradient is written out by hand, which saves a CPU the overhead of autograd.

    Args:
        num_networks: ``K``.
        input_dim: ``I``.
        hidden_dim: Width of both hidden layers, ``H``.
        output_dim: ``O``.
        generator: Generator of the initial weights.

    Attributes:
        flat: All weights and biases.
        product_dtype: Dtype that the factors and products in ``passed`` and the gradients are
            rounded to; None for no rounding.

    References:
        Zhang & Sennrich 2019, "Root Mean Square Layer Normalization", equation 4; Nauman et al.
        2024, "Bigger, Regularized, Optimistic: Scaling for Compute and Sample-Efficient Continuous
        Control", for normalised critics.
    """

    _epsilon: Tensor

    def __init__(
        self,
        num_networks: int,
        input_dim: int,
        hidden_dim: int,
        output_dim: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self._num_networks = num_networks
        self.product_dtype: torch.dtype | None = None
        self._seeds: tuple[int, ...] = ()
        self._shapes: list[tuple[int, ...]] = []
        parts = []
        for fan_in, fan_out in pairwise((input_dim, hidden_dim, hidden_dim, output_dim)):
            uniform = torch.rand(num_networks, fan_in, fan_out, generator=generator)
            bias = torch.zeros(num_networks, 1, fan_out)
            parts += [(2.0 * uniform - 1.0) / math.sqrt(fan_in), bias]
            self._shapes += [tuple(uniform.shape), tuple(bias.shape)]
        self.flat = nn.Parameter(torch.cat([part.flatten() for part in parts]))
        self.register_buffer("_epsilon", torch.tensor(_EPSILON), persistent=False)
        self._views: tuple[int, list[Tensor]] | None = None

    @classmethod
    def stacked(cls, own: Sequence["ParallelMLP"]) -> "ParallelMLP":
        """Stack the networks of several seeds; each seed has its own input.

        Args:
            own: Networks of each seed, all of the same sizes; they are copied.
        """
        whole = copy.deepcopy(own[0])
        whole._seeds, whole._views = (len(own),), None
        joined = whole.joined([networks.flat.detach() for networks in own])
        whole.flat = nn.Parameter(joined, requires_grad=own[0].flat.requires_grad)
        return whole

    def joined(self, own: Sequence[Float[Tensor, " P"]]) -> Tensor:
        """Join the vectors of the seeds into one vector in the order of ``flat``."""
        sizes = [math.prod(shape) for shape in self._shapes]
        parts = torch.stack(list(own)).split(sizes, dim=1)
        by_network = [part.unflatten(1, (self._num_networks, -1)) for part in parts]
        return torch.cat([part.transpose(0, 1).flatten() for part in by_network])

    def parted(self, whole: Tensor) -> Float[Tensor, "R P"]:
        """The inverse of ``joined``."""
        (num_seeds,) = self._seeds
        parts = whole.split([num_seeds * math.prod(shape) for shape in self._shapes])
        by_network = [part.view(self._num_networks, num_seeds, -1) for part in parts]
        return torch.cat([part.transpose(0, 1).flatten(1) for part in by_network], dim=1)

    def forward(self, x: Float[Tensor, "*R M I"]) -> Float[Tensor, "K *R M O"]:
        """Apply every network to every row with autograd: the plain version of ``passed``."""
        weights = self._split(self.flat)
        hidden = self._to_each(x)
        for weight, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
            total = torch.baddbmm(bias, hidden, weight)
            factor = (total.square().mean(-1, keepdim=True) + _EPSILON).rsqrt()
            hidden = functional.relu(total * factor)
        return self._by_seed(torch.baddbmm(weights[-1], hidden, weights[-2]))

    def passed(self, x: Float[Tensor, "*R M I"]) -> tuple[Float[Tensor, "K *R M O"], Passed]:
        """The outputs of ``forward``, and what ``weight_gradient`` and ``input_gradient`` need."""
        weights = self._weights()
        hidden = self._to_each(x)
        way = Passed([hidden], [], [])
        for weight, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
            row = self._affine(bias, hidden, weight)
            length = torch.linalg.vector_norm(row, dim=-1, keepdim=True)
            share = 1.0 / row.shape[-1]
            factor = torch.addcmul(self._epsilon, length, length, value=share).rsqrt_()
            hidden = row.mul_(factor).clamp(min=0.0)
            way.rows.append(row)
            way.factors.append(factor)
            way.inputs.append(hidden)
        if weights[-2].shape[-1] == 1:  # a product with one column is slower than a sum
            value = torch.linalg.vecdot(hidden, weights[-2].mT).unsqueeze(-1) + weights[-1]
            return self._by_seed(value), way
        return self._by_seed(self._affine(weights[-1], hidden, weights[-2])), way

    def weight_gradient(self, way: Passed, upstream: Float[Tensor, "K *R M O"]) -> Tensor:
        """Gradient with respect to ``flat``, given that of the output.

        Args:
            way: Values of the forward pass.
            upstream: Gradient of the output.
        """
        weights = self._weights()
        gradient = torch.empty_like(self.flat.detach())
        parts = self._split(gradient)
        upstream = upstream.flatten(0, -3)
        for layer in reversed(range(len(way.inputs))):
            into, inputs = parts[2 * layer], way.inputs[layer]
            if upstream.shape[-1] == 1:
                torch.sum(inputs * upstream, dim=1, keepdim=True, out=into.mT)
            else:
                self._product(inputs.mT, upstream, out=into)
            torch.sum(upstream, dim=1, keepdim=True, out=parts[2 * layer + 1])
            if layer:
                upstream = self._back(way, layer, upstream, weights[2 * layer])
        return gradient

    def input_gradient(
        self, way: Passed, upstream: Float[Tensor, "K *R M O"], num_last: int
    ) -> Float[Tensor, "*R M L"]:
        """Gradient with respect to the last inputs, summed over a seed's networks.

        Args:
            way: Values of the forward pass.
            upstream: Gradient of the output.
            num_last: Number of last inputs, ``L``.
        """
        weights = self._weights()
        upstream = upstream.flatten(0, -3)
        for layer in reversed(range(1, len(way.inputs))):
            upstream = self._back(way, layer, upstream, weights[2 * layer])
        return self._by_seed(self._product(upstream, weights[0][:, -num_last:].mT)).sum(0)

    def _back(
        self, way: Passed, layer: int, upstream: Tensor, weight: Tensor
    ) -> Float[Tensor, "KR M H"]:
        """Gradient of the sums of the hidden layer below, given that of a layer's sums."""
        output, row, factor = way.inputs[layer], way.rows[layer - 1], way.factors[layer - 1]
        is_column = upstream.shape[-1] == 1
        passed = upstream * weight.mT if is_column else self._product(upstream, weight.mT)
        passed.mul_(torch.sign(output))  # clipped units pass no gradient
        # With y = f x, a longer row has a smaller factor: df/dx = -f^2 y / H.
        pull = torch.linalg.vecdot(passed, output).unsqueeze(-1)
        return passed.addcmul_(row, pull, value=-1.0 / row.shape[-1]).mul_(factor)

    def _product(self, left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
        dtype = self.product_dtype
        if dtype is None:
            return torch.bmm(left, right, out=out)
        product = torch.bmm(left.to(dtype), right.to(dtype))
        return product.to(left.dtype) if out is None else out.copy_(product)

    def _affine(self, bias: Tensor, inputs: Tensor, weight: Tensor) -> Tensor:
        if self.product_dtype is None:
            return torch.baddbmm(bias, inputs, weight)
        return self._product(inputs, weight).add_(bias)

    def _to_each(self, x: Float[Tensor, "*R M I"]) -> Float[Tensor, "KR M I"]:
        """The input, repeated for every network."""
        return x.expand(self._num_networks, *x.shape).flatten(0, -3)

    def _by_seed(self, value: Float[Tensor, "KR M O"]) -> Float[Tensor, "K *R M O"]:
        return value.unflatten(0, (self._num_networks, *self._seeds)) if self._seeds else value

    def _weights(self) -> list[Tensor]:
        """Views of ``flat``, rebuilt if its memory has moved."""
        flat = self.flat.detach()
        if torch.compiler.is_compiling():  # it cannot read a tensor's address
            return self._split(flat)
        if self._views is None or self._views[0] != flat.data_ptr():
            self._views = flat.data_ptr(), self._split(flat)
        return self._views[1]

    def _split(self, flat: Tensor) -> list[Tensor]:
        """Weight and bias of each layer, as views: network by network, and within it by seed."""
        num_seeds = math.prod(self._seeds)
        sizes = [num_seeds * math.prod(shape) for shape in self._shapes]
        return [
            part.view(-1, *shape[1:])
            for part, shape in zip(flat.split(sizes), self._shapes, strict=True)
        ]


_EPSILON = 1e-6


class ContextNetworks(nn.Module):
    """Actor and its average, critics and targets, temperature, inference model and statistics.

    Args:
        config: A configuration of context-sac; its seed decides the initial weights.
        observation_dim: ``O``.
        action_dim: ``A``.

    Attributes:
        actor: Actor, from observation and task code ``Z`` to the input of ``squashed``.
        average: Actor with a running average of the actor's weights.
        critic: Two critics, from observation, code and action to a value.
        target: Target networks, which follow the critics slowly.
        inference: Inference model, from past transitions to the code of the hidden task.
        log_temperature: Log of the entropy's weight, ``(*R)``.
        center: Mean of the observation, ``(O,)``; stacked ``(R, 1, O)``.
        inverse_scale: One over its standard deviation, with the same shape.
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
        actor = (1, seen, meta.actor_hidden_dim, 2 * action_dim)
        self.actor = ParallelMLP(*actor, generator)
        critics = (2, seen + action_dim, meta.critic_hidden_dim, 1)
        self.critic = ParallelMLP(*critics, generator)
        self.target = ParallelMLP(*critics, generator).requires_grad_(False)
        self.target.load_state_dict(self.critic.state_dict())
        self.average = ParallelMLP(*actor, generator).requires_grad_(False)
        self.average.load_state_dict(self.actor.state_dict())
        self.inference = TaskInference(
            config.policy,
            observation_dim,
            action_dim,
            self.code_dim,
            generator,
            predicts=meta.num_inner_steps > 0,
        )
        self.log_temperature = nn.Parameter(torch.tensor(math.log(meta.init_temperature)))
        self.register_buffer("center", torch.zeros(observation_dim))
        self.register_buffer("inverse_scale", torch.ones(observation_dim))

    @classmethod
    def stacked(cls, own: Sequence["ContextNetworks"]) -> "ContextNetworks":
        """Stack the networks of several seeds, except the inference models (``StackedInference``).

        Args:
            own: Networks of each seed of one configuration; they are copied.
        """
        whole = copy.deepcopy(own[0])
        del whole.inference
        for name in ("actor", "average", "critic", "target"):
            setattr(whole, name, ParallelMLP.stacked([getattr(each, name) for each in own]))
        temperatures = torch.stack([each.log_temperature.detach() for each in own])
        whole.log_temperature = nn.Parameter(temperatures)
        whole.center = torch.stack([each.center for each in own]).unsqueeze(1)
        whole.inverse_scale = torch.stack([each.inverse_scale for each in own]).unsqueeze(1)
        return whole

    def normalised(self, observation: Float[Tensor, "*batch O"]) -> Float[Tensor, "*batch O"]:
        """The observation as the networks see it, normalised and clipped."""
        scaled: Tensor = (observation - self.center) * self.inverse_scale
        return scaled.clamp(-OBSERVATION_LIMIT, OBSERVATION_LIMIT)

    def set_statistics(self, observation: Float[Tensor, "M O"]) -> None:
        """Set the normalisation from past observations; a constant component is mapped to 0.

        Args:
            observation: All observations so far.
        """
        spread = observation.std(0, correction=0)
        changes = spread > 1e-6 * (1.0 + observation.abs().amax(0))
        self.center.copy_(observation.mean(0))
        self.inverse_scale.copy_(torch.where(changes, 1.0 / (spread + 1e-2), 0.0))


def hidden_code(config: TrainConfig) -> HiddenCode:
    """The code in which the configured task's hidden variable is inferred.

    Raises:
        ValueError: If the family has no hidden variable that can be inferred.
    """
    family: TaskFamily = get_family(config.env.task)
    if family.hidden is None:
        raise ValueError(
            f"`env.task` must have a hidden variable that a memory can infer, but {family.name!r} "
            "has none; train it with an algorithm that adapts by gradient"
        )
    return family.hidden
