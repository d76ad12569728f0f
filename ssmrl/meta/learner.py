"""The outer loop: updates of the meta-parameters on meta-batches."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ssmrl.config import TrainConfig
from ssmrl.device import on_cpu
from ssmrl.meta.algorithms import get_algorithm
from ssmrl.meta.batch import MetaBatch
from ssmrl.meta.gradient import Sample, adapt, make_sample
from ssmrl.meta.settings import GradientSettings
from ssmrl.meta.task_parts import rows_at_once
from ssmrl.models.actor import GaussianActor
from ssmrl.optimizer_state import moment_on
from ssmrl.types import Params, Trajectory


class OuterStep(Protocol):
    """Outer loss and update step of an algorithm, made from an actor and the settings.

    Attributes:
        optimizer: Optimiser with the algorithm's state.
    """

    optimizer: torch.optim.Optimizer

    def loss(self, batch: MetaBatch) -> Tensor:
        """The outer loss at the present meta-parameters, which do not change."""
        ...

    def step(self, batch: MetaBatch) -> dict[str, float]:
        """Update the meta-parameters in place and return statistics.

        Raises:
            DivergedError: If a number is not finite; then that step was not applied.
        """
        ...


class MetaLearner:
    """Applies an algorithm's update step to an actor's meta-parameters, in place.

    Args:
        actor: Policy; its parameters are the meta-parameters, and updates run on their device.
        config: Configuration: the algorithm and its settings.

    Attributes:
        optimizer: The algorithm's optimiser, for checkpoints.

    Raises:
        ValueError: If the algorithm does not adapt by gradient steps.
    """

    def __init__(self, actor: GaussianActor, config: TrainConfig) -> None:
        algorithm = get_algorithm(config.algorithm)
        if algorithm.kind != "gradient":
            raise ValueError(
                "`algorithm` must adapt by gradient steps to have a meta-learner, but got "
                f"{config.algorithm!r}, which adapts by {algorithm.kind}"
            )
        self._actor = actor
        self._settings: GradientSettings = config.meta
        self._step: OuterStep = algorithm.outer_type()(actor, config.meta)
        self.optimizer = self._step.optimizer
        self._rows_at_once = rows_at_once(actor, config.meta.num_inner_steps)

    def params(self) -> Params:
        """The meta-parameters, detached."""
        return {name: value.detach() for name, value in self._actor.named_parameters()}

    def state(self) -> dict[str, Tensor]:
        """Meta-parameters (``actor.*``) and optimiser (``optimizer.*``), copied to the CPU."""
        tensors = {f"actor.{name}": on_cpu(value) for name, value in self.params().items()}
        for name, parameter in self._actor.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"optimizer.{key}.{name}"] = on_cpu(torch.as_tensor(value))
        return tensors

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of ``state``.

        Raises:
            KeyError: If a meta-parameter is missing.
        """
        with torch.no_grad():
            for name, parameter in self._actor.named_parameters():
                parameter.copy_(tensors[f"actor.{name}"])
                self.optimizer.state[parameter] = {
                    key: moment_on(
                        tensors[f"optimizer.{key}.{name}"], key, parameter, self.optimizer
                    )
                    for key in ("step", "exp_avg", "exp_avg_sq")
                    if f"optimizer.{key}.{name}" in tensors
                }

    def adapt(self, params: Params, support: Trajectory) -> Params:
        """Make one adaptation step of every task; all tensors ``(N, ...)``."""
        sample = self._sample(support)
        return adapt(self._actor, params, sample, self._settings, self._rows_at_once)

    def loss(self, supports: Sequence[Trajectory], query: Trajectory) -> Tensor:
        """The outer loss of a meta-batch at the present meta-parameters, which do not change."""
        return self._step.loss(self._batch(supports, query, None, None))

    def update(
        self,
        supports: Sequence[Trajectory],
        query: Trajectory,
        *,
        num_tasks: int | None = None,
        sum_over_learners: Callable[[Tensor], Tensor] | None = None,
    ) -> dict[str, float]:
        """Update the meta-parameters on one meta-batch.

        Several learners with equal meta-parameters can share a meta-batch: each has some of its
        tasks. All make the same step, since a step depends only on sums over the learners.

        Args:
            supports: Experience before each adaptation step, in order.
            query: Experience after the last one.
            num_tasks: Number of tasks in the whole meta-batch; that of the trajectories if left
                out.
            sum_over_learners: Function that sums a vector over all learners; None if there is one.

        Returns:
            Statistics: at least the loss before and after, divergence, and the gradient's norm;
            more depending on the algorithm.

        Raises:
            DivergedError: If the loss, its gradient or a curvature is not finite.
        """
        return self._step.step(self._batch(supports, query, num_tasks, sum_over_learners))

    def _batch(
        self,
        supports: Sequence[Trajectory],
        query: Trajectory,
        num_tasks: int | None,
        sum_over_learners: Callable[[Tensor], Tensor] | None,
    ) -> MetaBatch:
        return MetaBatch(
            self._actor,
            [self._sample(support) for support in supports],
            self._sample(query),
            self._on_device(query),
            num_tasks or len(query.reward),
            sum_over_learners,
            self._rows_at_once,
        )

    def _sample(self, trajectory: Trajectory) -> Sample:
        return make_sample(self._on_device(trajectory), self._settings)

    def _on_device(self, trajectory: Trajectory) -> Trajectory:
        device = self._actor.log_std.device
        return Trajectory(*(leaf.to(device) for leaf in trajectory))
