"""The contract of an environment: many simulations of one kind, stepped together."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float

from ssmrl.envs.rewards import Motion

Camera: TypeAlias = Callable[[int], np.ndarray]
"""Draws a simulation as it is now: ``index -> (H, W, 3)`` uint8, without the hidden task."""


class NoPictureError(RuntimeError):
    """This machine or environment cannot render pictures; the message says what helps."""


class Step(NamedTuple):
    """Result of one step of ``B`` simulations.

    Attributes:
        observation: ``(B, O)`` float64. After an end it is the ended episode's last observation.
        reward: ``(B,)``, the sum of ``terms``.
        terminated: ``(B,)`` bool, ended by the task's own rules.
        truncated: ``(B,)`` bool, cut by the horizon.
        terms: The named parts of the reward, each ``(B,)``.
        motion: Input of the reward, without the hidden task. From it follows the reward that any
            other task of the family would have paid for the same step.
    """

    observation: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    terms: Mapping[str, np.ndarray]
    motion: Motion


class BatchedEnv(ABC):
    """``B`` simulations, each with its own hidden task. The caller resets ended episodes.

    Attributes:
        num_envs: ``B``.
        observation_dim: ``O``.
        action_dim: ``A``.
    """

    num_envs: int
    observation_dim: int
    action_dim: int

    @abstractmethod
    def set_tasks(self, parameters: Sequence[tuple[float, ...]]) -> None:
        """Give each simulation its hidden variables, ``B`` tuples; takes effect at once."""

    @abstractmethod
    def reset(
        self, mask: Bool[np.ndarray, " B"], generators: Sequence[np.random.Generator]
    ) -> Float[np.ndarray, "B O"]:
        """Start new episodes where ``mask`` is true.

        Args:
            mask: Simulations to reset.
            generators: One per simulation, ``B`` of them; only those of the mask are drawn from.

        Returns:
            The observation of every simulation, also of those that were not reset.
        """

    @abstractmethod
    def step(self, action: Float[np.ndarray, "B A"]) -> Step:
        """Advance every simulation by one env step."""

    @abstractmethod
    def camera(self) -> Camera:
        """A function that draws the simulations.

        Raises:
            NoPictureError: If this machine cannot render; the message says what helps.
        """
