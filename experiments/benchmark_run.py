"""One run of the serious benchmark: one method with one seed, trained, tested and saved."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from experiments.benchmark_result import REPORTED_STEPS, TEST_DRAW, BenchmarkResult
from experiments.benchmarks.curves import CurveRow
from experiments.benchmarks.learning_run import LearningRun
from ssmrl.checkpoint import Checkpoint
from ssmrl.config import TrainConfig
from ssmrl.device import CPU
from ssmrl.meta.diverged import DivergedError
from ssmrl.meta.initial_actor import saved_actor
from ssmrl.models.actor import GaussianActor
from ssmrl.models.presets import num_parameters
from ssmrl.run import checkpoint_path
from ssmrl.train import evaluate


class BenchmarkRun:
    """Meta-trains a configuration, tests it on held-out tasks, and writes its result.

    The training writes checkpoints, and resumes from them on any device.

    Args:
        config: Configuration to train; its seed is the run's.
        num_iterations: Meta-iterations.
        preset: Name of the policy's size; None if its width was given.
        device: Device of the meta-updates.
        folder: Folder of results, curves and checkpoints.
        num_threads: Threads of the physics; 0 means all cores.

    Attributes:
        name: Name of the run in messages.
        folder: Folder of results, curves and checkpoints.
        result_path: Path of the result.
        curve_path: Path of the curve.
        needs_ray: Whether RLlib does the training.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        num_iterations: int,
        preset: str | None,
        device: torch.device,
        folder: Path,
        num_threads: int = 0,
    ) -> None:
        label = f"{config.env.task}-{config.policy.method}-seed{config.seed}"
        self.name = f"{config.policy.method}, seed {config.seed}"
        self.folder = folder
        self.result_path = folder / f"result-{label}.json"
        self.curve_path = folder / f"curve-{label}.csv"
        self.needs_ray = device == CPU
        self._config = config
        self._num_iterations = num_iterations
        self._preset = preset
        self._device = device
        self._num_threads = num_threads
        self._checkpoint = checkpoint_path(folder / "checkpoints", config)

    def earlier_result(self, *, resume: bool) -> BenchmarkResult | None:
        """Result of an earlier command; None if the run is not finished.

        Raises:
            FileExistsError: If files of an earlier command would be overwritten, or were made with
                other settings or more iterations.
            CheckpointError: If the checkpoint is damaged.
            ResultError: If the result is damaged.
        """
        files = (self.result_path, self.curve_path, self._checkpoint)
        left = [path for path in files if path.exists()]
        if left and not resume:
            raise FileExistsError(
                f"there is {left[0]} already; resume it with `--resume`, or choose another "
                "`--output-dir`"
            )
        num_done = 0
        if self.result_path in left:
            earlier = BenchmarkResult.load(self.result_path)
            self._check_same(earlier)
            num_done = earlier.num_iterations
            if num_done == self._num_iterations:
                return earlier
        num_done = max(num_done, len(self._restored().rows))
        if num_done > self._num_iterations:
            raise FileExistsError(
                f"{self.name} has {num_done} iterations in {self.folder}, but `--epochs` is "
                f"{self._num_iterations}; raise it, or choose another `--output-dir`"
            )
        return None

    def train_and_test(
        self, asked: Sequence[int], say: Callable[[str], None]
    ) -> BenchmarkResult | None:
        """Train and test, from where an earlier command stopped.

        Args:
            asked: Stop requests; empty until there is one.
            say: Receives a line for each iteration.

        Returns:
            The result, which is also saved; None if a stop was requested before the training ended.

        Raises:
            DivergedError: If a meta-gradient or a return on held-out tasks is not finite.
            DeviceMemoryError: If the device runs out of memory.
            BlockingIOError: If another process trains this run.
        """

        def report(number: int, row: CurveRow) -> bool:
            say(
                f"{self.name}: iteration {number}/{self._num_iterations}, "
                f"{row['env_steps']:,.0f} env steps, {row['seconds']:.2f} s, "
                f"return {row['return_before']:.2f} -> {row['return_after']:.2f}"
            )
            return not asked

        actor, rows = self._train(report)
        if len(rows) < self._num_iterations:
            return None
        say(f"{self.name}: testing")
        result = BenchmarkResult(
            config=self._config,
            preset=self._preset,
            device=str(self._device),
            num_parameters=num_parameters(actor),
            curve=tuple(rows),
            task_returns=self._tested(actor),
        )
        result.save(self.result_path)
        return result

    def _train(
        self, report: Callable[[int, CurveRow], bool]
    ) -> tuple[GaussianActor, list[CurveRow]]:
        """Train from the last checkpoint to the budget, while ``report`` returns True."""
        run = self._restored()
        meta = self._config.meta
        lanes = meta.num_tasks * meta.num_episodes * (meta.num_inner_steps + 1)
        budget = self._num_iterations * lanes * self._config.env.horizon
        if run.env_steps < budget:
            with run.started():
                wanted = True
                while wanted and run.env_steps < budget:
                    row = run.advance(budget)
                    wanted = report(len(run.rows), row)
                run.save()
        return saved_actor(Checkpoint.load(self._checkpoint)), run.rows

    def _tested(self, actor: GaussianActor) -> dict[int, tuple[float, ...]]:
        """The return on each held-out task by number of adaptation steps."""
        evaluation = evaluate(
            self._config,
            actor,
            num_steps=max(REPORTED_STEPS),
            draw=TEST_DRAW,
            num_threads=self._num_threads,
        )
        means = evaluation.mean_returns()
        for num_steps in REPORTED_STEPS:
            if not math.isfinite(means[num_steps]):
                raise DivergedError(
                    f"the return on held-out tasks is {means[num_steps]} after {num_steps} "
                    "adaptation steps; lower `meta.inner_lr`"
                )
        return {k: tuple(evaluation.task_returns[k].tolist()) for k in REPORTED_STEPS}

    def _restored(self) -> LearningRun:
        """The training, restored from its checkpoint."""
        if self.curve_path.exists() and not self._checkpoint.exists():
            raise FileExistsError(
                f"{self.curve_path} was made with other settings, or its checkpoint is lost; "
                "choose another `--output-dir`"
            )
        run = LearningRun(
            self._config,
            curve=self.curve_path,
            checkpoints=self._checkpoint.parent,
            shuffled_rewards=False,
            num_threads=self._num_threads,
            device=self._device,
        )
        run.restore()
        return run

    def _check_same(self, earlier: BenchmarkResult) -> None:
        before = {"preset": earlier.preset, **earlier.config.knobs()}
        now = {"preset": self._preset, **self._config.knobs()}
        differences = [
            f"{name} {value!r} instead of {now[name]!r}"
            for name, value in before.items()
            if value != now[name]
        ]
        if differences:
            raise FileExistsError(
                f"{self.result_path} was made with {', '.join(differences)}; give the same "
                "settings again, or choose another `--output-dir`"
            )
