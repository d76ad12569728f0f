"""A memory with gradient-adapted weights: MAML of the inference model, lane by lane."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ssmrl.config import TrainConfig
from ssmrl.context.inference import Estimate, TaskInference
from ssmrl.context.prediction import (
    adaptation_steps,
    lane_adapter,
    prediction_loss,
    prediction_targets,
)
from ssmrl.types import Hidden, Params


@dataclass(frozen=True)
class LaneMemory:
    """Hidden states of the lanes, and the adapted weights of each lane.

    Attributes:
        hidden: Hidden states, ``(M, S)``.
        num_seen: Env steps of the meta-episode so far.
        inputs: Inputs of each step so far, ``(M, I)``; empty once no adaptation follows.
        params: Weights of each lane, every leaf ``(M, ...)``; None before the first adaptation.
    """

    hidden: Hidden
    num_seen: int
    inputs: tuple[Tensor, ...]
    params: Params | None


class AdaptingMemory:
    """The inference model, adapted by gradient steps to each lane's meta-episode.

    As in training, every adaptation starts from the trained weights and uses all inputs so far.
    Then the hidden state is recomputed from the start of the meta-episode. Steps that raise the
    lane's own prediction error are rolled back. After the last adaptation time used in training,
    the weights stay fixed.

    Args:
        inference: Inference model; it is not changed.
        config: Configuration of context-sac.

    Raises:
        ValueError: If a meta-episode is too short for gradient steps.
    """

    def __init__(self, inference: TaskInference, config: TrainConfig) -> None:
        self._inference = inference
        steps = adaptation_steps(config)
        self._steps, self._last = frozenset(steps), steps[-1]
        self._adapter = lane_adapter(inference, config)

    def init_hidden(self, batch_size: int) -> LaneMemory:
        """Empty hidden states for all lanes, with the trained weights."""
        return LaneMemory(self._inference.init_hidden(batch_size), 0, (), None)

    def stepper(self) -> Callable[[Tensor, LaneMemory], tuple[Estimate, LaneMemory]]:
        """``step`` itself, since nothing can be prepared while the weights change."""
        return self.step

    @torch.no_grad()
    def step(self, inputs: Float[Tensor, "M I"], memory: LaneMemory) -> tuple[Estimate, LaneMemory]:
        """Advance by one env step, after gradient steps if an adaptation is due."""
        seen = (*memory.inputs, inputs) if memory.num_seen <= self._last else ()
        num_seen, params = memory.num_seen + 1, memory.params
        if memory.num_seen in self._steps:
            lanes = torch.stack(seen, dim=1)
            params, outputs, hidden = self._adapted(lanes)
            estimate = self._inference.estimate(outputs[:, -1])
            return estimate, LaneMemory(hidden, num_seen, seen, params)
        if params is None:
            estimate, hidden = self._inference.step(inputs, memory.hidden)
            return estimate, LaneMemory(hidden, num_seen, seen, None)
        output, hidden = self._inference.by_lane(params, inputs, memory.hidden)
        return self._inference.estimate(output), LaneMemory(hidden, num_seen, seen, params)

    def _adapted(self, lanes: Float[Tensor, "M T I"]) -> tuple[Params, Tensor, Hidden]:
        """Weights adapted to these inputs, and their outputs and hidden states on them."""
        inference = self._inference
        targets = prediction_targets(lanes, inference.observation_dim)
        params, _ = self._adapter.adapt(lanes[:, :-1], targets, prediction_loss)
        return params, *inference.by_lane(params, lanes, inference.init_hidden(len(lanes)))
