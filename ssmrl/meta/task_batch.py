"""Batches of stacked supervised tasks, with hidden states and masks."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ssmrl.meta.masks import Lengths, step_masks
from ssmrl.meta.supervised import SupervisedTask, check_tensor, stack_tasks
from ssmrl.types import Hidden


class TaskBatch(NamedTuple):
    """Stacked tasks; every tensor has a leading ``N``, except a hidden state that all tasks share.

    Attributes:
        data: Inputs and targets of the support, and of the query.
        hidden: Hidden state before support and query; None for the model's initial one.
        hidden_axis: Task axis of ``hidden``; None if all tasks share it.
        masks: Masks of the valid steps of support and query, ``(N, T)``; None for all steps.
    """

    data: list[Tensor]
    hidden: Hidden | None
    hidden_axis: int | None
    masks: tuple[Tensor, Tensor] | None

    def part(self, tasks: slice) -> "TaskBatch":
        """Some of the tasks."""
        return TaskBatch(
            [leaf[tasks] for leaf in self.data],
            self.hidden if self.hidden is None or self.hidden_axis is None else self.hidden[tasks],
            self.hidden_axis,
            None if self.masks is None else (self.masks[0][tasks], self.masks[1][tasks]),
        )

    def tasks(
        self,
    ) -> Iterator[tuple[list[Tensor], Hidden | None, tuple[Tensor, Tensor] | None]]:
        """Data, hidden state and masks of each task."""
        for index in range(len(self.data[0])):
            shared = self.hidden is None or self.hidden_axis is None
            yield (
                [leaf[index] for leaf in self.data],
                self.hidden if self.hidden is None or shared else self.hidden[index],
                None if self.masks is None else (self.masks[0][index], self.masks[1][index]),
            )


def make_batch(
    tasks: Sequence[SupervisedTask],
    hidden: Hidden | Sequence[Hidden] | None,
    lengths: Lengths | None,
    *,
    hidden_ndim: int,
) -> TaskBatch:
    """Stack tasks into a batch.

    Args:
        tasks: ``(support_x, support_y, query_x, query_y)`` of each task.
        hidden: One hidden state for all tasks, or one for each; the model's initial one if None.
        lengths: Number of valid steps of each task; all if None.
        hidden_ndim: Number of axes of one task's hidden state.

    Raises:
        ValueError: If there are no tasks, shapes differ between tasks, or the hidden state or a
            length does not fit.
    """
    stacked = stack_tasks(tasks)
    memory, axis = _hidden_of_tasks(hidden, len(tasks), hidden_ndim)
    masks = None if lengths is None else step_masks(lengths, stacked)
    return TaskBatch(stacked, memory, axis, masks)


def _hidden_of_tasks(
    hidden: Hidden | Sequence[Hidden] | None, num_tasks: int, hidden_ndim: int
) -> tuple[Hidden | None, int | None]:
    """The hidden state, and its task axis, which is None if all tasks share it."""
    if hidden is None:
        return None, None
    if not isinstance(hidden, Tensor | Sequence):
        raise TypeError(
            f"`initial_hidden_state` must be a tensor, or one for each task, but got {hidden!r}"
        )
    if not isinstance(hidden, Tensor):
        for each in hidden:
            check_tensor("initial_hidden_state", each)
        shapes = [tuple(each.shape) for each in hidden]
        if len(hidden) != num_tasks or len(set(shapes)) != 1:
            raise ValueError(
                f"`initial_hidden_state` must hold {num_tasks} hidden states of one shape, "
                f"one for each task, but got {shapes}"
            )
        return torch.stack(list(hidden)), 0
    if hidden.ndim == hidden_ndim:
        return hidden, None
    if hidden.ndim != hidden_ndim + 1 or hidden.shape[0] != num_tasks:
        raise ValueError(
            "`initial_hidden_state` must have the batch on axis 0, or the "
            f"{num_tasks} tasks on axis 0 and the batch on axis 1, but got "
            f"{tuple(hidden.shape)}"
        )
    return hidden, 0
