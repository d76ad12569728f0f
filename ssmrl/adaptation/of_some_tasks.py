"""Some of the tasks that an adaptation was made for, to the last digit as among all of them."""

from typing import Any

import torch
from torch import Tensor

from ssmrl.adaptation.adaptation import Adaptation, Decision
from ssmrl.types import Trajectory


class OfSomeTasks(Adaptation[Any]):
    """Lets an adaptation compute for all of its tasks, of which only some are played here.

    A product of matrices is summed in an order that depends on how many rows there are and on
    the place of a row among them, so lanes that are played elsewhere are kept as zeros.

    Args:
        inner: Made for ``num_tasks`` tasks.
        tasks: Those that are played, one after another.
        num_tasks: All.
    """

    def __init__(self, inner: Adaptation[Any], tasks: slice, num_tasks: int) -> None:
        self._inner, self._tasks, self._num_tasks = inner, tasks, num_tasks

    def begin(self, num_tasks: int, num_lanes: int) -> Any:
        """Nothing is known of any task."""
        return self._inner.begin(self._num_tasks, num_lanes)

    def act(
        self, observation: Tensor, first: Tensor, noise: Tensor, state: Any
    ) -> tuple[Decision, Any]:
        """Choose for the tasks that are played."""
        decision, state = self._inner.act(
            self._among_all(observation), self._among_all(first), self._among_all(noise), state
        )
        return Decision(*(leaf[self._tasks] for leaf in decision)), state

    def observe(self, action: Tensor, reward: Tensor, state: Any) -> Any:
        """Take in what an env step gave."""
        return self._inner.observe(self._among_all(action), self._among_all(reward), state)

    def end_of_episode(self, trajectory: Trajectory, state: Any) -> Any:
        """Take in a whole episode."""
        everything = Trajectory(*(self._among_all(leaf) for leaf in trajectory))
        return self._inner.end_of_episode(everything, state)

    def _among_all(self, own: Tensor) -> Tensor:
        everything = torch.zeros(self._num_tasks, *own.shape[1:], dtype=own.dtype)
        everything[self._tasks] = own
        return everything
