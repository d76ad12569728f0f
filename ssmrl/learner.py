"""The interface of a learner: it trains one iteration at a time on collected rollouts."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ssmrl.rollout.play import Collect
from ssmrl.types import Params


@dataclass(frozen=True)
class Metrics:
    """Metrics of one training iteration.

    Attributes:
        iteration: Iteration number, counted from 1.
        env_steps: Environment steps since the start [env steps].
        return_before: Mean return of the first episode with each task, before adaptation by
            gradient.
        return_after: Mean return of the last episode with each task.
        sample_seconds: Time spent on collecting rollouts [s].
        update_seconds: Time spent on learning [s].
        statistics: Statistics specific to the learner.
        seconds: Equal share of the wall time, if several seeds are trained together; else None
            [s].
        cpu_seconds: Equal share of this process's CPU time, in the same case [CPU s].
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
    """An algorithm that trains one configuration.

    It is constructed from the configuration, and from the ``device`` on which its networks learn.

    Attributes:
        iteration: Number of completed iterations.
        env_steps_per_iteration: Environment steps of an iteration [env steps].
        num_episodes: Episodes with one task up to and including the scored one.
        num_reported_episodes: Episodes with one task in a full evaluation.
        knows_nothing_at_first: Whether the policy is not adapted in its first episode with a task.
    """

    iteration: int
    env_steps_per_iteration: int
    num_episodes: int
    num_reported_episodes: int
    knows_nothing_at_first: bool

    @abstractmethod
    def iterate(self, collect: Collect) -> Metrics:
        """Collect rollouts and learn from them.

        Raises:
            DivergedError: If a number is not finite.
        """

    @abstractmethod
    def params(self) -> Params:
        """The parameters a player needs to act, detached."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Weights and optimiser state by name, copied."""

    @abstractmethod
    def load(self, tensors: Mapping[str, Tensor], iteration: int, folder: Path) -> None:
        """Resume from the results of ``tensors`` and ``save_experience``.

        Args:
            tensors: Weights and optimiser state.
            iteration: Number of completed iterations.
            folder: Folder of the saved experience.

        Raises:
            KeyError: If a tensor is missing.
            FileNotFoundError: If experience is missing.
            CheckpointError: If experience is damaged.
        """

    @abstractmethod
    def save_experience(self, folder: Path) -> None:
        """Save the replay buffer, if the algorithm has one."""

    @abstractmethod
    def prune_experience(self, folder: Path) -> None:
        """Delete experience that is no longer needed, once a newer checkpoint is on the disk."""
