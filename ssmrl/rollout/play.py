"""Descriptions of rollouts as plain data, and a collector that runs them in this process."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from ssmrl.adaptation.adaptation import Adaptation
from ssmrl.adaptation.of_some_tasks import OfSomeTasks
from ssmrl.adaptation.on_device import OnDevice
from ssmrl.config import TrainConfig
from ssmrl.device import CPU
from ssmrl.meta.algorithms import get_algorithm
from ssmrl.rollout.assignment import Assignment
from ssmrl.rollout.worker import RolloutWorker, Watch
from ssmrl.types import Params, Trajectory


class Mode(StrEnum):
    """How a policy acts and adapts to its task in a rollout."""

    EXPLORE = "explore"  # training: adapts and explores
    RANDOM = "random"  # training: acts at random
    USED = "used"  # adapts
    OFF = "off"  # does not adapt
    OTHER_REWARDS = "other rewards"  # adapts to the rewards of another task's lanes
    GIVEN = "given"  # receives the hidden variable, which no test can know


@dataclass(frozen=True)
class Play:
    """Description of the rollouts to collect: one meta-episode of each task.

    Attributes:
        assignment: ``N`` tasks and their randomness.
        num_lanes: Lanes per task, ``B``.
        num_episodes: Episodes per hidden task, ``K``.
        mode: How the policy acts and adapts.
    """

    assignment: Assignment
    num_lanes: int
    num_episodes: int
    mode: Mode

    def __post_init__(self) -> None:
        if self.mode is Mode.OTHER_REWARDS and len(self.assignment.tasks) < 2:
            raise ValueError(
                "`mode` 'other rewards' needs another task, but there is only one; "
                "play at least 2 tasks"
            )


@runtime_checkable
class Player(Protocol):
    """Makes policies from parameters.

    Its constructor takes a configuration and, if policies do not compute on the CPU, the keyword
    ``device``.

    Attributes:
        keeps_motion: Whether trajectories must contain the motions behind their rewards.
        num_reported_episodes: Episodes per task in a full evaluation.
    """

    keeps_motion: bool
    num_reported_episodes: int

    def adaptation(self, params: Params, play: Play) -> Adaptation[Any]:
        """The policy with these parameters, for these rollouts."""
        ...

    def initial_params(self) -> Params:
        """Parameters with the names, shapes and types that its policies use."""
        ...

    @staticmethod
    def params_of(tensors: Mapping[str, Tensor]) -> Params:
        """The part of a checkpoint's tensors that acting needs."""
        ...


Collect: TypeAlias = Callable[[Params, Play], list[Trajectory]]
"""Collects a meta-episode with given parameters, here or elsewhere: ``K`` trajectories."""


class LocalCollector:
    """Collects rollouts in this process.

    Args:
        config: Configuration of environment and algorithm.
        num_threads: Threads of the physics; 0 means all cores. The result does not depend on it.
        device: Device of the policies; physics and trajectories stay on the CPU.
        watch: Callback after each env step; None for no callback.
    """

    def __init__(
        self,
        config: TrainConfig,
        num_threads: int = 0,
        device: torch.device = CPU,
        *,
        watch: Watch | None = None,
    ) -> None:
        self._device = device
        elsewhere = {} if device == CPU else {"device": device}
        self._player: Player = get_algorithm(config.algorithm).player_type()(config, **elsewhere)
        self._worker = RolloutWorker(
            config.env, num_threads, keeps_motion=self._player.keeps_motion, watch=watch
        )

    def __call__(self, params: Params, play: Play) -> list[Trajectory]:
        """Collect a meta-episode."""
        return self._played(self._player.adaptation(params, play), play)

    def of_some_tasks(self, params: Params, play: Play, tasks: slice) -> list[Trajectory]:
        """Collect some tasks of a meta-episode, bit-identical to a collection of all its tasks.

        Args:
            params: Parameters of the policy.
            play: The rollouts of all tasks.
            tasks: Tasks to collect.

        Raises:
            ValueError: If the mode needs the rewards of a task that is not among them.
        """
        assignment, num_tasks = play.assignment, len(play.assignment.tasks)
        own = replace(
            play, assignment=Assignment(assignment.tasks[tasks], assignment.streams[tasks])
        )
        if len(own.assignment.tasks) == num_tasks:
            return self(params, play)
        if play.mode is Mode.OTHER_REWARDS:
            raise ValueError(
                "`tasks` must be all of them if `mode` is 'other rewards', but got "
                f"{len(own.assignment.tasks)} of {num_tasks}; collect them in one process"
            )
        adaptation = self._player.adaptation(params, play)
        if self._device == CPU:
            if adaptation.mixes_tasks:
                return self._played(OfSomeTasks(adaptation, tasks, num_tasks), own)
            if len(own.assignment.tasks) == 1:  # a batch of one is summed in another order
                return self._played(OfSomeTasks(adaptation, slice(0, 1), 2), own)
        return self(params, own)

    def _played(self, adaptation: Adaptation[Any], play: Play) -> list[Trajectory]:
        if self._device != CPU:
            adaptation = OnDevice(adaptation, self._device)
        return self._worker.meta_episode(
            adaptation,
            play.assignment,
            num_episodes=play.num_episodes,
            num_lanes=play.num_lanes,
            other_rewards=play.mode is Mode.OTHER_REWARDS,
        )
