"""A resumable training run: from a configuration to rows; the only driver, used by all rooms."""

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
    """What a run has come to.

    Attributes:
        env_steps: Of training [env steps].
        iterations: Of training.
        seconds: Of training and evaluating [s].
        train_cpu_seconds: That this process computed for training, evaluations apart [CPU s].
        finished: Whether the budget is spent.
        diverged: Whether a number was not finite; nothing is trained any more.
        reason: Why it diverged.
        received: The knobs that training received.
        curve: At each evaluation the env steps so far, the return without adaptation and with it.
        curve_cpu_seconds: At each evaluation ``train_cpu_seconds`` so far [CPU s].
        score: Return with adaptation at the last evaluation; None before the first one.
        interval: 95 % interval of the score over tasks, low and high.
        returns: Mean return by the number of episodes that were played with the task before.
        metrics: Of the iteration that was just made, if one was.
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
    """Where a run's work is done: in this process, or on a cluster."""

    learner: Learner

    def iterate(self) -> Metrics:
        """One iteration of training."""
        ...

    def judge(self, *, num_episodes: int, mode: Mode, draw: int) -> Evaluation:
        """Play held-out tasks."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Weights and optimiser state."""
        ...

    def load(self, tensors: Mapping[str, Tensor], iteration: int, folder: Path) -> None:
        """Go on from a checkpoint."""
        ...

    def stop(self) -> None:
        """Give back actors and memory."""
        ...


class LocalEngine:
    """Trains in this process.

    Args:
        config: What is trained.
        num_threads: Threads of the physics; 0 means all cores. The result does not depend on it.
        collect: Plays; by default in this process too.
        device: Where networks learn; policies act beside the physics, on the CPU.
        learner: The algorithm at work, if it is there already.

    Attributes:
        learner: The algorithm at work.

    Raises:
        DeviceMemoryError: If the device has no room for what learns.
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
        """One iteration of training."""
        return self.learner.iterate(self._collect)

    def judge(self, *, num_episodes: int, mode: Mode, draw: int) -> Evaluation:
        """Play held-out tasks with the present weights."""
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
        """Go on from a checkpoint."""
        self.learner.load(tensors, iteration, folder)

    def stop(self) -> None:
        """Nothing is held outside of this process."""


def fingerprint(config: TrainConfig) -> str:
    """A short name that equal configurations share and different ones do not."""
    return hashlib.sha256(config.to_json().encode()).hexdigest()[:16]


def checkpoint_path(folder: Path, config: TrainConfig) -> Path:
    """Where the state of training this configuration is kept."""
    return folder / f"{fingerprint(config)}.safetensors"


class TrainingRun:
    """Trains one configuration, an iteration at a time, with its evaluations.

    The budget is of env steps or of CPU seconds; the iteration that passes it is the last one. The
    evaluations take place at equal shares of it, always on the same held-out tasks; the last one
    is the score. Neither their env steps nor their seconds are counted against it. The state is
    one checkpoint, named by the configuration's fingerprint, so whoever trains that
    configuration next goes on where the last one stopped.

    Args:
        config: What to train.
        max_env_steps: The budget [env steps].
        max_cpu_seconds: The budget in its place [CPU s]: what is learnt in it depends on the
            machine.
        folder: Where checkpoints are kept; an existing one is gone on from.
        engine: Where the work is done; by default in this process.
        num_threads: Threads of the physics, for the default engine.
        num_evaluations: How many.
        start: Networks to begin with where there is no checkpoint to go on from; without, they are
            those of the seed.

    Raises:
        DeviceMemoryError: If the device has no room for what is gone on from.
        CheckpointError: If the networks to begin with are others than the configuration's.
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
        """Where what was played is kept, if it is learnt from again."""
        return self.path.with_suffix(".replay")

    def advance(self) -> Row:
        """One iteration, and an evaluation where one is due.

        Raises:
            DeviceMemoryError: If the device has no room; to be given up by ``abandon``.
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
        """Keep the state: first what was played, then the checkpoint that needs it."""
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
        """Save, and give back actors and memory."""
        self.save()
        self._engine.stop()

    def abandon(self) -> None:
        """Give back actors and memory; the last checkpoint stays what there is to go on from."""
        self._engine.stop()

    def policy(self) -> Checkpoint:
        """What acting needs, alone: neither optimisers nor experience."""
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
        """Evaluations that are due after so much of either."""
        if self._max_env_steps is not None:
            due = self._num_evaluations * env_steps // self._max_env_steps
        else:
            assert self._max_cpu_seconds is not None
            due = int(self._num_evaluations * cpu_seconds / self._max_cpu_seconds)
        return min(due, self._num_evaluations)

    def _num_judged(self, row: Row) -> int:
        """Evaluations that were due at the last one."""
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
        """Go on from the checkpoint; whether there is one that can be gone on from."""
        try:
            saved = Checkpoint.load(self.path)
            progress = self._checked_progress(saved)
            self._engine.load(saved.tensors, progress["iterations"], self.experience)
        except FileNotFoundError:
            return False
        except CheckpointError:
            # Kept for whoever wants to know; the run starts anew.
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
        """What to go on with, of a checkpoint that this version of the engine can load."""
        wanted = self._engine.tensors()
        held = {name: value for name, value in saved.tensors.items() if name in wanted}
        check_tensors(self.path, held, wanted)
        names = (*_COUNTERS, *_JUDGEMENT)
        check_progress(self.path, saved.progress, names)
        return {name: saved.progress[name] for name in names}


def check_budget(
    max_env_steps: int | None, max_cpu_seconds: float | None, num_evaluations: int
) -> None:
    """Refuse what is no budget of a run.

    Raises:
        ValueError: If there is not exactly one of the two, or a number is not positive.
    """
    if (max_env_steps is None) == (max_cpu_seconds is None):
        raise ValueError(
            "a budget must be of env steps or of CPU seconds, but got "
            f"{max_env_steps=}, {max_cpu_seconds=}; give one of them"
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
