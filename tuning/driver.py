"""Runs the trials of a plan with Ray Tune and keeps one row for each."""

import logging
import os
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

# Ray reads these at import or start. Its own loggers cost throughput, results have no score
# before the first evaluation, and Ctrl-C and the terminal are handled here.
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"
os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
os.environ["TUNE_PRINT_ALL_TRIAL_ERRORS"] = "0"  # the row says why, the traceback is in tune/

import ray
from ray import tune
from ray.tune import FailureConfig, PlacementGroupFactory, RunConfig, TuneConfig

from cluster.metrics import SweepMetrics
from ssmrl.disk_room import is_full, wait_for_room
from ssmrl.train_log import LogKind
from tuning.ending import LostError
from tuning.placement import Placement
from tuning.plan import SweepPlan
from tuning.progress import Progress
from tuning.rounds import is_confirmation
from tuning.row_keeper import ENOUGH_ROOM, RowKeeper
from tuning.scheduler import make_scheduler
from tuning.search.searcher import StudySearcher, row_name
from tuning.spaces.space import SearchSpace
from tuning.table.round_log import Round
from tuning.table.trial import TrialTable
from tuning.training import MetaTraining
from tuning.trial_log import TrialLog
from tuning.trial_memory import asked_of_ray, largest_need, trial_need
from tuning.watch import Watch

# A trial with remote runners or learners is silent while it waits for them; it handles hanging
# runners itself. On a GPU an update is compiled before it is captured.
_FLOOR_ELSEWHERE_S, _FLOOR_ON_GPU_S = 1200.0, 120.0


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
    num_spared: Counter[str],
    log: LogKind | None = None,
) -> bool:
    """Run the trials of a round that the table still lacks; Ray must be running.

    Args:
        plan: Plan of the sweep.
        this: The round.
        folder: Folder of the sweep.
        table: Table to which the row of every trial that ends is appended.
        searcher: Searcher that chooses the points.
        progress: Receives progress events.
        time_budget_s: Time budget of the training [s].
        num_physics_threads: MuJoCo threads of each trial.
        placement: Devices on which trials learn.
        num_spared: Number of restarts of each trial that the memory monitor killed although a
            larger one lived, by name; updated here.
        log: Additional log of the trials' evaluations; None for none.

    Returns:
        Whether Tune must be started again for the remaining trials: it ends early if Ray kills a
        trial because memory ran out, or if the disk is full.

    Raises:
        LostError: If the disk stays full.
    """
    earlier = [row for row in table.rows if row.round == this.number]
    pulses = (folder / "tune" / "pulses").resolve()
    for left in pulses.glob("*"):  # by processes that were killed, and whose ids may be others' now
        left.unlink(missing_ok=True)
    memory = Memory.of(this.space, plan)
    if memory.is_short and not placement.on_gpu:  # there trials request only GPUs of Ray
        progress.note(
            f"{plan.max_concurrent} of the largest trials do not fit the memory at once: a trial "
            "that does not fit beside the others waits for them"
        )
    trainable = _trainable(plan, placement, folder, pulses, num_physics_threads, memory)
    trial_log = None if log is None else TrialLog(log, folder, searcher, progress.note)
    keeper = RowKeeper(
        this.number,
        table,
        searcher,
        progress,
        SweepMetrics(folder.name),
        time_budget_s=time_budget_s,
        num_rounds=plan.rounds,
        retries=plan.retries,
        pulses=pulses,
        watch=_watch(plan, placement),
        num_spared=num_spared,
        log=trial_log,
    )
    scheduler = "none" if is_confirmation(plan, this) else plan.scheduler
    # Ray would warn about missing files of the loggers, which are off, and intended settings.
    for name in ("ray.tune", "ray.train", "ray.rllib", "ray._common.deprecation"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    tuner = tune.Tuner(
        trainable,
        tune_config=TuneConfig(
            search_alg=searcher,
            scheduler=make_scheduler(scheduler, max_steps=plan.max_env_steps, earlier=earlier),
            num_samples=this.num_trials - len(earlier),
            max_concurrent_trials=plan.max_concurrent,
            time_budget_s=time_budget_s,
            reuse_actors=True,
            trial_name_creator=RowNames(searcher),
        ),
        run_config=RunConfig(
            name=f"tune-{this.number}-{os.getpid()}",
            storage_path=str((folder / "tune").resolve()),
            callbacks=[keeper] if trial_log is None else [keeper, trial_log],
            failure_config=FailureConfig(max_failures=plan.retries),
            verbose=0,
        ),
    )
    try:
        return _is_cut_short(tuner, keeper, folder)
    finally:
        if trial_log is not None:
            trial_log.close()


def _trainable(
    plan: SweepPlan,
    placement: Placement,
    folder: Path,
    pulses: Path,
    num_physics_threads: int,
    memory: "Memory",
) -> type[tune.Trainable]:
    """The trainable of the plan's trials, with the resources that Ray reserves for each."""
    trainable: type[tune.Trainable] = tune.with_resources(
        tune.with_parameters(
            MetaTraining,
            sweep=folder.name,
            base=plan.base(),
            num_seeds=plan.seeds_per_trial,
            max_env_steps=plan.max_env_steps,
            folder=(folder / "checkpoints").resolve(),  # workers have other working directories
            pulses=pulses,
            num_env_runners=plan.num_env_runners,
            cpus_per_runner=plan.cpus_per_runner,
            num_learners=plan.num_learners,
            num_physics_threads=num_physics_threads,
            # RLlib's learners have their own; the trial's process needs one only if it learns.
            device="cpu" if plan.num_learners else placement.device_of_trial,
            gpus_per_learner=placement.share,
        ),
        partial(_resources, plan, placement, memory),
    )
    # Otherwise Ray's dashboard shows Tune's wrapper as the class of the trials' actors.
    trainable.__name__ = trainable.__qualname__ = MetaTraining.__name__
    return trainable


def _is_cut_short(tuner: tune.Tuner, keeper: RowKeeper, folder: Path) -> bool:
    """Run the trials; return whether Tune ended before they did and can be started again."""
    try:
        tuner.fit()
    except (OSError, RuntimeError) as error:
        if is_full(error):  # Tune writes its own state, too
            _wait_for_room(folder)
        elif not keeper.lost_to_memory_monitor(error):
            raise
        return True
    keeper.close()
    return False


def _wait_for_room(folder: Path) -> None:
    try:
        wait_for_room(folder, ENOUGH_ROOM)
    except OSError as error:
        message = f"the disk of {folder} stayed full: {error}; make room, then `--resume`"
        raise LostError(message) from error


def _watch(plan: SweepPlan, placement: Placement) -> Watch:
    if plan.cpus_per_trial() > 1:
        return Watch(floor_s=_FLOOR_ELSEWHERE_S)
    return Watch(floor_s=_FLOOR_ON_GPU_S) if placement.on_gpu else Watch()


def _resources(
    plan: SweepPlan, placement: Placement, memory: "Memory", point: dict[str, Any]
) -> PlacementGroupFactory:
    need = memory.for_all or asked_of_ray(
        trial_need(plan.base(), point, plan.seeds_per_trial), memory.most
    )
    return PlacementGroupFactory(bundles(plan, placement, need))


@dataclass(frozen=True)
class Memory:
    """Memory that the trials of a round request from Ray.

    Attributes:
        for_all: Equal request of each trial, so that one process runs trial after trial [bytes]; 0
            if the largest are not known to fit side by side: then each requests its own need.
        most: Most memory that a machine has for trials [bytes]; None if unknown.
        is_short: Whether the largest trials are known not to fit side by side.
    """

    for_all: int
    most: int | None
    is_short: bool = False

    @classmethod
    def of(cls, space: SearchSpace, plan: SweepPlan) -> "Memory":
        """The requests for the points of a space; Ray must be running."""
        nodes = [int(node["Resources"].get("memory", 0)) for node in ray.nodes()]
        most = max(nodes, default=0) or None
        largest = asked_of_ray(largest_need(space, plan.seeds_per_trial), most)
        if most is None or not largest:
            return cls(0, most)
        fits = plan.max_concurrent <= sum(node // largest for node in nodes)
        return cls(largest if fits else 0, most, is_short=not fits)


def bundles(plan: SweepPlan, placement: Placement, memory: int) -> list[dict[str, float]]:
    """Resources that Ray reserves for a trial: first its own process, which holds the experience.

    RLlib's learners come last. If trials learn on GPUs, each learning process has the placement's
    share of one; the experience is held there too, so no memory is requested.

    Args:
        plan: Plan of the sweep.
        placement: Devices on which trials learn.
        memory: Request of the trial's own process [bytes]; 0 for none.
    """
    own: dict[str, float] = {"CPU": 1.0}
    kept_free = [own]
    kept_free += [{"CPU": plan.cpus_per_runner} for _ in range(plan.num_env_runners)]
    kept_free += [dict(own) for _ in range(plan.num_learners)]
    if placement.on_gpu:
        for bundle in kept_free[-plan.num_learners :] if plan.num_learners else kept_free[:1]:
            bundle["GPU"] = placement.share
    elif memory:
        kept_free[0]["memory"] = memory
    return kept_free


class RowNames:
    """Names the trials of Tune like their rows, ``t0003``, wherever Tune shows a name.

    Args:
        searcher: Searcher that knows the trials' numbers.
    """

    def __init__(self, searcher: StudySearcher) -> None:
        self._searcher = searcher

    def __call__(self, trial: Any) -> str:
        """The id of a trial's row."""
        return row_name(self._searcher.number(trial.trial_id))

    def __deepcopy__(self, memo: dict[int, Any]) -> "RowNames":
        """Return itself: Tune copies its arguments for every trial, but there is one searcher."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        """No state: Tune pickles it with every trial for its own resume, which is not used here."""
        return {}
