"""How the inference model learns from meta-episodes whose hidden variables are known."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ssmrl.config import TrainConfig
from ssmrl.context.graph import Captured, Function, Graphs
from ssmrl.context.inference import StackedInference, TaskInference, inference_loss, surprise
from ssmrl.context.prediction import (
    adaptation_steps,
    lane_adapter,
    prediction_loss,
    prediction_targets,
)
from ssmrl.device import CPU, adam_options, handed_over
from ssmrl.heartbeat import beat
from ssmrl.meta.maml import MetaMAML
from ssmrl.meta.masks import masked_mean


class InferenceTraining:
    """Owns the inference model's optimiser, with or without gradient steps inside an episode.

    With ``meta.num_inner_steps`` the model is trained as a test uses it. Each lane of a batch has
    seen as much of its meta-episode as at one of the moments at which a test adapts, or nothing
    yet. The gradient steps descend the error of what it predicted there. Then the memory is built
    again from the start, and the outer loss is the inference in the rest of the meta-episode.

    Args:
        inference: Is changed in place; of one seed, or stacked ones.
        config: Of context-sac.
        device: Where the model is.
        graphs: How updates without gradient steps inside an episode are captured, if they are.

    Attributes:
        optimizer: Adam over the model's parameters.
        captured: The update that is replayed, if one is.

    Raises:
        ValueError: If gradient steps are asked for, and there is no room for them, or the models
            are stacked.

    References:
        Finn et al. 2017, "Model-Agnostic Meta-Learning", algorithm 1.
    """

    def __init__(
        self,
        inference: TaskInference | StackedInference,
        config: TrainConfig,
        device: torch.device = CPU,
        graphs: Graphs | None = None,
    ) -> None:
        meta = config.meta
        self._model, self._config = inference, config
        self._parameters = list(inference.parameters())
        self._maml: MetaMAML | None = None
        if meta.num_inner_steps:
            if isinstance(inference, StackedInference):
                raise ValueError(
                    "`meta.num_inner_steps` must be 0 where several seeds are trained at once, but "
                    f"is {meta.num_inner_steps}; train them one after another"
                )
            self._inference = inference
            self._steps = adaptation_steps(config)
            self._maml = MetaMAML(inference.model, meta.inner_lr, meta.outer_lr, meta.first_order)
            self.optimizer = self._maml.optimizer
        else:
            options = adam_options(device, captured=graphs is not None)
            self.optimizer = torch.optim.Adam(self._parameters, meta.outer_lr, **options)
        self._once: Function = self.plain_update
        self.captured: Captured | None = None
        if graphs is not None and self._maml is None:
            name = "the update of the inference model"
            self._once = self.captured = Captured(self.plain_update, graphs, name)

    def update(
        self,
        inputs: Float[Tensor, "M T I"],
        code: Float[Tensor, "M Z"],
        num_updates: int,
        generator: torch.Generator,
    ) -> dict[str, float]:
        """Make updates.

        Args:
            inputs: Of whole meta-episodes.
            code: Of their hidden variables.
            num_updates: How many.
            generator: Draws the lanes of each, and how much of them was seen.

        Returns:
            Statistics of the last update.

        Raises:
            DivergedError: If a meta-gradient is not finite.
        """
        return self.begin(inputs, code, num_updates, [generator])()[0]

    def begin(
        self,
        inputs: Float[Tensor, "M T I"],
        code: Float[Tensor, "M Z"],
        num_updates: int,
        generators: Sequence[torch.Generator],
    ) -> Callable[[], list[dict[str, float]]]:
        """Make updates, or have a device make them; those with gradient steps are made at once.

        Args:
            inputs: Of whole meta-episodes; as many of each seed, one seed after the other.
            code: Of their hidden variables.
            num_updates: How many.
            generators: Of each seed: draws its lanes.

        Returns:
            What waits for them, and gives of each seed statistics of the last one.

        Raises:
            DivergedError: If a meta-gradient is not finite.
        """
        if self._maml is not None:
            (generator,) = generators
            size = min(self._config.meta.inference_batch, len(inputs))
            adapted = self._adapting(self._maml, inputs, code, size, num_updates, generator)
            return lambda: [adapted]
        num_lanes = len(inputs) // len(generators)
        size = min(self._config.meta.inference_batch, num_lanes)
        of_each = [
            _below(num_lanes, (num_updates, size), own) + place * num_lanes
            for place, own in enumerate(generators)
        ]
        is_stacked = isinstance(self._model, StackedInference)
        chosen = torch.stack(of_each, 1) if is_stacked else of_each[0]
        loss = error = torch.zeros(len(generators))
        for lanes in handed_over(chosen, inputs.device):
            loss, error = self._once(inputs[lanes], code[lanes])
        # A copy: what a graph gives is overwritten by its next replay.
        found = torch.stack([loss.reshape(-1), error.reshape(-1)], 1)
        names = ("inference_loss", "inference_error")
        return lambda: [dict(zip(names, own, strict=True)) for own in found.tolist()]

    def plain_update(
        self, lanes: Float[Tensor, "*R M T I"], code: Float[Tensor, "*R M Z"]
    ) -> tuple[Float[Tensor, "*R"], Float[Tensor, "*R"]]:
        """One update without gradient steps inside an episode; reads no tensor's value.

        Args:
            lanes: Inputs of whole meta-episodes; with an axis of seeds where these are stacked.
            code: Of their hidden variables.

        Returns:
            Loss and mean absolute error before it, of each seed.
        """
        wanted = code.unsqueeze(-2)
        estimate = self._model.scan(lanes)
        loss = inference_loss(estimate, wanted.expand_as(estimate.mean))
        # Of the sum over the seeds: that of each depends on its own loss alone.
        gradients = torch.autograd.grad(loss, self._parameters, torch.ones_like(loss))
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient.contiguous()  # as Adam's one kernel on CUDA wants it
        self.optimizer.step()
        error = (estimate.mean - wanted).detach().abs().flatten(-3).mean(-1)
        return loss.detach(), error

    def _adapting(
        self,
        maml: MetaMAML,
        inputs: Tensor,
        code: Tensor,
        size: int,
        num_updates: int,
        generator: torch.Generator,
    ) -> dict[str, float]:
        """Updates through the adaptation; the error is that of the adapted lanes in the rest."""
        moments = torch.tensor((0, *self._steps), device=inputs.device)
        statistics = {"inference_loss": 0.0, "inference_error": 0.0, "rolled_back": 0.0}
        for number in range(num_updates):
            beat()
            chosen = _below(len(inputs), (size,), generator).to(inputs.device)
            chosen_moments = _below(len(moments), (size,), generator)
            seen = moments[chosen_moments.to(inputs.device)]
            lanes, wanted = inputs[chosen], code[chosen]
            problem = meta_problem(self._inference, lanes, wanted, seen, self._steps[-1])
            steps = self._config.meta.num_inner_steps
            statistics["inference_loss"] = maml.meta_update(**problem, num_steps=steps)
            if number + 1 == num_updates:
                statistics |= self._judged(lanes, wanted, seen)
        return statistics

    @torch.no_grad()
    def _judged(self, lanes: Tensor, code: Tensor, seen: Tensor) -> dict[str, float]:
        """How far off the estimates are after adapting as a test does, and how often it is undone.

        Where nothing was seen yet there are no steps to take back.
        """
        support, targets = _support(self._inference, lanes, self._steps[-1])
        mask = torch.arange(support.shape[1], device=seen.device) < seen.unsqueeze(1)
        params, report = lane_adapter(self._inference, self._config).adapt(
            support, targets, prediction_loss, mask
        )
        output, _ = self._inference.by_lane(params, lanes, self._inference.init_hidden(len(lanes)))
        error = (self._inference.estimate(output).mean - code.unsqueeze(1)).abs().mean(-1)
        rest = torch.arange(lanes.shape[1], device=seen.device) >= seen.unsqueeze(1)
        undone = masked_mean(report.rolled_back.to(error.dtype), seen > 0)
        return {"inference_error": float(masked_mean(error, rest)), "rolled_back": float(undone)}


def meta_problem(
    inference: TaskInference,
    lanes: Float[Tensor, "M T I"],
    code: Float[Tensor, "M Z"],
    seen: Int[Tensor, " M"],
    last: int,
) -> dict[str, Any]:
    """Inference in the rest of a meta-episode after adapting to its beginning, for ``MetaMAML``.

    Every lane is a task with one sequence. The query is the whole of it, since the adapted weights
    build the memory anew from its start, but only the steps after those that were seen count.

    Args:
        inference: Whose outputs the losses read.
        lanes: Inputs of whole meta-episodes.
        code: Of their hidden variables; only the query knows them.
        seen: Env steps that each lane adapts to; with 0 it keeps the weights.
        last: The largest that ``seen`` can be.

    Returns:
        Arguments of ``MetaMAML.meta_update``, all but the number of gradient steps.
    """

    def query_loss(output: Tensor, code: Tensor, mask: Tensor) -> Tensor:
        return masked_mean(surprise(inference.estimate(output), code), mask)

    wanted = code.unsqueeze(1).expand(*lanes.shape[:2], -1)
    parts = [part.unsqueeze(1) for part in (*_support(inference, lanes, last), lanes, wanted)]
    return {
        "tasks": list(zip(*parts, strict=True)),
        "loss_fn": prediction_loss,
        "query_loss_fn": query_loss,
        "lengths": (
            seen,
            torch.arange(lanes.shape[1], device=seen.device) >= seen.unsqueeze(1),
        ),
    }


def _below(number: int, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Whole numbers, drawn where the generator is."""
    return torch.randint(number, size, generator=generator, device=generator.device)


def _support(inference: TaskInference, lanes: Tensor, last: int) -> tuple[Tensor, Tensor]:
    """What a test may have seen when it adapts for the last time, and what came of it."""
    targets = prediction_targets(lanes[:, : last + 1], inference.observation_dim)
    return lanes[:, :last], targets
