"""One trial: trains a configuration to its budget, is judged on the way, and survives its worker.

A run's state is one checkpoint file, named by the configuration's fingerprint, so whoever
trains that configuration next goes on where the last one stopped.
"""

import hashlib
import math
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from ray import tune

from cluster.algorithm import MAML, MAMLConfig, held_out
from cluster.metrics import RunMetrics, RunName
from ssmrl.checkpoint import Checkpoint, CheckpointError
from ssmrl.config import TrainConfig
from ssmrl.meta.diverged import DivergedError
from ssmrl.meta.settings import GradientSettings
from ssmrl.rollout.evaluate import REPORTED_STEPS

NUM_EVALUATIONS = 4
_SECONDS_BETWEEN_CHECKPOINTS = 10.0


def fingerprint(config: TrainConfig) -> str:
    """A short name that equal configurations share and different ones do not."""
    return hashlib.sha256(config.to_json().encode()).hexdigest()[:16]


def checkpoint_path(folder: Path, config: TrainConfig) -> Path:
    """Where the state of training this configuration is kept."""
    return folder / f"{fingerprint(config)}.safetensors"


class TrialTraining:
    """Meta-trains one configuration, an iteration at a time, with its evaluations.

    The evaluations take place at equal shares of the budget, always on the same held-out tasks;
    the last one is the score. Their env steps are not counted against the budget.

    Args:
        config: What to train.
        max_env_steps: The budget [env steps].
        folder: Where checkpoints are kept; an existing one is gone on from.
        num_env_runners: Remote rollout actors; 0 samples in this process.
        num_learners: Remote learners; 0 makes the meta-updates in this process.
        num_physics_threads: MuJoCo's threads in each runner.
        name: Of the run, for Ray's dashboard and for Prometheus; without one it exports nothing.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        max_env_steps: int,
        folder: Path,
        num_env_runners: int = 0,
        num_learners: int = 0,
        num_physics_threads: int = 1,
        name: RunName | None = None,
    ) -> None:
        self._config = config
        self._max_env_steps = max_env_steps
        self._path = checkpoint_path(folder, config)
        settings = MAMLConfig().training(
            train_config=config, num_physics_threads=num_physics_threads
        )
        settings.run_name = "" if name is None else str(name)
        self._metrics = None if name is None else RunMetrics(name)
        self._algorithm: MAML = (
            settings.env_runners(num_env_runners=num_env_runners)
            .learners(num_learners=num_learners)
            .build_algo()
        )
        self._progress: dict[str, Any] = {"iteration": 0, "seconds": 0.0, "curve": []}
        self._saved = time.monotonic()
        self._restore()

    def advance(self) -> dict[str, Any]:
        """One meta-iteration, and an evaluation where one is due.

        Returns:
            What the trial has come to: ``env_steps``, ``iterations``, ``seconds``, ``finished``,
            ``diverged``, ``reason``, ``config`` (the knobs that training received), ``curve``,
            and, from the first evaluation on, ``score``, ``interval`` and ``returns``.
        """
        started = trained = time.monotonic()
        progress = self._progress
        results = None
        try:
            if self._env_steps() < self._max_env_steps:
                results = self._algorithm.train()["env_runners"]
                progress["iteration"] += 1
                trained = time.monotonic()
            due = min(NUM_EVALUATIONS * self._env_steps() // self._max_env_steps, NUM_EVALUATIONS)
            if due > self._num_evaluations():
                self._evaluate()
        except DivergedError as error:
            return self._result() | {"diverged": True, "reason": str(error)}
        ended = time.monotonic()
        progress["seconds"] += ended - started
        if self._metrics is not None and results is not None:
            self._metrics.iteration(
                results, training_seconds=trained - started, evaluating_seconds=ended - trained
            )
        if due == NUM_EVALUATIONS or self._is_save_due():
            self._save()
        return self._result()

    def close(self) -> None:
        """Save, and give back actors and memory."""
        self._save()
        self._algorithm.stop()

    def _env_steps(self) -> int:
        meta: GradientSettings = self._config.meta
        lanes = meta.num_tasks * meta.num_episodes * (meta.num_inner_steps + 1)
        return int(self._progress["iteration"]) * lanes * self._config.env.horizon

    def _num_evaluations(self) -> int:
        """Shares of the budget at whose end there was an evaluation."""
        curve = self._progress["curve"]
        return NUM_EVALUATIONS * curve[-1][0] // self._max_env_steps if curve else 0

    def _evaluate(self) -> None:
        num_steps = self._config.meta.num_inner_steps
        is_last = self._env_steps() >= self._max_env_steps
        evaluation = held_out(
            self._algorithm, num_steps=max(*REPORTED_STEPS, num_steps) if is_last else num_steps
        )
        means = evaluation.mean_returns()
        if not math.isfinite(means[num_steps]):
            raise DivergedError(f"the return on held-out tasks is {means[num_steps]}")
        self._progress["curve"].append([self._env_steps(), means[0], means[num_steps]])
        self._progress["score"] = means[num_steps]
        self._progress["interval"] = list(evaluation.interval(num_steps))
        self._progress["returns"] = {str(k): value for k, value in means.items()}

    def _result(self) -> dict[str, Any]:
        env_steps = self._env_steps()
        return {
            **self._progress,
            "iterations": self._progress["iteration"],
            "env_steps": env_steps,
            "finished": env_steps >= self._max_env_steps,
            "diverged": False,
            "reason": "",
            "received": self._algorithm.config.train_config.knobs(),
        }

    def _is_save_due(self) -> bool:
        return time.monotonic() - self._saved > _SECONDS_BETWEEN_CHECKPOINTS

    def _save(self) -> None:
        Checkpoint(self._config, self._algorithm.tensors(), self._progress).save(self._path)
        self._saved = time.monotonic()

    def _restore(self) -> None:
        try:
            saved = Checkpoint.load(self._path)
        except FileNotFoundError:
            return
        except CheckpointError:
            # Kept for whoever wants to know; the trial starts anew.
            self._path.replace(self._path.with_suffix(".damaged"))
            return
        self._progress = dict(saved.progress)
        self._algorithm.load_tensors(saved.tensors, int(self._progress["iteration"]))


class SeedsTraining:
    """The runs of a trial, which differ in their seeds alone, side by side in one process.

    All make an iteration before any makes the next, so the trial can be judged at every stage.

    Args:
        config: The first run's; the others have the seeds after its.
        num_seeds: How many runs.
        name: Of the first run; the others differ in their seeds.
        settings: What ``TrialTraining`` takes besides.
    """

    def __init__(
        self,
        config: TrainConfig,
        num_seeds: int = 1,
        *,
        name: RunName | None = None,
        **settings: Any,
    ) -> None:
        self._seeds = tuple(range(config.seed, config.seed + num_seeds))
        named: dict[int, dict[str, Any]] = {
            seed: {} if name is None else {"name": replace(name, seed=seed)} for seed in self._seeds
        }
        self._runs = [
            TrialTraining(config.with_knobs({"seed": seed}), **named[seed], **settings)
            for seed in self._seeds
        ]
        self._results: list[dict[str, Any]] = [{"finished": False} for _ in self._runs]

    def advance(self) -> dict[str, Any]:
        """One meta-iteration of every run that is not at its end.

        Returns:
            What ``TrialTraining.advance`` tells, means over the runs; ``seconds`` of all together,
            ``env_steps`` of one and ``all_env_steps`` of all; ``seeds``, and ``seed_scores`` beside
            ``score``. The interval over tasks is left out where there are several runs.
        """
        for index, run in enumerate(self._runs):
            if not self._results[index]["finished"]:
                self._results[index] = run.advance()
        results = self._results
        joined = results[0] | {
            "seeds": list(self._seeds),
            "seconds": sum(result["seconds"] for result in results),
            "env_steps": min(result["env_steps"] for result in results),
            "all_env_steps": sum(result["env_steps"] for result in results),
            "finished": all(result["finished"] for result in results),
        }
        for seed, result in zip(self._seeds, results, strict=True):
            if result["diverged"]:
                return joined | {"diverged": True, "reason": f"seed {seed}: {result['reason']}"}
        # A run that a killed worker left further than the others waits for them.
        num_judged = min(len(result["curve"]) for result in results)
        joined["curve"] = [
            [points[0][0], *(fmean(column) for column in list(zip(*points, strict=True))[1:])]
            for points in zip(*(result["curve"][:num_judged] for result in results), strict=True)
        ]
        if num_judged == 0:
            return {name: joined[name] for name in joined if name not in _JUDGEMENT}
        scores = [result["curve"][num_judged - 1][2] for result in results]
        joined |= {"score": fmean(scores), "seed_scores": scores}
        if len(results) > 1:
            joined["interval"] = None
            joined["returns"] = {
                steps: fmean(result["returns"][steps] for result in results)
                for steps in results[0]["returns"]
                if all(steps in result["returns"] for result in results)
            }
        return joined

    def close(self) -> None:
        """Save all runs, and give back actors and memory."""
        for run in self._runs:
            run.close()


_JUDGEMENT = ("score", "interval", "returns")


class MetaTraining(tune.Trainable):
    """``SeedsTraining`` as Tune sees it: the point comes in as Tune's configuration.

    Tune's own checkpoints stay empty: a restarted trial finds its state by its fingerprint.

    One actor trains several trials, one after another. Ray asks it only once, after its first
    ``setup``, what it is called; which trial it trains now is in its log and in the metrics.
    """

    def __repr__(self) -> str:
        """The name in Ray's dashboard: the sweep, and with which trial the actor began."""
        return f"{self._sweep}/{self.trial_name}, then others"

    def setup(self, config: dict[str, Any], **settings: Any) -> None:
        """Start a trial.

        Args:
            config: The searched knobs.
            settings: ``sweep``, the name of the sweep, ``base``, the configuration that the point
                changes, and what ``SeedsTraining`` takes.
        """
        self._sweep: str = settings.pop("sweep")
        self._settings = settings
        self._begin(config)

    def step(self) -> dict[str, Any]:
        """One meta-iteration; done when the budget is spent or training diverged."""
        result = self._training.advance()
        return result | {"done": result["finished"] or result["diverged"]}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take over another trial in the same process, which saves its start-up time."""
        self._training.close()
        self._begin(new_config)
        return True

    def cleanup(self) -> None:
        """End the trial."""
        self._training.close()

    def _begin(self, point: dict[str, Any]) -> None:
        arguments = dict(self._settings)
        base: TrainConfig = arguments.pop("base")
        config = base.with_knobs(point)
        name = RunName(self._sweep, self.trial_name, config.seed)
        print(f"trial {name.trial} of {name.sweep} begins", flush=True)  # in the actor's log
        self._training = SeedsTraining(config, name=name, **arguments)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to add to the trial's own file."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing: ``setup`` has gone on from the trial's own file."""
