"""A meta-batch as its outer loss sees it: a few tasks at a time, means over all of it."""

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
    """A meta-gradient and what is had beside it: means over the tasks of a meta-batch.

    The distributions are those along the supports of the tasks that are here.
    """

    gradient: Params
    loss: Tensor
    divergence: Tensor
    distributions: list[Distribution]


PartLoss: TypeAlias = Callable[[Params, Part], tuple[Tensor, tuple[list[Distribution], Tensor]]]
"""From meta-parameters and tasks to the mean loss, (the distributions, the mean divergence)."""


@dataclass(frozen=True)
class MetaBatch:
    """A meta-batch, or one learner's tasks of it.

    Attributes:
        actor: Its parameters are the meta-parameters.
        supports: Experience before each adaptation step, in order.
        query: Experience after the last one.
        played: The query as it was played, on the device of the meta-parameters.
        num_tasks: Of the whole meta-batch.
        sum_over_learners: Adds up a vector over the learners; None if there is one.
        rows_at_once: Steps of sequences that should be in memory together.
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
        """The tasks that are here, as many at a time as should be in memory together."""
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
        """Of an outer loss, over all tasks of all learners."""

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
        """The sum over the learners, each with its tasks' share."""
        return vector if self.sum_over_learners is None else self.sum_over_learners(vector)


def finite_norm(outer: Outer, epoch: int, knob: str) -> float:
    """The gradient's norm; if that is not finite there is nothing to apply.

    Args:
        outer: The gradient and its loss.
        epoch: Counted from 0, for the message.
        knob: What to lower beside the inner step size.

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
    """The contributions of all learners, which travel as one vector."""
    parts = [*gradient.values(), loss, kl]
    vector = sum_over_learners(torch.cat([part.flatten() for part in parts]))
    sums = vector.split([part.numel() for part in parts])
    *gradients, loss, kl = (one.view_as(part) for one, part in zip(sums, parts, strict=True))
    return dict(zip(gradient, gradients, strict=True)), loss, kl
