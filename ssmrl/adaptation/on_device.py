"""An adaptation that computes on another device than the physics."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ssmrl.adaptation.adaptation import Adaptation, Decision
from ssmrl.device import handed_back, handed_over
from ssmrl.types import Trajectory


@dataclass(frozen=True)
class Elsewhere:
    """The state on the device, and the env step that has not been sent there yet.

    Attributes:
        state: State of the inner adaptation, on its device.
        untold: Action and reward of the last env step, on the CPU; empty if none is left to send.
    """

    state: Any
    untold: tuple[Tensor, ...] = ()


class OnDevice(Adaptation[Elsewhere]):
    """Copies inputs to an adaptation's device, and its decisions back to the CPU.

    An env step takes one copy each way: its action and reward are sent with the next observation.

    Args:
        inner: Adaptation with parameters and state on the device.
        device: Device of ``inner``.
    """

    def __init__(self, inner: Adaptation[Any], device: torch.device) -> None:
        self._inner, self._device = inner, device

    def begin(self, num_tasks: int, num_lanes: int) -> Elsewhere:
        """The initial state, on the device."""
        return Elsewhere(self._inner.begin(num_tasks, num_lanes))

    def act(
        self, observation: Tensor, first: Tensor, noise: Tensor, state: Elsewhere
    ) -> tuple[Decision, Elsewhere]:
        """Choose actions on the device and return them to the CPU."""
        told = (observation, first, noise, *state.untold)
        observation, first, noise, *step = _parted(handed_over(_joined(told), self._device), told)
        decision, inner = self._inner.act(observation, first, noise, self._told(state.state, step))
        here = _parted(handed_back(_joined(decision)), decision)
        return Decision(*here), Elsewhere(inner)

    def observe(self, action: Tensor, reward: Tensor, state: Elsewhere) -> Elsewhere:
        """Store the result of an env step; it is sent with the next call."""
        return Elsewhere(state.state, (action, reward))

    def end_of_episode(self, trajectory: Trajectory, state: Elsewhere) -> Elsewhere:
        """Take in a whole episode."""
        untold = [leaf.to(self._device) for leaf in state.untold]
        there = Trajectory(*(leaf.to(self._device) for leaf in trajectory))
        return Elsewhere(self._inner.end_of_episode(there, self._told(state.state, untold)))

    def _told(self, inner: Any, step: Sequence[Tensor]) -> Any:
        if not step:
            return inner
        action, reward = step
        return self._inner.observe(action, reward, inner)


def _joined(leaves: Sequence[Tensor]) -> Tensor:
    """Concatenate tensors as columns of one tensor, ``(N, B, W)``."""
    return torch.cat([leaf if leaf.ndim == 3 else leaf.unsqueeze(-1) for leaf in leaves], -1)


def _parted(joined: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The inverse of ``_joined``, with the original shapes and types."""
    widths = [leaf.shape[-1] if leaf.ndim == 3 else 1 for leaf in like]
    return [
        part.reshape(leaf.shape).to(leaf.dtype).contiguous()
        for part, leaf in zip(joined.split(widths, -1), like, strict=True)
    ]
