"""A resumable training run: from a configuration to rows of results; used by all packages."""

import hashlib
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ssmrl.checkpoint import Checkpoint, CheckpointError, check_progress, check_tensors
from ssmrl.config import TrainConfig
from ssmrl.device import CPU
from ssmrl.device_memory import device_memory
from ssmrl.disk_room import with_room
from ssmrl.files import clear_parts
from ssmrl.knobs import KnobValue
from ssmrl.learner import Learner, Metrics
from ssmrl.meta.algorithms import get_algorithm
from ssmrl.meta.diverged import DivergedError
from ssmrl.rollout.evaluate import Evaluation, judge
from ssmrl.rollout.play import Collect, LocalCollector, Mode
from ssmrl.saved_policy import acting_part
from ssmrl.saved_start import SavedStart

NUM_EVALUATIONS = 4
_SECONDS_BETWEEN_CHECKPOINTS = 10.0


@dataclass(frozen=True)
class Row:
    """The state and results of a run.

    Attributes:
        env_steps: Environment steps of training [env steps].
        iterations: Iterations of training.
        seconds: Time spent on training and evaluation [s].
        train_cpu_seconds: CPU time of this process for training, without evaluations [CPU s].
        finished: Whether the budget is spent.
        diverged: Whether a number was not finite; then training has stopped.
        reason: Reason of the divergence.
        received: Knobs that training received.
        curve: For each evaluation: env steps so far, return without and with adaptation.
        curve_cpu_seconds: ``train_cpu_seconds`` at each evaluation [CPU s].
        score: Return with adaptation at the last evaluation; None before the first one.
        interval: 95 % interval of the score over tasks, low and high.
        returns: Mean return by the number of earlier episodes with the task.
        metrics: Metrics of the iteration that ``advance`` just made; None if it made none.
    """

    env_steps: int = 0
    iterations: int = 0
    seconds: float = 0.0
    train_cpu_seconds: float = 0.0
    finished: bool = False
    diverged: bool = False
    reason: str = ""
    received: Mapping[str, KnobValue] = field(default_factory=dict)
    curve: tuple[tuple[int, float, float], ...] = ()
    curve_cpu_seconds: tuple[float, ...] = ()
    score: float | None = None
    interval: tuple[float, float] | None = None
    returns: Mapping[str, float] = field(default_factory=dict)
    metrics: Metrics | None = None


@runtime_checkable
class Engine(Protocol):
    """The backend that does a run's work: in this process, or on a cluster."""

    learner: Learner

    def iterate(self) -> Metrics:
        """Make one iteration of training."""
        ...

    def judge(self, *, num_episodes: int, mode: Mode, draw: int) -> Evaluation:
        """Evaluate on held-out tasks."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Weights and optimiser state."""
        ...

    def load(self, tensors: Mapping[str, Tensor], iteration: int, folder: Path) -> None:
        """Resume from a checkpoint."""
        ...

    def stop(self) -> None:
        """Release workers and memory."""
        ...


class LocalEngine:
    """An engine that trains in this process.

    Args:
        config: Configuration to train.
        num_threads: Threads of the physics; 0 means all cores. The result does not depend on it.
        collect: Function that collects rollouts; by default in this process too.
        device: Device of the learner's networks; policies act on the CPU, beside the physics.
        learner: An existing learner; a new one is made if left out.

    Attributes:
        learner: The learner.

    Raises:
        DeviceMemoryError: If the device has too little memory for the learner.
    """

    def __init__(
        self,
        config: TrainConfig,
        num_threads: int = 0,
        collect: Collect | None = None,
        device: torch.device = CPU,
        learner: Learner | None = None,
    ) -> None:
        self._config = config
        if learner is None:
            with device_memory(config):
                learner = get_algorithm(config.algorithm).learner_type()(config, device=device)
        self.learner: Learner = learner
        self._collect = LocalCollector(config, num_threads) if collect is None else collect

    def iterate(self) -> Metrics:
        """Make one iteration of training."""
        return self.learner.iterate(self._collect)

    def judge(self, *, num_episodes: int, mode: Mode, draw: int) -> Evaluation:
        """Evaluate the present weights on held-out tasks."""
        return judge(
            self._config,
            self.learner.params(),
            self._collect,
            num_episodes=num_episodes,
            mode=mode,
            draw=draw,
        )

    def tensors(self) -> dict[str, Tensor]:
        """Weights and optimiser state."""
        return self.learner.tensors()

    def load(self, tensors: Mapping[str, Tensor], iteration: int, folder: Path) -> None:
        """Resume from a checkpoint."""
        self.learner.load(tensors, iteration, folder)

    def stop(self) -> None:
        """Do nothing: no resources are held outside this process."""


def fingerprint(config: TrainConfig) -> str:
    """A short hash of a configuration: equal ones share it, different ones do not."""
    return hashlib.sha256(config.to_json().encode()).hexdigest()[:16]


def checkpoint_path(folder: Path, config: TrainConfig) -> Path:
    """Path of the configuration's checkpoint."""
    return folder / f"{fingerprint(config)}.safetensors"


class TrainingRun:
    """Trains one configuration, an iteration at a time, with its evaluations.

    The budget is given in env steps or CPU seconds; the iteration that exceeds it is the last.
    Evaluations take place at equal fractions of the budget, always on the same held-out tasks. The
    last one is the score. Their env steps and seconds do not count against the budget. The state
    is one checkpoint, named by the configuration's fingerprint. The next run of that configuration
    in the same folder resumes from it.

    Args:
        config: Configuration to train.
        max_env_steps: Budget [env steps].
        max_cpu_seconds: Budget instead of ``max_env_steps`` [CPU s]; results then depend on the
            machine.
        folder: Folder of the checkpoints; an existing checkpoint is resumed.
        engine: Backend that does the work; by default this process.
        num_threads: Threads of the physics, for the default engine.
        num_evaluations: Number of evaluations.
        start: Initial networks if there is no checkpoint to resume from; by default they are drawn
            from the seed.

    Raises:
        DeviceMemoryError: If the device has too little memory for the resumed state.
        CheckpointError: If the initial networks do not fit the configuration.
        ValueError: If there is not exactly one budget, or a number is not positive.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        max_env_steps: int | None = None,
        max_cpu_seconds: float | None = None,
        folder: Path,
        engine: Engine | None = None,
        num_threads: int = 1,
        num_evaluations: int = NUM_EVALUATIONS,
        start: SavedStart | None = None,
    ) -> None:
        check_budget(max_env_steps, max_cpu_seconds, num_evaluations)
        self._config = config
        self._max_env_steps, self._max_cpu_seconds = max_env_steps, max_cpu_seconds
        self._num_evaluations = num_evaluations
        self.path = checkpoint_path(folder, config)
        self._engine: Engine = LocalEngine(config, num_threads) if engine is None else engine
        self.row = Row(received=config.knobs())
        self._saved = time.monotonic()
        clear_parts(self.path)
        with device_memory(config):
            if not self._restore() and start is not None:
                begun = start.over(self._engine.tensors())
                self._engine.load(begun, 0, self.experience)

    @property
    def experience(self) -> Path:
        """Folder of the saved replay buffer, if the algorithm has one."""
        return self.path.with_suffix(".replay")

    def advance(self) -> Row:
        """Make one iteration, and an evaluation if one is due.

        Raises:
            DeviceMemoryError: If the device is out of memory; then call ``abandon``.
        """
        metrics, row = None, self.row
        try:
            with device_memory(self._config):
                if not self._is_spent(row):
                    metrics, row = self._iterated(row)
                due = self._num_due(row.env_steps, row.train_cpu_seconds)
                if due > self._num_judged(row):
                    row = self._judged(row, is_last=self._is_spent(row))
        except DivergedError as error:
            self.row = replace(row, diverged=True, reason=str(error), metrics=None)
            return self.row
        self.row = replace(
            row,
            finished=self._is_spent(row),
            metrics=metrics,
        )
        if self.row.finished or time.monotonic() - self._saved > _SECONDS_BETWEEN_CHECKPOINTS:
            self.save()
        return self.row

    def save(self) -> None:
        """Save the state: first the experience, then the checkpoint that refers to it."""
        if not self.row.diverged:
            with_room(self._save, self.path)

    def _save(self) -> None:
        learner = self._engine.learner
        learner.save_experience(self.experience)
        progress = {name: getattr(self.row, name) for name in (*_COUNTERS, *_JUDGEMENT)}
        Checkpoint(self._config, self._engine.tensors(), progress).save(self.path)
        learner.prune_experience(self.experience)
        self._saved = time.monotonic()

    def close(self) -> None:
        """Save the state and release workers and memory."""
        self.save()
        self._engine.stop()

    def abandon(self) -> None:
        """Release workers and memory without saving; the last checkpoint stays."""
        self._engine.stop()

    def policy(self) -> Checkpoint:
        """A checkpoint of what acting needs, without optimiser state and experience."""
        tensors = acting_part(self._config, self._engine.tensors())
        progress = {"env_steps": self.row.env_steps, "score": self.row.score}
        return Checkpoint(self._config, tensors, progress)

    def _iterated(self, row: Row) -> tuple[Metrics, Row]:
        started, cpu_started = time.monotonic(), time.process_time()
        metrics = self._engine.iterate()
        seconds, cpu_seconds = time.monotonic() - started, time.process_time() - cpu_started
        return metrics, replace(
            row,
            env_steps=metrics.env_steps,
            iterations=metrics.iteration,
            seconds=row.seconds + (seconds if metrics.seconds is None else metrics.seconds),
            train_cpu_seconds=row.train_cpu_seconds
            + (cpu_seconds if metrics.cpu_seconds is None else metrics.cpu_seconds),
        )

    def _is_spent(self, row: Row) -> bool:
        if self._max_env_steps is not None:
            return row.env_steps >= self._max_env_steps
        assert self._max_cpu_seconds is not None
        return row.train_cpu_seconds >= self._max_cpu_seconds

    def _num_due(self, env_steps: int, cpu_seconds: float) -> int:
        """Number of evaluations due by these env steps or CPU seconds."""
        if self._max_env_steps is not None:
            due = self._num_evaluations * env_steps // self._max_env_steps
        else:
            assert self._max_cpu_seconds is not None
            due = int(self._num_evaluations * cpu_seconds / self._max_cpu_seconds)
        return min(due, self._num_evaluations)

    def _num_judged(self, row: Row) -> int:
        """Number of evaluations that were due at the latest one."""
        return self._num_due(row.curve[-1][0], row.curve_cpu_seconds[-1]) if row.curve else 0

    def _judged(self, row: Row, *, is_last: bool) -> Row:
        started, learner = time.monotonic(), self._engine.learner
        scored = learner.num_episodes - 1
        evaluation = self._engine.judge(
            num_episodes=learner.num_reported_episodes if is_last else learner.num_episodes,
            mode=Mode.USED,
            draw=0,
        )
        means = evaluation.mean_returns()
        if not math.isfinite(means[scored]):
            raise DivergedError(f"the return on held-out tasks is {means[scored]}")
        without = means[0]
        if not learner.knows_nothing_at_first:
            off = self._engine.judge(num_episodes=scored + 1, mode=Mode.OFF, draw=0)
            without = off.mean_returns()[scored]
        if not math.isfinite(without):
            raise DivergedError(f"the return without adaptation is {without}")
        return replace(
            row,
            seconds=row.seconds + time.monotonic() - started,
            curve=(*row.curve, (row.env_steps, without, means[scored])),
            curve_cpu_seconds=(*row.curve_cpu_seconds, row.train_cpu_seconds),
            score=means[scored],
            interval=evaluation.interval(scored),
            returns={str(k): value for k, value in means.items() if math.isfinite(value)},
        )

    def _restore(self) -> bool:
        """Resume from the checkpoint; return whether there was a usable one."""
        try:
            saved = Checkpoint.load(self.path)
            progress = self._checked_progress(saved)
            self._engine.load(saved.tensors, progress["iterations"], self.experience)
        except FileNotFoundError:
            return False
        except CheckpointError:
            # The damaged files are kept for inspection; the run restarts.
            for kept, name in ((self.path, ".damaged"), (self.experience, ".damaged-replay")):
                if kept.exists():
                    target = kept.with_suffix(name)
                    shutil.rmtree(target, ignore_errors=True)
                    kept.replace(target)
            return False
        progress["curve"] = tuple(tuple(point) for point in progress["curve"])
        progress["curve_cpu_seconds"] = tuple(progress["curve_cpu_seconds"])
        progress["interval"] = progress["interval"] and tuple(progress["interval"])
        self.row = replace(self.row, **progress)
        return True

    def _checked_progress(self, saved: Checkpoint) -> dict[str, Any]:
        """Check that the engine can load the checkpoint; return the progress to resume from."""
        wanted = self._engine.tensors()
        held = {name: value for name, value in saved.tensors.items() if name in wanted}
        check_tensors(self.path, held, wanted)
        names = (*_COUNTERS, *_JUDGEMENT)
        check_progress(self.path, saved.progress, names)
        return {name: saved.progress[name] for name in names}


def check_budget(
    max_env_steps: int | None, max_cpu_seconds: float | None, num_evaluations: int
) -> None:
    """Check the budget of a run.

    Raises:
        ValueError: If not exactly one of the two budgets is given, or a number is not positive.
    """
    if (max_env_steps is None) == (max_cpu_seconds is None):
        raise ValueError(
            "a budget must be in env steps or in CPU seconds, but got "
            f"{max_env_steps=}, {max_cpu_seconds=}; give exactly one of them"
        )
    if (max_env_steps is not None and max_env_steps < 1) or num_evaluations < 1:
        raise ValueError(
            "`max_env_steps` and `num_evaluations` must be at least 1, but got "
            f"{max_env_steps} and {num_evaluations}"
        )
    if max_cpu_seconds is not None and not 0.0 < max_cpu_seconds < math.inf:
        raise ValueError(
            f"`max_cpu_seconds` must be positive and finite, but got {max_cpu_seconds}"
        )


_COUNTERS = ("env_steps", "iterations", "seconds", "train_cpu_seconds")
_JUDGEMENT = ("curve", "curve_cpu_seconds", "score", "interval", "returns")
