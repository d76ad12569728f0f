"""A meta-batch, processed a few tasks at a time, with means over all its tasks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from ssmrl.heartbeat import beat
from ssmrl.meta.diverged import DivergedError
from ssmrl.meta.gradient import Distribution, Sample
from ssmrl.meta.task_parts import task_parts
from ssmrl.models.actor import GaussianActor
from ssmrl.types import Params, Trajectory


class Part(NamedTuple):
    """Some tasks of a meta-batch, and their share in its means."""

    tasks: slice
    share: float
    supports: list[Sample]
    query: Sample


class Outer(NamedTuple):
    """A meta-gradient, loss and divergence: means over the tasks of a meta-batch.

    The distributions are those along the supports of this learner's tasks.
    """

    gradient: Params
    loss: Tensor
    divergence: Tensor
    distributions: list[Distribution]


PartLoss: TypeAlias = Callable[[Params, Part], tuple[Tensor, tuple[list[Distribution], Tensor]]]
"""Maps meta-parameters and tasks to the mean loss, (the distributions, the mean divergence)."""


@dataclass(frozen=True)
class MetaBatch:
    """A meta-batch, or the part of it that one learner has.

    Attributes:
        actor: Policy; its parameters are the meta-parameters.
        supports: Experience before each adaptation step, in order.
        query: Experience after the last one.
        played: Trajectory of the query, on the device of the meta-parameters.
        num_tasks: Number of tasks in the whole meta-batch.
        sum_over_learners: Function that sums a vector over all learners; None if there is one.
        rows_at_once: Number of sequence steps that should be in memory at once.
    """

    actor: GaussianActor
    supports: Sequence[Sample]
    query: Sample
    played: Trajectory
    num_tasks: int
    sum_over_learners: Callable[[Tensor], Tensor] | None
    rows_at_once: int

    def params(self) -> Params:
        """The meta-parameters, detached."""
        return {name: value.detach() for name, value in self.actor.named_parameters()}

    def parts(self) -> Iterator[Part]:
        """Parts of this learner's tasks, as many at a time as should be in memory at once."""
        num_here, num_lanes, num_steps = self.query.first.shape
        for tasks in task_parts(num_here, num_lanes * num_steps, self.rows_at_once):
            beat()
            yield Part(
                tasks,
                (tasks.stop - tasks.start) / self.num_tasks,
                [Sample(*(leaf[tasks] for leaf in support)) for support in self.supports],
                Sample(*(leaf[tasks] for leaf in self.query)),
            )

    def gradient(self, params: Params, loss: PartLoss) -> Outer:
        """The gradient of an outer loss over all tasks of all learners."""

        def with_value(
            params: Params, part: Part
        ) -> tuple[Tensor, tuple[Tensor, tuple[list[Distribution], Tensor]]]:
            value, extra = loss(params, part)
            return value, (value, extra)

        total: Params = {name: torch.zeros_like(value) for name, value in params.items()}
        value = kl = torch.zeros((), device=self.query.advantage.device)
        distributions: list[list[Distribution]] = []
        for part in self.parts():
            gradient, (part_value, (part_distributions, part_kl)) = torch.func.grad(
                with_value, has_aux=True
            )(params, part)
            total = {name: total[name] + part.share * gradient[name] for name in total}
            value, kl = value + part.share * part_value, kl + part.share * part_kl
            distributions.append(part_distributions)
        joined = [
            Distribution(*(torch.cat(leaves) for leaves in zip(*parts, strict=True)))
            for parts in zip(*distributions, strict=True)
        ]
        if self.sum_over_learners is not None:
            total, value, kl = _summed(self.sum_over_learners, total, value, kl)
        return Outer(total, value, kl, joined)

    def add_up(self, vector: Tensor) -> Tensor:
        """The sum of a vector over all learners; each contributes its tasks' share."""
        return vector if self.sum_over_learners is None else self.sum_over_learners(vector)


def finite_norm(outer: Outer, epoch: int, knob: str) -> float:
    """The gradient's norm, checked to be finite.

    Args:
        outer: The gradient and its loss.
        epoch: Epoch number, counted from 0, for the message.
        knob: Knob to lower besides ``meta.inner_lr``, for the message.

    Raises:
        DivergedError: If the loss or the norm is not finite.
    """
    norm = torch.stack([value.norm() for value in outer.gradient.values()]).norm()
    if not bool(torch.isfinite(norm) & torch.isfinite(outer.loss)):
        raise DivergedError(
            f"the meta-gradient is not finite in epoch {epoch} (loss {float(outer.loss)}, norm "
            f"{float(norm)}); lower `meta.inner_lr` or `{knob}`"
        )
    return float(norm)


def _summed(
    sum_over_learners: Callable[[Tensor], Tensor], gradient: Params, loss: Tensor, kl: Tensor
) -> tuple[Params, Tensor, Tensor]:
    """The sums over all learners, exchanged as one vector."""
    parts = [*gradient.values(), loss, kl]
    vector = sum_over_learners(torch.cat([part.flatten() for part in parts]))
    sums = vector.split([part.numel() for part in parts])
    *gradients, loss, kl = (one.view_as(part) for one, part in zip(sums, parts, strict=True))
    return dict(zip(gradient, gradients, strict=True)), loss, kl
