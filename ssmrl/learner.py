"""The contract of what learns: an iteration at a time, from whatever was played for it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ssmrl.rollout.play import Collect
from ssmrl.types import Params


class DivergedError(ArithmeticError):
    """A loss or a gradient is not finite; that gradient was not applied."""


@dataclass(frozen=True)
class Metrics:
    """What one iteration did.

    Attributes:
        iteration: Counted from 1.
        env_steps: Since the start [env steps].
        return_before: Mean return of the first episode with each task, before adaptation by
            gradient.
        return_after: Mean return of the last one.
        sample_seconds: Time spent on experience [s].
        update_seconds: Time spent on learning [s].
        statistics: The learner's own.
    """

    iteration: int
    env_steps: int
    return_before: float
    return_after: float
    sample_seconds: float
    update_seconds: float
    statistics: dict[str, float]


class Learner(ABC):
    """An algorithm at work on a configuration.

    Attributes:
        iteration: Iterations that were made.
        env_steps_per_iteration: What each of them plays [env steps].
        num_scored_episodes: Episodes with one task until the one that scores.
    """

    iteration: int
    env_steps_per_iteration: int
    num_scored_episodes: int

    @abstractmethod
    def iterate(self, collect: Collect) -> Metrics:
        """Have something played, and learn from it.

        Raises:
            DivergedError: If a number is not finite.
        """

    @abstractmethod
    def params(self) -> Params:
        """What a player needs to act, detached."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Weights and optimiser state by name, copied."""

    @abstractmethod
    def load(self, tensors: Mapping[str, Tensor], iteration: int, folder: Path) -> None:
        """Go on from what ``tensors`` and ``save_experience`` kept.

        Args:
            tensors: Weights and optimiser state.
            iteration: Iterations that had been made.
            folder: Where experience is kept.

        Raises:
            CheckpointError: If tensors or experience are missing or damaged.
        """

    def save_experience(self, folder: Path) -> None:
        """Keep what was played, if it is learnt from again; by default nothing is."""
