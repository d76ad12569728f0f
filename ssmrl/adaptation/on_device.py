"""An adaptation that computes elsewhere than the physics beside it."""

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
    """What is known there, and what it is told next.

    Attributes:
        state: Of the adaptation there, on its device.
        untold: Action and reward of the last env step, on the CPU; none before the first one.
    """

    state: Any
    untold: tuple[Tensor, ...] = ()


class OnDevice(Adaptation[Elsewhere]):
    """Hands everything to an adaptation on its device, and its decisions back to the CPU.

    An env step takes one copy each way: what it gave goes there with the observation after it.

    Args:
        inner: Its parameters and its state are on the device.
        device: That one.
    """

    def __init__(self, inner: Adaptation[Any], device: torch.device) -> None:
        self._inner, self._device = inner, device

    def begin(self, num_tasks: int, num_lanes: int) -> Elsewhere:
        """Nothing is known yet."""
        return Elsewhere(self._inner.begin(num_tasks, num_lanes))

    def act(
        self, observation: Tensor, first: Tensor, noise: Tensor, state: Elsewhere
    ) -> tuple[Decision, Elsewhere]:
        """Choose there, for an env step here."""
        told = (observation, first, noise, *state.untold)
        observation, first, noise, *step = _parted(handed_over(_joined(told), self._device), told)
        decision, inner = self._inner.act(observation, first, noise, self._told(state.state, step))
        here = _parted(handed_back(_joined(decision)), decision)
        return Decision(*here), Elsewhere(inner)

    def observe(self, action: Tensor, reward: Tensor, state: Elsewhere) -> Elsewhere:
        """Take in what an env step gave, as soon as there is more to say."""
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
    """As columns of one tensor, ``(N, B, W)``."""
    return torch.cat([leaf if leaf.ndim == 3 else leaf.unsqueeze(-1) for leaf in leaves], -1)


def _parted(joined: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The inverse, with the shapes and types that they had."""
    widths = [leaf.shape[-1] if leaf.ndim == 3 else 1 for leaf in like]
    return [
        part.reshape(leaf.shape).to(leaf.dtype).contiguous()
        for part, leaf in zip(joined.split(widths, -1), like, strict=True)
    ]
