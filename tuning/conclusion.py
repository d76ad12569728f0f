"""What a sweep came to: the best trial kept, compared with the default, and reported."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssmrl.checkpoint import Checkpoint
from ssmrl.config import TrainConfig
from ssmrl.envs.families import get_family
from ssmrl.meta.initial_actor import saved_actor
from ssmrl.train import evaluate
from tuning.comparison import Comparison, compare
from tuning.durable import replace_file
from tuning.plan import SweepPlan
from tuning.report import write_report
from tuning.round_log import Round
from tuning.rounds import winner
from tuning.search import Study
from tuning.training import SeedsTraining, checkpoint_path
from tuning.trial import Trial, TrialState, TrialTable

# Draw 0 chose the best trial; the comparison is on tasks that chose nothing.
FRESH_DRAW = 1
NUM_FRESH_TASKS = 100


def is_default_unfinished(plan: SweepPlan, folder: Path, table: TrialTable) -> bool:
    """Whether the default was stopped early, so that comparing it with the best would be unfair."""
    default = _default_row(plan, table)
    if default is None or default.state is not TrialState.PRUNED or table.best() is None:
        return False
    curve = _checkpoint(folder, default).progress["curve"]
    return int(curve[-1][0]) < plan.max_env_steps


def finish_default(plan: SweepPlan, folder: Path, *, say: Callable[[str], None]) -> None:
    """Train the default configuration to its full budget; Ray must be running.

    Its row stays as it was written; only the checkpoint goes on.
    """
    say("training the default configuration, stopped early, to the end for a fair comparison")
    training = SeedsTraining(
        plan.base(),
        plan.seeds_per_trial,
        max_env_steps=plan.max_env_steps,
        folder=folder / "checkpoints",
        num_physics_threads=0,
    )
    while not (result := training.advance())["finished"] and not result["diverged"]:
        pass
    training.close()


def conclude(
    plan: SweepPlan,
    folder: Path,
    table: TrialTable,
    study: Study,
    *,
    rounds: Sequence[Round],
    command: str,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Keep the best trial, compare it with the default, write table and report.

    Args:
        plan: What was done.
        folder: The sweep's.
        table: Its rows.
        study: The same trials as Optuna knows them.
        rounds: Where each round searched.
        command: The command line that goes on with the sweep.
        say: Prints a line.

    Returns:
        Best trial, score, knobs, folder, comparison and bound, ready for JSON; ``held_out_score``
        is the best trial's return on tasks that chose nothing.
    """
    table.write_csv(folder / "trials.csv")
    best = winner(table.rows, plan)
    comparison = None
    if best is None:
        say("no trial completed, so there is no best one; raise --time-budget-s and --resume")
    else:
        again = ", trained again with fresh seeds" if best.round >= plan.rounds else ""
        say(
            f"best trial {best.trial_id}{again}: score {best.score:.4g}, "
            f"knobs {json.dumps(best.knobs)}"
        )
        _keep_best(folder, best, plan.sweep_id)
        comparison = _compare(plan, folder, table, best, say)
    bound = get_family(plan.task).no_adaptation_bound(plan.base().env.horizon)
    if bound is not None:
        say(f"no policy without adaptation exceeds {bound:.4g} on average over the tasks")
    write_report(
        folder / "report.html",
        title=f"{plan.task}, {plan.method}: {len(table.rows)} trials",
        table=table,
        best=best,
        study=study,
        max_env_steps=plan.max_env_steps,
        bound=bound,
        comparison=comparison,
        command=command,
        rounds=rounds if plan.rounds > 1 else (),
    )
    say(f"table {folder / 'trials.csv'}, report {folder / 'report.html'}")
    return {
        "best_trial": best.trial_id if best else None,
        "score": best.score if best else None,
        "held_out_score": comparison.best_mean if comparison else None,
        "knobs": dict(best.knobs) if best else None,
        "path": str(folder),
        "comparison": dataclasses.asdict(comparison) if comparison else None,
        "no_adaptation_bound": bound,
    }


def _keep_best(folder: Path, best: Trial, sweep: str) -> None:
    """Copy the best trial's checkpoint and row to ``best/``."""
    target = folder / "best"
    saved = _checkpoint(folder, best)
    saved.save(target / "checkpoint.safetensors")
    replace_file(target / "trial.json", best.to_json(sweep) + "\n")


def _compare(
    plan: SweepPlan, folder: Path, table: TrialTable, best: Trial, say: Callable[[str], None]
) -> Comparison | None:
    default = _default_row(plan, table)
    was_trained = default is not None and default.state in (
        TrialState.COMPLETE,
        TrialState.PRUNED,
    )
    if default is None or not was_trained or is_default_unfinished(plan, folder, table):
        say("the default configuration did not train to the end, so nothing can be compared")
        return None
    comparison = compare(
        _fresh_returns(folder, best),
        _fresh_returns(folder, default),
        plan.seed,
        is_default=best.knobs == default.knobs,
    )
    say(
        f"on {comparison.num_tasks} fresh held-out tasks: best {comparison.best_mean:.2f}, default "
        f"{comparison.default_mean:.2f}, difference {comparison.difference:+.2f} "
        f"[{comparison.low:+.2f}, {comparison.high:+.2f}]"
    )
    say(comparison.verdict)
    return comparison


def _fresh_returns(folder: Path, trial: Trial) -> list[float]:
    """Return after adaptation on each of the fresh tasks, the mean over the trial's seeds."""
    returns = []
    for seed in trial.seeds or (int(trial.config["seed"]),):
        saved = _checkpoint(folder, trial, seed)
        config = saved.config.with_knobs({"evaluation.num_tasks": NUM_FRESH_TASKS})
        num_steps = config.meta.num_inner_steps
        # The same tasks for every seed, so that trials are compared task by task.
        evaluation = evaluate(config, saved_actor(saved), num_steps=num_steps, draw=FRESH_DRAW)
        returns.append(np.asarray(evaluation.task_returns[num_steps]))
    return np.mean(returns, axis=0).tolist()  # type: ignore[no-any-return]


def _checkpoint(folder: Path, trial: Trial, seed: int | None = None) -> Checkpoint:
    """Of the trial's first seed, or of another one."""
    config = TrainConfig.of_knobs(trial.config)
    config = config if seed is None else config.with_knobs({"seed": seed})
    return Checkpoint.load(checkpoint_path(folder / "checkpoints", config))


def _default_row(plan: SweepPlan, table: TrialTable) -> Trial | None:
    """The row of the configuration that the sweep started from."""
    point = plan.space().default_point()
    return next((row for row in table.rows if row.knobs == point), None)
