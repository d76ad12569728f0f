"""Training of the inference model on meta-episodes with known hidden variables."""

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
    """Trains the inference model, with or without gradient steps inside an episode.

    With ``meta.num_inner_steps`` the model is trained as a test uses it. Each lane of a batch is
    cut at a random adaptation time of a test, or at 0. The gradient steps descend the prediction
    error up to there. Then the hidden state is recomputed from the start, and the outer loss is
    the inference loss in the rest of the meta-episode.

    Args:
        inference: Model of one seed, or stacked models; changed in place.
        config: Configuration of context-sac.
        device: Device of the model.
        graphs: Graph capture for updates without inner gradient steps; None to run without.

    Attributes:
        optimizer: Adam over the model's parameters.
        captured: The captured update; None without graphs.

    Raises:
        ValueError: If gradient steps are configured, but a meta-episode is too short for them or
            the models are stacked.

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
        """Run updates and wait for them.

        Args:
            inputs: Inputs of whole meta-episodes.
            code: Codes of their hidden variables.
            num_updates: Number of updates.
            generator: Generator that draws each update's lanes and adaptation times.

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
        """Run updates, or start them on the device; with inner gradient steps they run at once.

        Args:
            inputs: Inputs of whole meta-episodes, equally many per seed, seed after seed.
            code: Codes of their hidden variables.
            num_updates: Number of updates.
            generators: Generator of each seed, which draws its lanes.

        Returns:
            Function that waits for the updates and returns the last one's statistics per seed.

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
        # A copy, since a graph's outputs are overwritten by its next replay.
        found = torch.stack([loss.reshape(-1), error.reshape(-1)], 1)
        names = ("inference_loss", "inference_error")
        return lambda: [dict(zip(names, own, strict=True)) for own in found.tolist()]

    def plain_update(
        self, lanes: Float[Tensor, "*R M T I"], code: Float[Tensor, "*R M Z"]
    ) -> tuple[Float[Tensor, "*R"], Float[Tensor, "*R"]]:
        """Run one update without inner gradient steps, without reading any tensor's value.

        Args:
            lanes: Inputs of whole meta-episodes; with an axis of seeds if these are stacked.
            code: Codes of their hidden variables.

        Returns:
            Loss and mean absolute error before the update, per seed.
        """
        wanted = code.unsqueeze(-2)
        estimate = self._model.scan(lanes)
        loss = inference_loss(estimate, wanted.expand_as(estimate.mean))
        # Gradient of the sum over seeds: each seed's part depends on its own loss alone.
        gradients = torch.autograd.grad(loss, self._parameters, torch.ones_like(loss))
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient.contiguous()  # as Adam's fused CUDA kernel expects
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
        """Run MAML updates; the reported error is that of adapted lanes after the cut."""
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
        """Error of the estimates after a test's adaptation, and share of rolled-back adaptations.

        Lanes that have seen nothing take no steps and do not count in that share.
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
    """The problem for ``MetaMAML``: adapt to a meta-episode's beginning, infer in its rest.

    Every lane is a task with one sequence. The query is the whole sequence, since the adapted
    weights recompute the hidden state from its start. Only the steps after ``seen`` count.

    Args:
        inference: Model whose outputs the losses read.
        lanes: Inputs of whole meta-episodes.
        code: Codes of their hidden variables; only the query loss uses them.
        seen: Env steps that each lane adapts to; at 0 it keeps the weights.
        last: Largest possible value of ``seen``.

    Returns:
        Arguments of ``MetaMAML.meta_update``, except for the number of gradient steps.
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
    """Random integers below ``number``, drawn on the generator's device."""
    return torch.randint(number, size, generator=generator, device=generator.device)


def _support(inference: TaskInference, lanes: Tensor, last: int) -> tuple[Tensor, Tensor]:
    """Inputs before a test's last adaptation, and their prediction targets."""
    targets = prediction_targets(lanes[:, : last + 1], inference.observation_dim)
    return lanes[:, :last], targets
