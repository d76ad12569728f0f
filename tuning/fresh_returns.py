"""Returns of trained policies on fresh tasks, which selected nothing; not their comparison."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssmrl.checkpoint import Checkpoint, CheckpointError
from ssmrl.config import TrainConfig
from ssmrl.envs.families import get_family
from ssmrl.meta.algorithms import get_algorithm
from ssmrl.rollout.assignment import held_out_assignment
from ssmrl.rollout.evaluate import judge
from ssmrl.rollout.play import LocalCollector, Mode
from ssmrl.run import checkpoint_path
from tuning.ending import LostError
from tuning.table.trial import Trial

# Draw 0 of the held-out tasks selected the winner.
FRESH_DRAW = 1
NUM_FRESH_TASKS = 100


@dataclass(frozen=True)
class FreshReturns:
    """Mean returns of the trained seeds of a configuration, all on the same tasks.

    Attributes:
        used: Mean return of each seed with adaptation.
        switched_off: Mean return of each seed without adaptation; empty if not asked for.
    """

    used: tuple[float, ...]
    switched_off: tuple[float, ...] = ()


def fresh_returns(
    folder: Path, trials: Sequence[Trial], *, with_switched_off: bool = False
) -> FreshReturns:
    """Evaluate every run of some trials on fresh tasks.

    Args:
        folder: Folder of the sweep.
        trials: Trials whose checkpoints are evaluated.
        with_switched_off: Whether to evaluate them without adaptation, too.
    """
    used, off = [], []
    for trial in trials:
        for seed in trial.seeds or (int(trial.config["seed"]),):
            saved = saved_run(folder, trial, seed)
            used.append(_mean_return(saved, Mode.USED))
            if with_switched_off:
                off.append(_mean_return(saved, Mode.OFF))
    return FreshReturns(tuple(used), tuple(off))


def blind_return(config: TrainConfig) -> float | None:
    """The best return without adaptation on exactly the tasks of ``fresh_returns``."""
    tasks = held_out_assignment(_asked(config), FRESH_DRAW).tasks
    family = get_family(config.env.task)
    return family.blind_return([task.parameters for task in tasks], config.env.horizon)


def saved_run(folder: Path, trial: Trial, seed: int | None = None) -> Checkpoint:
    """The checkpoint of a trial's run.

    Args:
        folder: Folder of the sweep.
        trial: The trial.
        seed: Seed of the run; by default the trial's first.

    Raises:
        LostError: If the checkpoint is damaged or gone.
    """
    config = TrainConfig.of_knobs(trial.config)
    config = config if seed is None else config.with_knobs({"seed": seed})
    try:
        return Checkpoint.load(checkpoint_path(folder / "checkpoints", config))
    except (FileNotFoundError, CheckpointError) as error:
        raise LostError(
            f"{trial.trial_id} cannot be evaluated any more, so there is no verdict: {error}; "
            "restore the file and `--resume`, or search again under another `--name`; `ssmrl "
            f"doctor {folder}` says what else is missing"
        ) from error


def _asked(config: TrainConfig) -> TrainConfig:
    return config.with_knobs({"evaluation.num_tasks": NUM_FRESH_TASKS})


def _mean_return(saved: Checkpoint, mode: Mode) -> float:
    algorithm = get_algorithm(saved.config.algorithm)
    config = _asked(saved.config)
    scored = algorithm.learner_type()(config).num_episodes - 1
    evaluation = judge(
        config,
        algorithm.player_type().params_of(saved.tensors),
        LocalCollector(config),
        num_episodes=scored + 1,
        mode=mode,
        draw=FRESH_DRAW,
    )
    return evaluation.mean_returns()[scored]
