"""One trial as Ray Tune runs it: the runs of a point, side by side, and their reports.

The training itself is ``ssmrl.run.TrainingRun``, which resumes where a killed process stopped.
"""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from ray import tune

from cluster.metrics import RunMetrics, RunName
from ssmrl.config import TrainConfig
from ssmrl.device import checked_device
from ssmrl.device_memory import DeviceMemoryError, release
from ssmrl.meta.algorithms import get_algorithm
from ssmrl.run import NUM_EVALUATIONS, Engine, LocalEngine, Row, TrainingRun
from ssmrl.stacked_runs import StackedRuns
from tuning.experience_memory import available_bytes
from tuning.memory_use import forget_peak, peak_bytes
from tuning.pulse import Pulse
from tuning.seeds_row import SeedsRow
from tuning.trial_memory import too_large


class SeedsTraining:
    """The runs of a trial, which differ only in their seeds, side by side in one process.

    All finish an iteration before any starts the next, so the trial can be judged at every stage.
    They train as one stack if the algorithm supports it and nothing is remote, else one after
    another.

    Args:
        config: Configuration of the first run; the others have the seeds after its seed.
        num_seeds: Number of runs.
        max_env_steps: Budget of each run [env steps].
        folder: Folder of the checkpoints; existing ones are resumed from.
        name: Name of the first run, for Ray's dashboard and for Prometheus; None exports nothing.
        num_env_runners: Remote rollout actors; 0 collects rollouts in this process.
        cpus_per_runner: Share of a CPU that Ray reserves for each of them.
        num_learners: Remote learners; 0 learns in this process.
        num_physics_threads: MuJoCo threads of each runner; 0 means all cores.
        device: Device of the networks, unless they learn in remote learners.
        gpus_per_learner: Share of a GPU that Ray reserves for each RLlib learner.

    Raises:
        DeviceMemoryError: If the device has no room.
        ValueError: If there is no such device.
    """

    def __init__(
        self,
        config: TrainConfig,
        num_seeds: int = 1,
        *,
        max_env_steps: int,
        folder: Path,
        name: RunName | None = None,
        num_env_runners: int = 0,
        cpus_per_runner: float = 1.0,
        num_learners: int = 0,
        num_physics_threads: int = 1,
        device: str = "cpu",
        gpus_per_learner: float = 0.0,
    ) -> None:
        self._seeds = tuple(range(config.seed, config.seed + num_seeds))
        self._max_env_steps = max_env_steps
        names = [None if name is None else replace(name, seed=seed) for seed in self._seeds]
        configs = [config.with_knobs({"seed": seed}) for seed in self._seeds]
        resources = Resources(
            num_env_runners,
            cpus_per_runner,
            num_learners,
            num_physics_threads,
            device,
            gpus_per_learner,
        )
        self._runs: StackedRuns | _RunsApart
        if _is_stacked(config, num_seeds, resources):
            self._runs = StackedRuns(
                configs,
                max_env_steps=max_env_steps,
                folders=[folder] * num_seeds,
                num_threads=num_physics_threads,
                device=checked_device(device),
            )
        else:
            self._runs = _RunsApart(
                [
                    _run(config, own_name, max_env_steps, folder, resources)
                    for config, own_name in zip(configs, names, strict=True)
                ]
            )
        self._exporters = [
            None if own_name is None else _Exporter(own_name, run.row)
            for own_name, run in zip(names, self._runs.runs, strict=True)
        ]

    def advance(self) -> SeedsRow:
        """One iteration of every run that is not finished; in a stack, runs that are ahead wait.

        Raises:
            DeviceMemoryError: If the device has no room; then call ``abandon``.
        """
        before = [run.row for run in self._runs.runs]
        self._runs.advance()
        rows = [run.row for run in self._runs.runs]
        for row, earlier, exporter in zip(rows, before, self._exporters, strict=True):
            if exporter is not None and row is not earlier:
                exporter.tell(row)
        return SeedsRow.of(rows, self._seeds, self._max_env_steps, NUM_EVALUATIONS)

    def close(self) -> None:
        """Save all runs, and release actors and memory."""
        self._runs.close()

    def abandon(self) -> None:
        """Release actors and memory; the last checkpoints stay."""
        self._runs.abandon()


class _RunsApart:
    """Runs that take turns, an iteration each."""

    def __init__(self, runs: list[TrainingRun]) -> None:
        self.runs = runs

    def advance(self) -> None:
        for run in self.runs:
            if not run.row.finished:
                run.advance()

    def close(self) -> None:
        for run in self.runs:
            run.close()

    def abandon(self) -> None:
        for run in self.runs:
            run.abandon()


class Resources(NamedTuple):
    """Resources of a run, as ``SeedsTraining`` receives them."""

    num_env_runners: int = 0
    cpus_per_runner: float = 1.0
    num_learners: int = 0
    num_physics_threads: int = 1
    device: str = "cpu"
    gpus_per_learner: float = 0.0


def _is_stacked(config: TrainConfig, num_seeds: int, resources: Resources) -> bool:
    if num_seeds == 1 or resources.num_env_runners or resources.num_learners:
        return False
    return get_algorithm(config.algorithm).can_stack(config)


def _run(
    config: TrainConfig,
    name: RunName | None,
    max_env_steps: int,
    folder: Path,
    resources: Resources,
) -> TrainingRun:
    engine = _engine(config, "" if name is None else str(name), resources)
    return TrainingRun(config, max_env_steps=max_env_steps, folder=folder, engine=engine)


def _engine(config: TrainConfig, run_name: str, resources: Resources) -> Engine:
    """The engine in this process unless actors are requested: RLlib's takes seconds to build."""
    if not resources.num_env_runners and not resources.num_learners:
        device = checked_device(resources.device)
        return LocalEngine(config, resources.num_physics_threads, device=device)
    shares = resources._asdict()
    del shares["device"]
    engine: Engine = import_module("cluster.engine").rllib_engine(
        config, run_name=run_name, **shares
    )
    return engine


class _Exporter:
    """Exports the metrics of a run to Prometheus, from now on."""

    def __init__(self, name: RunName, start: Row) -> None:
        self._metrics, self._start, self._last = RunMetrics(name), start, start

    def tell(self, row: Row) -> None:
        last, self._last = self._last, row
        if (metrics := row.metrics) is None:
            return
        training = metrics.sample_seconds + metrics.update_seconds
        rest = max(0.0, row.seconds - last.seconds - training)
        was_judged = len(row.curve) > len(last.curve)
        self._metrics.iteration(
            {
                "num_env_steps_sampled_lifetime": row.env_steps - self._start.env_steps,
                "return_before": metrics.return_before,
                "return_after": metrics.return_after,
                "sample_seconds": metrics.sample_seconds,
                "update_seconds": metrics.update_seconds,
                "statistics": metrics.statistics,
            },
            training_seconds=training + (0.0 if was_judged else rest),
            evaluating_seconds=rest if was_judged else 0.0,
        )


class MetaTraining(tune.Trainable):
    """``SeedsTraining`` as a trainable of Tune, whose configuration is the point.

    A trial that does not fit the memory or the device ends at once, with the reason. For Tune it is
    done: an error would be retried.

    Tune's own checkpoints stay empty: a restarted trial finds its state by its fingerprint.

    One actor trains several trials, one after another. Ray asks for its name only once, after the
    first ``setup``; its log and the metrics say which trial it trains now.
    """

    _training: SeedsTraining | None
    _row: SeedsRow
    _unable: Exception | None = None  # why the trial could not start

    def __repr__(self) -> str:
        """The name in Ray's dashboard: the sweep, and the first trial of the actor."""
        return f"{self._sweep}/{self.trial_name}, then others"

    def setup(self, config: dict[str, Any], **settings: Any) -> None:
        """Start a trial.

        Args:
            config: The searched knobs.
            settings: ``sweep``, the name of the sweep; ``base``, the configuration that the point
                changes; ``pulses``, the folder of pulse files, if any; and arguments of
                ``SeedsTraining``.
        """
        self._sweep: str = settings.pop("sweep")
        self._pulses: Path | None = settings.pop("pulses", None)
        self._pulse: Pulse | None = None
        self._settings = {"device": "cpu"} | settings
        self._begin(config)

    def step(self) -> dict[str, Any]:
        """One iteration; done when the budget is spent, training diverged, or memory ran out."""
        if self._unable is not None:
            raise self._unable
        if self._training is not None:
            try:
                self._row = self._training.advance()
            except DeviceMemoryError as error:
                self._row = replace(self._row, out_of_memory=True, reason=str(error))
        if self._row.out_of_memory:
            self._give_up()
        row = self._row
        is_over = row.finished or row.diverged or row.out_of_memory
        return row.to_result() | {"done": is_over, "peak_bytes": peak_bytes()}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start another trial in the same process, which saves its start-up time.

        An error here is raised by the first ``step`` instead: Tune never retries a trial that fails
        here, but restarts one that fails there in a new process.
        """
        self._unable = None
        try:
            self.cleanup()
            self._begin(new_config)
        except Exception as error:
            self._unable = error
        return True

    def cleanup(self) -> None:
        """End the trial, and free the device for the next one."""
        if self._training is not None:
            self._training.close()
            self._training = None
        if self._pulse is not None:
            self._pulse.close()
            self._pulse = None
        release(torch.device(self._settings["device"]))

    def _give_up(self) -> None:
        if self._training is not None:
            self._training.abandon()
            self._training = None

    def _begin(self, point: dict[str, Any]) -> None:
        arguments = dict(self._settings)
        base: TrainConfig = arguments.pop("base")
        config = base.with_knobs(point)
        name = RunName(self._sweep, self.trial_name, config.seed)
        print(f"trial {name.trial} of {name.sweep} begins", flush=True)  # in the actor's log
        self._training = None
        self._row = SeedsRow(received=config.knobs())
        forget_peak()
        if self._pulses is not None:
            self._pulse = Pulse(self._pulses / name.trial)
        learns_here = arguments["device"] == "cpu" and not arguments.get("num_learners")
        available = available_bytes() if learns_here else None
        if reason := too_large(config, arguments.get("num_seeds", 1), available):
            self._row = replace(self._row, out_of_memory=True, reason=reason)
            return
        try:
            self._training = SeedsTraining(config, name=name, **arguments)
        except DeviceMemoryError as error:
            self._row = replace(self._row, out_of_memory=True, reason=str(error))

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save nothing: the trial keeps its own checkpoint."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Load nothing: ``setup`` has resumed from the trial's own checkpoint."""
