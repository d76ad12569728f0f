"""Runs the trials of a plan with Ray Tune and keeps one row for each."""

import logging
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

# Read by Ray when it is imported or starts: its own loggers cost throughput, trials report a
# score only from their first evaluation on, Ctrl-C is ours to handle, and so is the terminal.
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

# A trial whose runners or learners are elsewhere is silent while it waits for them; of runners that
# hang it takes care itself. On a GPU an update is compiled before it is captured.
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
    log: LogKind | None = None,
) -> bool:
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
        log: Where else evaluations are written.

    Returns:
        Whether trials are left only because Tune ended, which it does where Ray ends a trial for
        want of memory, or the disk is full.

    Raises:
        LostError: If the disk stays full.
    """
    earlier = [row for row in table.rows if row.round == this.number]
    pulses = (folder / "tune" / "pulses").resolve()
    memory = Memory.of(this.space, plan)
    if memory.is_short and not placement.on_gpu:  # there Ray is asked for shares of GPUs alone
        progress.note(
            f"{plan.max_concurrent} of the largest trials do not fit the memory at once: one that "
            "does not fit beside others waits for them"
        )
    trainable = _trainable(plan, placement, folder, pulses, num_physics_threads, memory)
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
    )
    logs = [] if log is None else [TrialLog(log, folder, searcher)]
    scheduler = "none" if is_confirmation(plan, this) else plan.scheduler
    # They warn that the loggers, which are off, left no files, and of choices that are meant.
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
            callbacks=[keeper, *logs],
            failure_config=FailureConfig(max_failures=plan.retries),
            verbose=0,
        ),
    )
    try:
        return _is_cut_short(tuner, keeper, folder)
    finally:
        for each in logs:
            each.close()


def _trainable(
    plan: SweepPlan,
    placement: Placement,
    folder: Path,
    pulses: Path,
    num_physics_threads: int,
    memory: "Memory",
) -> type[tune.Trainable]:
    """A trial of the plan, with what Ray keeps free for it."""
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
            # Of RLlib's learners each has its own; the trial's process has one where it learns.
            device="cpu" if plan.num_learners else placement.device_of_trial,
            gpus_per_learner=placement.share,
        ),
        partial(_resources, plan, placement, memory),
    )
    # Tune's wrapper would be what Ray's dashboard shows as the class of the trials' actors.
    trainable.__name__ = trainable.__qualname__ = MetaTraining.__name__
    return trainable


def _is_cut_short(tuner: tune.Tuner, keeper: RowKeeper, folder: Path) -> bool:
    """Make the trials; whether Tune ended before they did, and can be begun again."""
    try:
        tuner.fit()
    except (OSError, RuntimeError) as error:
        if is_full(error):  # Tune, too, writes down what it does
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
    """What Ray is asked to keep free for the trials of a round.

    Attributes:
        for_all: The same for each, so that one process makes trial after trial [bytes]; 0 where the
            largest do not fit side by side, and each is asked its own.
        most: What the largest machine has for trials [bytes]; None if that is not known.
        is_short: Whether the largest are known not to fit side by side.
    """

    for_all: int
    most: int | None
    is_short: bool = False

    @classmethod
    def of(cls, space: SearchSpace, plan: SweepPlan) -> "Memory":
        """For the points of a space; Ray must be running."""
        nodes = [int(node["Resources"].get("memory", 0)) for node in ray.nodes()]
        most = max(nodes, default=0) or None
        largest = asked_of_ray(largest_need(space, plan.seeds_per_trial), most)
        if most is None or not largest:
            return cls(0, most)
        fits = plan.max_concurrent <= sum(node // largest for node in nodes)
        return cls(largest if fits else 0, most, is_short=not fits)


def bundles(plan: SweepPlan, placement: Placement, memory: int) -> list[dict[str, float]]:
    """What Ray keeps free for a trial: its own process first, which holds what was played.

    Last come RLlib's learners. Each process that learns has the share of a GPU; what learns on one
    is held there.

    Args:
        plan: What to do.
        placement: Where trials learn.
        memory: Of the trial's own process [bytes].
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
