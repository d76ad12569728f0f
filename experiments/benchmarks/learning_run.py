"""Training of one seed, which can be resumed from its checkpoint; not the command line."""

import fcntl
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from cluster.algorithm import MAML, MAMLConfig
from cluster.learner import MetaBatch
from experiments.benchmarks.curves import CurveRow, curve_text
from experiments.benchmarks.shuffled_rewards import collect_adapting_on_shuffled, held_out_returns
from ssmrl.checkpoint import Checkpoint, check_progress
from ssmrl.config import TrainConfig
from ssmrl.device import CPU
from ssmrl.device_memory import device_memory
from ssmrl.files import replace_file
from ssmrl.meta.initial_actor import initial_actor
from ssmrl.rollout.assignment import train_assignment
from ssmrl.rollout.worker import RolloutWorker
from ssmrl.run import LocalEngine, checkpoint_path

EVALUATE_EVERY = 10
"""Iterations between two evaluations; the last iteration always has one."""
FIRST_HELD_OUT_DRAW = 1
"""Draw of the first evaluation's held-out tasks; each later one has its own, searches use 0.

With one shared draw, the chance effect of an adaptation step on its tasks would look like a gain,
or a loss, as long as the policy changes little.
"""
SECONDS_BETWEEN_CHECKPOINTS = 60.0


class LearningRun:
    """Training of one seed, which can be resumed from its checkpoint.

    Args:
        config: Configuration to train.
        curve: CSV of the curve, replaced atomically after each iteration.
        checkpoints: Folder of the checkpoint, whose name comes from the configuration.
        shuffled_rewards: Whether to adapt on shuffled rewards in training, too.
        num_threads: Threads of the physics; 0 means all cores.
        device: Device of the meta-updates; on another one than the CPU, training does without
            RLlib, whose learner would compute the same.

    Raises:
        ValueError: If rewards are to be shuffled on another device than the CPU.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        curve: Path,
        checkpoints: Path,
        shuffled_rewards: bool,
        num_threads: int,
        device: torch.device = CPU,
    ) -> None:
        if shuffled_rewards and device != CPU:
            raise ValueError(f"`device` must be cpu to shuffle rewards, but got {device}")
        self._device = device
        self.config = config
        self.curve = curve
        self.rows: list[CurveRow] = []
        self._checkpoint = checkpoint_path(checkpoints, config)
        self._shuffled_rewards = shuffled_rewards
        self._num_threads = num_threads
        self._saved: Checkpoint | None = None
        self._saved_at = -math.inf

    @property
    def env_steps(self) -> int:
        """Length of the training so far [env steps]."""
        return int(self.rows[-1]["env_steps"]) if self.rows else 0

    def restore(self) -> None:
        """Resume from the checkpoint, if there is one.

        Raises:
            FileExistsError: If there is a curve without a checkpoint: it would be overwritten.
            CheckpointError: If the checkpoint is damaged, or another command wrote it.
        """
        try:
            self._saved = Checkpoint.load(self._checkpoint)
        except FileNotFoundError:
            if self.curve.exists():
                raise FileExistsError(
                    f"there is a curve at {self.curve}, but no checkpoint at {self._checkpoint} "
                    "to resume from; move the curve away or choose another `--output`"
                ) from None
            return
        check_progress(self._checkpoint, self._saved.progress, ("rows",))
        self.rows = list(self._saved.progress["rows"])

    @contextmanager
    def started(self) -> Iterator[None]:
        """Build the algorithm, and lock the run's files against a second process.

        Raises:
            BlockingIOError: If another process trains this configuration.
        """
        self._checkpoint.parent.mkdir(parents=True, exist_ok=True)
        self.curve.parent.mkdir(parents=True, exist_ok=True)
        with self._checkpoint.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._algorithm = self._made()
            self._actor = initial_actor(self.config)
            self._worker = RolloutWorker(self.config.env, self._num_threads)
            if self._saved is not None:
                folder = self._checkpoint.parent  # not read: ProMP keeps no experience
                self._algorithm.load(self._saved.tensors, len(self.rows), folder)
            try:
                yield
            finally:
                self._algorithm.stop()

    def _made(self) -> MAML | LocalEngine:
        if self._device != CPU:
            return LocalEngine(self.config, self._num_threads, device=self._device)
        settings = MAMLConfig().training(
            train_config=self.config, num_physics_threads=self._num_threads
        )
        algorithm: MAML = settings.build_algo()
        return algorithm

    def advance(self, env_steps: int) -> CurveRow:
        """Run one meta-iteration, and an evaluation if one is due.

        Args:
            env_steps: Training budget; the iteration that reaches it is evaluated.

        Returns:
            The new row of the curve.

        Raises:
            DivergedError: If a meta-gradient is not finite.
            DeviceMemoryError: If the device runs out of memory.
        """
        started = time.perf_counter()
        with device_memory(self.config):
            before, after = self._iterate_shuffled() if self._shuffled_rewards else self._iterate()
        meta = self.config.meta
        lanes = meta.num_tasks * meta.num_episodes * (meta.num_inner_steps + 1)
        row: CurveRow = {
            "env_steps": self.env_steps + lanes * self.config.env.horizon,
            "return_before": before,
            "return_after": after,
            "seconds": time.perf_counter() - started,
        }
        self.rows.append(row)
        if len(self.rows) % EVALUATE_EVERY == 0 or row["env_steps"] >= env_steps:
            self._load_actor()
            draw = FIRST_HELD_OUT_DRAW + (len(self.rows) - 1) // EVALUATE_EVERY
            row |= held_out_returns(self.config, self._actor, self._worker, draw)
        # Checkpoint before curve, from the first row on: a curve alone cannot be resumed.
        if time.monotonic() - self._saved_at > SECONDS_BETWEEN_CHECKPOINTS:
            self.save()
        replace_file(self.curve, curve_text(self.rows))
        return row

    def save(self) -> None:
        """Write the checkpoint; call it between two iterations."""
        Checkpoint(self.config, self._algorithm.tensors(), {"rows": self.rows}).save(
            self._checkpoint
        )
        self._saved_at = time.monotonic()

    def _iterate(self) -> tuple[float, float]:
        metrics = self._algorithm.iterate()
        return metrics.return_before, metrics.return_after

    def _iterate_shuffled(self) -> tuple[float, float]:
        """Update the algorithm's own learner with a meta-batch that adapted on shuffled rewards."""
        self._load_actor()
        trajectories, returns = collect_adapting_on_shuffled(
            self.config, self._actor, self._worker, train_assignment(self.config, len(self.rows))
        )
        assert isinstance(self._algorithm, MAML)
        self._algorithm.learner_group.update(
            batch=MetaBatch(tuple(trajectories[:-1]), trajectories[-1]), timesteps={}
        )
        return float(returns[0]), float(returns[-1])

    def _load_actor(self) -> None:
        tensors = self._algorithm.tensors()
        self._actor.load_state_dict(
            {name: tensors[f"actor.{name}"] for name in self._actor.state_dict()}
        )
