"""An adaptation that computes elsewhere than the physics beside it."""

from typing import Any

import torch
from torch import Tensor

from ssmrl.adaptation.adaptation import Adaptation, Decision
from ssmrl.types import Trajectory


class OnDevice(Adaptation[Any]):
    """Hands everything to an adaptation on its device, and its decisions back to the CPU.

    Args:
        inner: Its parameters and its state are on the device.
        device: That one.
    """

    def __init__(self, inner: Adaptation[Any], device: torch.device) -> None:
        self._inner, self._device = inner, device

    def begin(self, num_tasks: int, num_lanes: int) -> Any:
        """Nothing is known yet."""
        return self._inner.begin(num_tasks, num_lanes)

    def act(
        self, observation: Tensor, first: Tensor, noise: Tensor, state: Any
    ) -> tuple[Decision, Any]:
        """Choose there, for an env step here."""
        device = self._device
        decision, state = self._inner.act(
            observation.to(device), first.to(device), noise.to(device), state
        )
        return Decision(*(leaf.cpu() for leaf in decision)), state

    def observe(self, action: Tensor, reward: Tensor, state: Any) -> Any:
        """Take in what an env step gave."""
        return self._inner.observe(action.to(self._device), reward.to(self._device), state)

    def end_of_episode(self, trajectory: Trajectory, state: Any) -> Any:
        """Take in a whole episode."""
        there = Trajectory(*(leaf.to(self._device) for leaf in trajectory))
        return self._inner.end_of_episode(there, state)
