"""The contract of what learns: an iteration at a time, from whatever was played for it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ssmrl.rollout.play import Collect
from ssmrl.types import Params


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
        seconds: That it took, where a clock around it cannot tell because other seeds were trained
            with it: its equal share [s].
        cpu_seconds: That this process computed for it, in the same case [CPU s].
    """

    iteration: int
    env_steps: int
    return_before: float
    return_after: float
    sample_seconds: float
    update_seconds: float
    statistics: dict[str, float]
    seconds: float | None = None
    cpu_seconds: float | None = None


class Learner(ABC):
    """An algorithm at work on a configuration.

    It is made of the configuration and, by the keyword ``device``, of where its networks learn.

    Attributes:
        iteration: Iterations that were made.
        env_steps_per_iteration: What each of them plays [env steps].
        num_episodes: Episodes with one task until the one that scores.
        num_reported_episodes: Episodes with one task that a full evaluation plays.
        knows_nothing_at_first: Whether the first episode with a task is one without adaptation.
    """

    iteration: int
    env_steps_per_iteration: int
    num_episodes: int
    num_reported_episodes: int
    knows_nothing_at_first: bool

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
            KeyError: If a tensor is missing.
            FileNotFoundError: If experience is missing.
            CheckpointError: If experience is damaged.
        """

    @abstractmethod
    def save_experience(self, folder: Path) -> None:
        """Keep what was played, if it is learnt from again."""

    @abstractmethod
    def prune_experience(self, folder: Path) -> None:
        """Delete what will not be learnt from again, once a newer checkpoint is on the disk."""
