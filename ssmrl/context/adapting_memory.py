"""A memory whose weights make gradient steps too: MAML of the inference model, lane by lane."""

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
    """What lanes remember, and the weights by which each of them does.

    Attributes:
        hidden: ``(M, S)``.
        num_seen: Env steps of the meta-episode so far.
        inputs: What each step was told, ``(M, I)``, as long as it may be adapted to.
        params: Of each lane, every leaf ``(M, ...)``; None before the first gradient step.
    """

    hidden: Hidden
    num_seen: int
    inputs: tuple[Tensor, ...]
    params: Params | None


class AdaptingMemory:
    """The inference model, which each lane adapts to what it has seen of its meta-episode.

    Every time the steps start at the weights that were trained, on all that was seen, as
    training has it; then the memory is built again from the start of the meta-episode. Steps that
    raise the error of the lane's own predictions are taken back. After the last moment that
    training knows the weights stay as they are, however long the task goes on.

    Args:
        inference: Is not changed.
        config: Of context-sac.

    Raises:
        ValueError: If a meta-episode has no room for gradient steps.
    """

    def __init__(self, inference: TaskInference, config: TrainConfig) -> None:
        self._inference = inference
        steps = adaptation_steps(config)
        self._steps, self._last = frozenset(steps), steps[-1]
        self._adapter = lane_adapter(inference, config)

    def init_hidden(self, batch_size: int) -> LaneMemory:
        """An empty memory for each lane, and the weights that were trained."""
        return LaneMemory(self._inference.init_hidden(batch_size), 0, (), None)

    def stepper(self) -> Callable[[Tensor, LaneMemory], tuple[Estimate, LaneMemory]]:
        """``step`` itself: the weights do not stay as they are."""
        return self.step

    @torch.no_grad()
    def step(self, inputs: Float[Tensor, "M I"], memory: LaneMemory) -> tuple[Estimate, LaneMemory]:
        """One env step further; where it is time, with gradient steps before."""
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
        """Weights that fit what was seen, and the memory that they build over it."""
        inference = self._inference
        targets = prediction_targets(lanes, inference.observation_dim)
        params, _ = self._adapter.adapt(lanes[:, :-1], targets, prediction_loss)
        return params, *inference.by_lane(params, lanes, inference.init_hidden(len(lanes)))
