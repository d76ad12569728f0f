"""Rollouts of a subset of an adaptation's tasks, bit for bit as in the full batch."""

from typing import Any

import torch
from torch import Tensor

from ssmrl.adaptation.adaptation import Adaptation, Decision
from ssmrl.types import Trajectory


class OfSomeTasks(Adaptation[Any]):
    """Runs an adaptation with its full task batch, although only some tasks are simulated here.

    The summation order of a matrix product depends on the number of rows and on a row's position.
    The lanes of the other tasks are therefore filled with zeros.

    Args:
        inner: Adaptation made for ``num_tasks`` tasks.
        tasks: Slice of the tasks simulated here.
        num_tasks: Total number of tasks.
    """

    def __init__(self, inner: Adaptation[Any], tasks: slice, num_tasks: int) -> None:
        self._inner, self._tasks, self._num_tasks = inner, tasks, num_tasks

    def begin(self, num_tasks: int, num_lanes: int) -> Any:
        """The initial state of all tasks."""
        return self._inner.begin(self._num_tasks, num_lanes)

    def act(
        self, observation: Tensor, first: Tensor, noise: Tensor, state: Any
    ) -> tuple[Decision, Any]:
        """Choose actions for the tasks simulated here."""
        decision, state = self._inner.act(
            self._among_all(observation), self._among_all(first), self._among_all(noise), state
        )
        return Decision(*(leaf[self._tasks] for leaf in decision)), state

    def observe(self, action: Tensor, reward: Tensor, state: Any) -> Any:
        """Take in the result of an env step."""
        return self._inner.observe(self._among_all(action), self._among_all(reward), state)

    def end_of_episode(self, trajectory: Trajectory, state: Any) -> Any:
        """Take in a whole episode."""
        everything = Trajectory(*(self._among_all(leaf) for leaf in trajectory))
        return self._inner.end_of_episode(everything, state)

    def _among_all(self, own: Tensor) -> Tensor:
        everything = torch.zeros(self._num_tasks, *own.shape[1:], dtype=own.dtype)
        everything[self._tasks] = own
        return everything
