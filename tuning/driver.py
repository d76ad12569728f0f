"""Runs the trials of a plan with Ray Tune and keeps one row for each."""

import logging
import os
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Read by Ray when it is imported or starts: its own loggers cost throughput, trials report a
# score only from their first evaluation on, Ctrl-C is ours to handle, and so is the terminal.
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"
os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"

from ray import tune
from ray.tune import FailureConfig, PlacementGroupFactory, RunConfig, TuneConfig

from cluster.metrics import SweepMetrics
from tuning.experience_memory import replay_need
from tuning.placement import Placement
from tuning.plan import SweepPlan
from tuning.progress import Progress
from tuning.round_log import Round
from tuning.rounds import is_confirmation
from tuning.scheduler import make_scheduler, trains_again
from tuning.search import StudySearcher, row_name
from tuning.training import MetaTraining
from tuning.trial import Trial, TrialState, TrialTable

METRIC = "score"


def run_trials(
    plan: SweepPlan,
    this: Round,
    folder: Path,
    table: TrialTable,
    searcher: StudySearcher,
    progress: Progress,
    *,
    time_budget_s: float,
    num_physics_threads: int,
    placement: Placement,
) -> None:
    """Make the trials of a round that the table still lacks; Ray must be running.

    Args:
        plan: What to do.
        this: The round.
        folder: The sweep's.
        table: Gets a row for every trial that ends.
        searcher: Chooses the points.
        progress: Is told what happens.
        time_budget_s: Train no longer than this [s].
        num_physics_threads: MuJoCo's threads in each trial.
        placement: Where trials learn.
    """
    num_made = sum(row.round == this.number for row in table.rows)
    trainable = tune.with_resources(
        tune.with_parameters(
            MetaTraining,
            sweep=folder.name,
            base=plan.base(),
            num_seeds=plan.seeds_per_trial,
            max_env_steps=plan.max_env_steps,
            folder=(folder / "checkpoints").resolve(),  # workers have other working directories
            num_env_runners=plan.num_env_runners,
            num_learners=plan.num_learners,
            num_physics_threads=num_physics_threads,
            # Of RLlib's learners each has its own; the trial's process has one where it learns.
            device="cpu" if plan.num_learners else placement.device_of_trial,
            gpus_per_learner=placement.share,
        ),
        PlacementGroupFactory(bundles(plan, placement)),
    )
    # Tune's wrapper would be what Ray's dashboard shows as the class of the trials' actors.
    trainable.__name__ = trainable.__qualname__ = MetaTraining.__name__
    keeper = RowKeeper(
        this.number,
        table,
        searcher,
        progress,
        SweepMetrics(folder.name),
        time_budget_s=time_budget_s,
        num_rounds=plan.rounds,
    )
    scheduler = "none" if is_confirmation(plan, this) else plan.scheduler
    tuner = tune.Tuner(
        trainable,
        tune_config=TuneConfig(
            search_alg=searcher,
            scheduler=make_scheduler(scheduler, max_steps=plan.max_env_steps),
            num_samples=this.num_trials - num_made,
            max_concurrent_trials=plan.max_concurrent,
            time_budget_s=time_budget_s,
            reuse_actors=True,
            trial_name_creator=RowNames(searcher),
        ),
        run_config=RunConfig(
            name=f"tune-{this.number}-{os.getpid()}",
            storage_path=str((folder / "tune").resolve()),
            callbacks=[keeper],
            failure_config=FailureConfig(max_failures=2),
            verbose=0,
        ),
    )
    # They warn that the loggers, which are off, left no files, and of choices that are meant.
    for name in ("ray.tune", "ray.rllib", "ray._common.deprecation"):
        logging.getLogger(name).setLevel(logging.ERROR)
    tuner.fit()
    keeper.close()


def bundles(plan: SweepPlan, placement: Placement) -> list[dict[str, float]]:
    """What Ray keeps free for a trial: its own process first, which holds what was played.

    Last come RLlib's learners. Each process that learns has the share of a GPU.

    Args:
        plan: What to do.
        placement: Where trials learn.
    """
    kept_free: list[dict[str, float]] = [{"CPU": 1} for _ in range(plan.cpus_per_trial())]
    if placement.on_gpu:
        for bundle in kept_free[-plan.num_learners :] if plan.num_learners else kept_free[:1]:
            bundle["GPU"] = placement.share
    elif (kept := replay_need(plan.base())) > 0:
        kept_free[0]["memory"] = kept * plan.seeds_per_trial
    return kept_free


class RowNames:
    """Calls the trials of Tune as their rows are called, ``t0003``, wherever Tune shows a name.

    Args:
        searcher: Knows the trials' numbers.
    """

    def __init__(self, searcher: StudySearcher) -> None:
        self._searcher = searcher

    def __call__(self, trial: Any) -> str:
        """The id of a trial's row."""
        return row_name(self._searcher.number(trial.trial_id))

    def __deepcopy__(self, memo: dict[int, Any]) -> "RowNames":
        """Itself: Tune copies what it is given for every trial, and the searcher is one."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune keeps it with every trial for a way of resuming that is not used here."""
        return {}


class RowKeeper(tune.Callback):
    """Turns what Tune says of a trial into progress, and its end into a row of the table.

    Args:
        number: Of the round.
        table: Gets the rows.
        searcher: Knows the trials' numbers.
        progress: Is told what happens.
        metrics: Is told how many trials are in which state.
        time_budget_s: When time is up [s].
    """

    def __init__(
        self,
        number: int,
        table: TrialTable,
        searcher: StudySearcher,
        progress: Progress,
        metrics: SweepMetrics,
        *,
        time_budget_s: float,
        num_rounds: int,
    ) -> None:
        self._round, self._time_budget_s, self._num_rounds = number, time_budget_s, num_rounds
        self._table, self._searcher, self._progress = table, searcher, progress
        self._metrics = metrics
        self._started = time.monotonic()
        self._evaluations: dict[str, int] = {}
        self._open: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune keeps its callbacks for a way of resuming that is not used here."""
        return {}

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Tune looked around once more."""
        ended = Counter(row.state for row in self._table.rows)
        self._metrics.trials(
            {"RUNNING": len(self._open), **{state.value: ended[state] for state in TrialState}}
        )

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial began, or began again."""
        if trial.trial_id not in self._open:
            self._open[trial.trial_id] = trial
            self._progress.started(self._name(trial), _searched(trial))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial made an iteration."""
        evaluations = len(result["curve"])
        is_new = evaluations > self._evaluations.get(trial.trial_id, 0)
        self._evaluations[trial.trial_id] = evaluations
        score = result[METRIC] if is_new else None
        self._progress.reported(self._name(trial), result["all_env_steps"], score)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial ended by itself, or was stopped."""
        self._end(trial, error=False)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial failed more often than it may."""
        self._end(trial, error=True)

    def close(self) -> None:
        """Close the trials that Tune stopped without a word, as it does when time is up.

        Those that were evaluated get a row; the others stay without one, to be resumed. So do those
        that judge: what a part of their training earns says nothing of the point.
        """
        for trial_id, trial in list(self._open.items()):
            self._searcher.on_trial_complete(trial_id, trial.last_result)
            if METRIC in (trial.last_result or {}) and not trains_again(trial):
                self._end(trial, error=False)

    def _name(self, trial: Any) -> str:
        return row_name(self._searcher.number(trial.trial_id))

    def _end(self, trial: Any, *, error: bool) -> None:
        if self._open.pop(trial.trial_id, None) is None:
            return
        row = self._row(trial, error=error)
        self._table.append(row)
        self._progress.finished(row, self._table.best(self._num_rounds))

    def _row(self, trial: Any, *, error: bool) -> Trial:
        result: Mapping[str, Any] = trial.last_result or {}
        state, reason = self._outcome(trial, result, error)
        has_score = state in (TrialState.COMPLETE, TrialState.PRUNED)
        interval = result.get("interval") if has_score else None
        return Trial(
            trial_id=self._name(trial),
            number=self._searcher.number(trial.trial_id),
            state=state,
            score=result.get(METRIC) if has_score else None,
            knobs=_searched(trial),
            config=result.get("received", {}),
            env_steps=result.get("all_env_steps", 0),
            seconds=result.get("seconds", 0.0),
            iterations=result.get("iterations", 0),
            returns=result.get("returns", {}),
            interval=None if interval is None else tuple(interval),
            curve=tuple(tuple(point) for point in result.get("curve", ())),
            reason=reason,
            round=self._round,
            seeds=tuple(result.get("seeds", ())),
            seed_scores=tuple(result.get("seed_scores", ())) if has_score else (),
            judged_at=result.get("judged_at", 0) if has_score else 0,
        )

    def _outcome(
        self, trial: Any, result: Mapping[str, Any], error: bool
    ) -> tuple[TrialState, str]:
        if error:
            return TrialState.FAILED, _last_line(trial.error_file)
        if result.get("failed"):
            return TrialState.FAILED, result["reason"]
        if result.get("diverged"):
            return TrialState.DIVERGED, result["reason"]
        if result.get("finished"):
            return TrialState.COMPLETE, ""
        if time.monotonic() - self._started >= self._time_budget_s:
            return TrialState.PRUNED, "the time budget ended"
        return TrialState.PRUNED, "stopped by the scheduler"


def _searched(trial: Any) -> dict[str, Any]:
    """The searched knobs of a trial; a seed of its own is not one of them."""
    return {knob: value for knob, value in trial.config.items() if knob != "seed"}


def _last_line(error_file: str | None) -> str:
    """What went wrong, from the end of a traceback."""
    lines = Path(error_file).read_text().strip().splitlines() if error_file else []
    return lines[-1] if lines else "the worker died"
