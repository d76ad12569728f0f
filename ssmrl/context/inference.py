"""What the hidden task is, from what was seen so far: a sequence model and its loss."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from ssmrl.config import SequenceConfig
from ssmrl.models.actor import make_policy
from ssmrl.types import Hidden, Params

LOG_VARIANCE_RANGE = (-4.0, 3.0)
"""Of an estimate. A model that may be surer than that pays so much for one confident error that its
steps, for a while, undo what it knew."""


class Estimate(NamedTuple):
    """A normal distribution over the code of the hidden variable, each number independent.

    Attributes:
        mean: ``(..., Z)``.
        log_variance: ``(..., Z)``.
    """

    mean: Tensor
    log_variance: Tensor


class TaskInference(nn.Module):
    """Any sequence model over the inputs of RL^2, with an estimate for output.

    The memory lives over a meta-episode. That an episode starts is an input, and empties nothing.
    Where gradient steps adapt the model to what it has seen, it also predicts, for these steps need
    a loss that a test can compute: after the estimate's ``2 * Z`` numbers come the reward of the
    next action and the change of the observation.

    Args:
        config: Which sequence model, and its sizes.
        observation_dim: ``O``.
        action_dim: ``A``.
        code_dim: Numbers of the hidden variable's code, ``Z``.
        generator: Where the initial weights come from.
        predicts: Whether the model has outputs for the next reward and observation.

    Attributes:
        model: The sequence model.
        code_dim: ``Z``.
        observation_dim: ``O``.

    References:
        Humplik et al. 2019, "Meta Reinforcement Learning as Task Inference", section 4 (training
        sees the hidden variable, a test does not); Duan et al. 2016, "RL^2", section 2.2 (the
        inputs).
    """

    def __init__(
        self,
        config: SequenceConfig,
        observation_dim: int,
        action_dim: int,
        code_dim: int,
        generator: torch.Generator,
        *,
        predicts: bool = False,
    ) -> None:
        super().__init__()
        self.code_dim, self.observation_dim = code_dim, observation_dim
        output_dim = 2 * code_dim + (1 + observation_dim if predicts else 0)
        seed = int(torch.randint(2**62, (1,), generator=generator))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = make_policy(config, observation_dim + action_dim + 2, output_dim)

    def init_hidden(self, batch_size: int) -> Hidden:
        """An empty memory for each sequence."""
        return self.model.init_hidden(batch_size)

    def step(
        self, inputs: Float[Tensor, "M I"], hidden: Float[Tensor, "M S"]
    ) -> tuple[Estimate, Float[Tensor, "M S"]]:
        """One env step further."""
        output, next_hidden = self.model.step(inputs, hidden)
        return self.estimate(output), next_hidden

    def stepper(self) -> Callable[[Tensor, Hidden], tuple[Estimate, Hidden]]:
        """``step`` for weights that stay as they are, without gradients."""
        step = self.model.stepper()

        def estimated(inputs: Tensor, hidden: Hidden) -> tuple[Estimate, Hidden]:
            output, next_hidden = step(inputs, hidden)
            return self.estimate(output), next_hidden

        return estimated

    def scan(self, inputs: Float[Tensor, "M T I"]) -> Estimate:
        """Whole meta-episodes from their start, the estimate before each action."""
        hidden = self.model.init_hidden(len(inputs))
        never = torch.zeros(inputs.shape[:2], dtype=torch.bool, device=inputs.device)
        output, _ = self.model.scan(inputs, hidden, never)
        return self.estimate(output)

    def by_lane(
        self, params: Params, inputs: Float[Tensor, "M *T I"], hidden: Float[Tensor, "M S"]
    ) -> tuple[Float[Tensor, "M *T D"], Float[Tensor, "M S"]]:
        """The output, a step or a scan, where each lane has weights of its own.

        Args:
            params: Of ``model``, every leaf ``(M, ...)``.
            inputs: One step of each lane, or whole sequences.
            hidden: The memory before.
        """

        def lane(params: Params, inputs: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
            arguments = (inputs.unsqueeze(0), hidden.unsqueeze(0))
            output, next_hidden = torch.func.functional_call(self.model, params, arguments)
            return output[0], next_hidden[0]

        result: tuple[Tensor, Tensor] = torch.func.vmap(lane)(params, inputs, hidden)
        return result

    def estimate(self, output: Float[Tensor, "*batch D"]) -> Estimate:
        """The part of the model's output that says what the hidden task is."""
        mean, log_variance = output[..., : 2 * self.code_dim].chunk(2, dim=-1)
        return Estimate(mean, log_variance.clamp(*LOG_VARIANCE_RANGE))


class StackedInference:
    """The inference models of several seeds, whose scans are one set of batched operators.

    Args:
        own: Of each of ``R`` seeds, all of the same sizes; they are copied.
    """

    def __init__(self, own: Sequence[TaskInference]) -> None:
        self._first = own[0]  # what its weights are does not matter
        self._params, self._buffers = torch.func.stack_module_state([each.model for each in own])

    def parameters(self) -> Iterator[Tensor]:
        """Of all seeds, each ``(R, ...)``, in the order of those of one."""
        yield from self._params.values()

    def scan(self, inputs: Float[Tensor, "R M T I"]) -> Estimate:
        """Whole meta-episodes from their start, each seed's by its own model."""
        hidden = self._first.init_hidden(inputs.shape[1])

        def of_one(params: Params, buffers: Params, inputs: Tensor) -> Tensor:
            arguments = (inputs, hidden)
            output: Tensor
            output, _ = torch.func.functional_call(
                self._first.model, (params, buffers), arguments, strict=False
            )
            return output

        output = torch.func.vmap(of_one)(self._params, self._buffers, inputs)
        return self._first.estimate(output)


def inference_inputs(
    observation: Float[Tensor, "*batch O"],
    last_action: Float[Tensor, "*batch A"],
    last_reward: Float[Tensor, "*batch"],
    first: Bool[Tensor, "*batch"],
) -> Float[Tensor, "*batch I"]:
    """What the model is told before an action: the last transition, and if an episode starts.

    Args:
        observation: What is seen now, normalised.
        last_action: What was done one step before; zeros at the start of a meta-episode.
        last_reward: What that gave; zero there too.
        first: Where an episode starts.
    """
    last = last_reward.unsqueeze(-1)
    starts = first.unsqueeze(-1).to(observation.dtype)
    return torch.cat([observation, last_action, last, starts], dim=-1)


def with_rewards(
    inputs: Float[Tensor, "*batch T I"], reward: Float[Tensor, "*batch T"]
) -> Float[Tensor, "*batch T I"]:
    """Inputs of whole meta-episodes with other rewards, each told one step after it was paid."""
    told = functional.pad(reward[..., :-1], (1, 0)).unsqueeze(-1)
    return torch.cat([inputs[..., :-2], told, inputs[..., -1:]], dim=-1)


def inference_loss(estimate: Estimate, code: Float[Tensor, "*R M T Z"]) -> Float[Tensor, "*R"]:
    """Mean negative log likelihood of the true code, without its constant [nat].

    Args:
        estimate: Of ``M`` lanes of ``T`` steps; of several seeds, if their axis comes first.
        code: The true ones.
    """
    return surprise(estimate, code).flatten(-2).mean(-1)


def surprise(estimate: Estimate, code: Float[Tensor, "*batch Z"]) -> Float[Tensor, "*batch"]:
    """Negative log likelihood of the true code by step, without its constant [nat]."""
    error = (code - estimate.mean).square() * torch.exp(-estimate.log_variance)
    return (0.5 * (error + estimate.log_variance)).sum(-1)
