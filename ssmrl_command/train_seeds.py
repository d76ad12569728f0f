"""``ssmrl train --num-seeds``: trains several seeds at once, each in a folder like a single run."""

import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from ssmrl.run import Row
from ssmrl.stacked_runs import StackedRuns
from ssmrl.train_log import TrainLog
from ssmrl_command.stop_request import StopRequest
from ssmrl_command.train_plan import TrainPlan
from ssmrl_command.train_results import Outcome, leave, summary_of
from ssmrl_command.train_start import Start

_INTERVAL = 4.0  # time between two lines [s]


def train_seeds(
    start: Start,
    runs: StackedRuns,
    stop: StopRequest,
    logs: Sequence[TrainLog],
    say: Callable[[str], None],
) -> Outcome:
    """Train until every seed has spent its budget or diverged.

    Args:
        start: Start of all seeds, with their plans and folders.
        runs: Runs to train.
        stop: Request to stop after an iteration.
        logs: One log per seed, or an empty sequence.
        say: Prints a line.
    """
    said, last = time.monotonic(), _num_env_steps(runs.rows)
    while not (runs.is_over or stop.exit_code):
        for line in _advanced(runs, start):
            say(line)
        if logs:
            for log, row in zip(logs, runs.rows, strict=True):
                log.take(row)
        now, done = time.monotonic(), _num_env_steps(runs.rows)
        if now - said >= _INTERVAL:
            say(_progress(start.plan, runs.rows, (done - last) / (now - said)))
            said, last = now, done
    runs.close()
    if not runs.is_over:
        say(f"stopped; the last checkpoint is in {start.folder}. Resume with:\n  {start.going_on}")
        return Outcome(stop.exit_code, None)
    for line in _conclusion(runs, start):
        say(line)
    return Outcome(1 if runs.diverged else 0, _summary(runs, start))


def _advanced(runs: StackedRuns, start: Start) -> list[str]:
    """Make an iteration, save the results of its evaluations, and return the lines to print."""
    num_judged, frozen = [len(row.curve) for row in runs.rows], runs.diverged
    runs.advance()
    lines = [
        f"DIVERGED: seed {seed}: {reason}; the others continue"
        for seed, reason in runs.diverged.items()
        if seed not in frozen
    ]
    judged: dict[int, tuple[int, float, float]] = {}
    for run, (folder, plan), num in zip(runs.runs, _of_seeds(start), num_judged, strict=True):
        if len(run.row.curve) > num:
            leave(run, folder)
            judged[plan.config.seed] = run.row.curve[-1]
    return [*lines, _judgement(judged)] if judged else lines


def _summary(runs: StackedRuns, start: Start) -> dict[str, Any]:
    """The summary of all seeds, as plain data for JSON."""
    config, num_seeds = start.plan.config, start.plan.num_seeds
    of_one = start.experience_bytes // num_seeds
    scores = _scores(runs)
    return {
        "task": config.env.task,
        "algorithm": config.algorithm,
        "folder": str(start.folder),
        "device": str(start.device),
        "num_seeds": num_seeds,
        "score": fmean(scores) if scores else None,
        "seeds": [
            summary_of(row, plan.config, folder, start.device, of_one)
            for row, (folder, plan) in zip(runs.rows, _of_seeds(start), strict=True)
        ],
    }


def _conclusion(runs: StackedRuns, start: Start) -> list[str]:
    lines, scores = [], _scores(runs)
    if scores:
        finished = zip(runs.rows, _of_seeds(start), strict=True)
        first = next(folder for row, (folder, _) in finished if row.finished)
        lines += [
            f"return {fmean(scores):.2f} on held-out tasks, mean of {len(scores)} seeds: "
            + ", ".join(f"{score:.2f}" for score in scores),
            "training saw the hidden variable, which a test does not",
            f"  ssmrl evaluate {shlex.quote(str(first))}",
        ]
    if runs.diverged:
        named = ", ".join(map(str, runs.diverged))
        lines.append(f"{len(runs.diverged)} of {start.plan.num_seeds} seeds diverged: {named}")
    return lines


def _progress(plan: TrainPlan, rows: list[Row], rate: float) -> str:
    assert plan.max_env_steps is not None
    done = _num_env_steps(rows)
    returns = [row.metrics.return_after for row in rows if row.metrics is not None]
    share = min(1.0, done / (plan.num_seeds * plan.max_env_steps))
    mean = f"  return {fmean(returns):.2f}" if returns else ""
    return f"{share:4.0%}  {done:,} env steps of all seeds  {rate:,.0f}/s{mean}"


def _judgement(judged: dict[int, tuple[int, float, float]]) -> str:
    env_steps = next(iter(judged.values()))[0]
    returns = ", ".join(f"{used:.2f} (seed {seed})" for seed, (_, _, used) in judged.items())
    return f"      held-out tasks after {env_steps:,} env steps: return {returns}"


def _of_seeds(start: Start) -> list[tuple[Path, TrainPlan]]:
    """The folder and plan of each seed."""
    return [(folder, plan) for folder, plan in start.plans.items() if plan.num_seeds == 1]


def _scores(runs: StackedRuns) -> list[float]:
    """The scores of the finished seeds."""
    return [row.score for row in runs.rows if row.finished and row.score is not None]


def _num_env_steps(rows: list[Row]) -> int:
    return sum(row.env_steps for row in rows)
