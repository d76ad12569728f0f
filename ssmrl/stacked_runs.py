"""Training runs of several seeds in one batch; each gives the same results as alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ssmrl.config import TrainConfig
from ssmrl.device import CPU
from ssmrl.learner import Learner, Metrics
from ssmrl.meta.algorithms import get_algorithm
from ssmrl.meta.diverged import DivergedError
from ssmrl.rollout.evaluate import Evaluation
from ssmrl.rollout.play import Collect, LocalCollector, Mode
from ssmrl.run import NUM_EVALUATIONS, LocalEngine, Row, TrainingRun


class StackedRuns:
    """One run for each seed of a configuration, all trained together.

    Each run has its own rows, evaluations and checkpoint; a run of that seed alone can resume from
    the checkpoint, and vice versa. If a run diverges, it stops and the others continue. The budget
    is in env steps only, since a seed's CPU seconds are known only as an equal share.

    Args:
        configs: Configurations that differ only in their seeds; their algorithm must be able to
            train several seeds at once.
        max_env_steps: Budget of each run [env steps].
        folders: Folder of each run's checkpoint; an existing checkpoint is resumed.
        num_threads: Threads of the physics.
        num_evaluations: Number of evaluations of each run.
        device: Device on which networks learn.

    Attributes:
        runs: The run of each seed.

    Raises:
        DeviceMemoryError: If the device has too little memory for them.
        ValueError: If the configurations cannot be stacked, or a number is not positive.
    """

    def __init__(
        self,
        configs: Sequence[TrainConfig],
        *,
        max_env_steps: int,
        folders: Sequence[Path],
        num_threads: int = 1,
        num_evaluations: int = NUM_EVALUATIONS,
        device: torch.device = CPU,
    ) -> None:
        self._seeds = [config.seed for config in configs]
        if not configs:
            raise ValueError("`configs` must not be empty; give one configuration for each seed")
        learners = get_algorithm(configs[0].algorithm).stack_type()(configs, device)
        collect = LocalCollector(configs[0], num_threads)
        self._together = _Together(learners, collect)
        self.runs = [
            TrainingRun(
                config,
                max_env_steps=max_env_steps,
                folder=folder,
                engine=_Seat(config, self._together, place, collect),
                num_evaluations=num_evaluations,
            )
            for place, (config, folder) in enumerate(zip(configs, folders, strict=True))
        ]

    @property
    def rows(self) -> list[Row]:
        """The row of each run."""
        return [run.row for run in self.runs]

    @property
    def is_over(self) -> bool:
        """Whether all runs have ended: each has spent its budget, or diverged."""
        return all(row.finished or row.diverged for row in self.rows)

    @property
    def diverged(self) -> dict[int, str]:
        """The reason of divergence by seed, for the seeds that diverged."""
        found = zip(self._seeds, self.rows, strict=True)
        return {seed: row.reason for seed, row in found if row.diverged}

    def advance(self) -> list[Row]:
        """Make one iteration of the active runs with the fewest iterations; usually all of them."""
        going = {
            place: row.iterations
            for place, row in enumerate(self.rows)
            if not (row.finished or row.diverged)
        }
        least = min(going.values(), default=0)
        members = [place for place, iterations in going.items() if iterations == least]
        self._together.members = members
        for place in members:
            self.runs[place].advance()
        return self.rows

    def close(self) -> None:
        """Save all runs and release memory."""
        for run in self.runs:
            run.close()

    def abandon(self) -> None:
        """Release memory without saving; the last checkpoints stay."""
        for run in self.runs:
            run.abandon()


@runtime_checkable
class StackedLearners(Protocol):
    """A learner of several seeds at once: the ``stack`` of an algorithm."""

    own: Sequence[Learner]

    def iterate(
        self, members: Sequence[int], collect: Collect
    ) -> tuple[dict[int, Metrics], dict[int, DivergedError]]:
        """Make an iteration of some seeds; return metrics and divergence errors by seed index."""
        ...


class _Together:
    """Makes one iteration for all members as soon as one of them asks for it.

    Attributes:
        members: Indices of the runs that take part.
    """

    def __init__(self, learners: StackedLearners, collect: LocalCollector) -> None:
        self.learners, self._collect = learners, collect
        self.members: Sequence[int] = ()
        self._made: dict[int, Metrics] = {}
        self._diverged: dict[int, DivergedError] = {}

    def iterate(self, place: int) -> Metrics:
        """The metrics of the iteration for one run; raises if that run diverged."""
        if place not in self._made and place not in self._diverged:
            self._made, self._diverged = self.learners.iterate(self.members, self._collect)
        if place in self._diverged:
            raise self._diverged.pop(place)
        return self._made.pop(place)


class _Seat:
    """The engine of one seed; only the iterations are shared with the other seeds."""

    def __init__(
        self, config: TrainConfig, together: _Together, place: int, collect: LocalCollector
    ) -> None:
        self._together, self._place = together, place
        self.learner: Learner = together.learners.own[place]
        self._own = LocalEngine(config, collect=collect, learner=self.learner)

    def iterate(self) -> Metrics:
        """Make one iteration, together with all other members."""
        return self._together.iterate(self._place)

    def judge(self, *, num_episodes: int, mode: Mode, draw: int) -> Evaluation:
        """Evaluate the present weights on held-out tasks."""
        return self._own.judge(num_episodes=num_episodes, mode=mode, draw=draw)

    def tensors(self) -> dict[str, Tensor]:
        """Weights and optimiser state."""
        return self._own.tensors()

    def load(self, tensors: Mapping[str, Tensor], iteration: int, folder: Path) -> None:
        """Resume from a checkpoint."""
        self._own.load(tensors, iteration, folder)

    def stop(self) -> None:
        """Do nothing: no resources are held outside this process."""
