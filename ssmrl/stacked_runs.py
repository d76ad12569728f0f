"""Training runs of several seeds that learn together; each leaves what it would leave alone."""

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
    """One run for each seed of a configuration, all of which go on together.

    Each has its own rows, evaluations and checkpoint, which a run of that seed alone can go on
    from, and the other way round. A run that diverges stays where it is, and the others go on. The
    budget is of env steps: of CPU seconds a seed has no more than an equal share.

    Args:
        configs: Of an algorithm that learns for several seeds at once, equal but for their seeds.
        max_env_steps: The budget of each [env steps].
        folders: Where the checkpoint of each is kept; an existing one is gone on from.
        num_threads: Threads of the physics.
        num_evaluations: Of each.
        device: Where networks learn.

    Attributes:
        runs: Of each seed.

    Raises:
        DeviceMemoryError: If the device has no room for them.
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
            raise ValueError("`configs` must be at least one, but are none; give one for each seed")
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
        """What each run has come to."""
        return [run.row for run in self.runs]

    @property
    def is_over(self) -> bool:
        """Whether no run goes on: each has spent its budget, or diverged."""
        return all(row.finished or row.diverged for row in self.rows)

    @property
    def diverged(self) -> dict[int, str]:
        """By seed why it diverged, where it did."""
        found = zip(self._seeds, self.rows, strict=True)
        return {seed: row.reason for seed, row in found if row.diverged}

    def advance(self) -> list[Row]:
        """One iteration of those runs that are furthest behind; mostly that is all that go on."""
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
        """Save all, and give back memory."""
        for run in self.runs:
            run.close()

    def abandon(self) -> None:
        """Give back memory; the last checkpoints stay what there is to go on from."""
        for run in self.runs:
            run.abandon()


@runtime_checkable
class StackedLearners(Protocol):
    """What learns for several seeds at once: the ``stack`` of an algorithm."""

    own: Sequence[Learner]

    def iterate(
        self, members: Sequence[int], collect: Collect
    ) -> tuple[dict[int, Metrics], dict[int, DivergedError]]:
        """An iteration of some: by place what each did, and why it diverged where it did."""
        ...


class _Together:
    """Makes an iteration for all as soon as one of them asks for it.

    Attributes:
        members: Who goes on.
    """

    def __init__(self, learners: StackedLearners, collect: LocalCollector) -> None:
        self.learners, self._collect = learners, collect
        self.members: Sequence[int] = ()
        self._made: dict[int, Metrics] = {}
        self._diverged: dict[int, DivergedError] = {}

    def iterate(self, place: int) -> Metrics:
        """What the iteration was for one of them."""
        if place not in self._made and place not in self._diverged:
            self._made, self._diverged = self.learners.iterate(self.members, self._collect)
        if place in self._diverged:
            raise self._diverged.pop(place)
        return self._made.pop(place)


class _Seat:
    """The engine of one seed: all its own but for the iterations."""

    def __init__(
        self, config: TrainConfig, together: _Together, place: int, collect: LocalCollector
    ) -> None:
        self._together, self._place = together, place
        self.learner: Learner = together.learners.own[place]
        self._own = LocalEngine(config, collect=collect, learner=self.learner)

    def iterate(self) -> Metrics:
        """One iteration, with all who go on."""
        return self._together.iterate(self._place)

    def judge(self, *, num_episodes: int, mode: Mode, draw: int) -> Evaluation:
        """Play held-out tasks with the present weights."""
        return self._own.judge(num_episodes=num_episodes, mode=mode, draw=draw)

    def tensors(self) -> dict[str, Tensor]:
        """Weights and optimiser state."""
        return self._own.tensors()

    def load(self, tensors: Mapping[str, Tensor], iteration: int, folder: Path) -> None:
        """Go on from a checkpoint."""
        self._own.load(tensors, iteration, folder)

    def stop(self) -> None:
        """Nothing is held outside of this process."""
