"""Inference of the hidden task from past transitions: a sequence model and its loss."""

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
"""Limits of an estimate's log variance. Below the lower one, a single confident error costs so much
that updates undo, for a while, what the model has learnt."""


class Estimate(NamedTuple):
    """A normal distribution over the code of the hidden variable, each number independent.

    Attributes:
        mean: ``(..., Z)``.
        log_variance: ``(..., Z)``.
    """

    mean: Tensor
    log_variance: Tensor


class TaskInference(nn.Module):
    """A sequence model that maps the inputs of RL^2 to an estimate of the hidden task.

    The hidden state persists over a meta-episode: the start of an episode is an input, not a
    reset. If gradient steps adapt the model, they need a loss that is computable at test time.
    Then the model also predicts: the estimate's ``2 * Z`` outputs are followed by the next action's
    reward and the change of the observation.

    Args:
        config: Type and sizes of the sequence model.
        observation_dim: ``O``.
        action_dim: ``A``.
        code_dim: Length of the hidden variable's code, ``Z``.
        generator: Generator of the initial weights.
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
        """Advance by one env step."""
        output, next_hidden = self.model.step(inputs, hidden)
        return self.estimate(output), next_hidden

    def stepper(self) -> Callable[[Tensor, Hidden], tuple[Estimate, Hidden]]:
        """A version of ``step`` for fixed weights, without gradients."""
        step = self.model.stepper()

        def estimated(inputs: Tensor, hidden: Hidden) -> tuple[Estimate, Hidden]:
            output, next_hidden = step(inputs, hidden)
            return self.estimate(output), next_hidden

        return estimated

    def scan(self, inputs: Float[Tensor, "M T I"]) -> Estimate:
        """The estimates before each action of whole meta-episodes."""
        hidden = self.model.init_hidden(len(inputs))
        never = torch.zeros(inputs.shape[:2], dtype=torch.bool, device=inputs.device)
        output, _ = self.model.scan(inputs, hidden, never)
        return self.estimate(output)

    def by_lane(
        self, params: Params, inputs: Float[Tensor, "M *T I"], hidden: Float[Tensor, "M S"]
    ) -> tuple[Float[Tensor, "M *T D"], Float[Tensor, "M S"]]:
        """Outputs and hidden states of a step or a scan with separate weights for each lane.

        Args:
            params: Parameters of ``model``, every leaf ``(M, ...)``.
            inputs: One step of each lane, or whole sequences.
            hidden: Hidden states before the inputs.
        """

        def lane(params: Params, inputs: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
            arguments = (inputs.unsqueeze(0), hidden.unsqueeze(0))
            output, next_hidden = torch.func.functional_call(self.model, params, arguments)
            return output[0], next_hidden[0]

        result: tuple[Tensor, Tensor] = torch.func.vmap(lane)(params, inputs, hidden)
        return result

    def estimate(self, output: Float[Tensor, "*batch D"]) -> Estimate:
        """The part of the model's output that describes the hidden task."""
        mean, log_variance = output[..., : 2 * self.code_dim].chunk(2, dim=-1)
        return Estimate(mean, log_variance.clamp(*LOG_VARIANCE_RANGE))


class StackedInference:
    """The inference models of several seeds, scanned together by batched operators.

    Args:
        own: Models of the ``R`` seeds, all of the same sizes; they are copied.
    """

    def __init__(self, own: Sequence[TaskInference]) -> None:
        self._first = own[0]  # only its structure is used, not its weights
        self._params, self._buffers = torch.func.stack_module_state([each.model for each in own])

    def parameters(self) -> Iterator[Tensor]:
        """Parameters of all seeds, each ``(R, ...)``, in the order of a single model's."""
        yield from self._params.values()

    def scan(self, inputs: Float[Tensor, "R M T I"]) -> Estimate:
        """The estimates for whole meta-episodes, each seed's by its own model."""
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
    """Model inputs before an action: the last transition, and whether an episode starts.

    Args:
        observation: Current observation, normalised.
        last_action: Action of the step before; zeros at the start of a meta-episode.
        last_reward: Reward of that action; zero at the start too.
        first: Whether an episode starts.
    """
    last = last_reward.unsqueeze(-1)
    starts = first.unsqueeze(-1).to(observation.dtype)
    return torch.cat([observation, last_action, last, starts], dim=-1)


def with_rewards(
    inputs: Float[Tensor, "*batch T I"], reward: Float[Tensor, "*batch T"]
) -> Float[Tensor, "*batch T I"]:
    """Inputs of whole meta-episodes with new rewards, each entered one step after it was paid."""
    told = functional.pad(reward[..., :-1], (1, 0)).unsqueeze(-1)
    return torch.cat([inputs[..., :-2], told, inputs[..., -1:]], dim=-1)


def inference_loss(estimate: Estimate, code: Float[Tensor, "*R M T Z"]) -> Float[Tensor, "*R"]:
    """Mean negative log likelihood of the true code, without its constant [nat].

    Args:
        estimate: Estimates of ``M`` lanes and ``T`` steps, optionally with a first axis of seeds.
        code: True codes.
    """
    return surprise(estimate, code).flatten(-2).mean(-1)


def surprise(estimate: Estimate, code: Float[Tensor, "*batch Z"]) -> Float[Tensor, "*batch"]:
    """Negative log likelihood of the true code per step, without its constant [nat]."""
    error = (code - estimate.mean).square() * torch.exp(-estimate.log_variance)
    return (0.5 * (error + estimate.log_variance)).sum(-1)
