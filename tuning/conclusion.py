"""The end of a sweep: keep the winner, judge it on fresh tasks, write the report."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ssmrl.checkpoint import Checkpoint
from ssmrl.device_record import recorded_device
from ssmrl.envs.families import get_family
from ssmrl.files import replace_file
from ssmrl.meta.algorithms import get_algorithm
from ssmrl.student import LEVEL
from tuning.comparison import LATER_LEVEL, Comparison, compare
from tuning.ending import LostError, ending, lost_lines
from tuning.fresh_returns import NUM_FRESH_TASKS, blind_return, fresh_returns, saved_run
from tuning.going_on import going_on
from tuning.plan import SweepPlan
from tuning.report.page import write_report
from tuning.rounds import (
    fresh_rows,
    further_verdict,
    is_unconfirmed,
    next_round,
    num_verdicts,
    winner,
)
from tuning.table.round_log import Round
from tuning.table.trial import LOST, Trial, TrialTable


def conclude(
    plan: SweepPlan,
    folder: Path,
    table: TrialTable,
    *,
    rounds: Sequence[Round],
    command: str,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Keep the winner, compare it with the default, write table and report.

    Args:
        plan: Plan of the sweep.
        folder: Folder of the sweep.
        table: Table of its trials.
        rounds: Its rounds, each with its space.
        command: Command line that makes the sweep, for the report.
        say: Prints a line.

    Returns:
        The best searched trial; the winner with its score, knobs, folder, comparison and bound;
        lost trials and exit code. ``held_out_score`` is the mean return on fresh tasks.

    Raises:
        LostError: If a checkpoint that the verdict needs is gone; table and report are written.
    """
    table.write_csv(folder / "trials.csv")
    best = winner(table.rows, plan)
    comparison, lost = None, None
    if best is None:
        say("no trial completed, so there is no best one; raise --time-budget-s and --resume")
    else:
        try:
            _keep_best(folder, best, plan.sweep_id)
            comparison = _judge(plan, folder, table.rows, best)
        except LostError as error:
            lost = error  # the report is written all the same
    bound = _report(plan, folder, table, best, comparison, lost, rounds=rounds, command=command)
    say(f"table {folder / 'trials.csv'}, report {folder / 'report.html'}")
    if lost is not None:
        raise lost
    if best is not None and comparison is not None:
        for line in _verdict_lines(plan, best, comparison):
            say(line)
    confirmed = best is None or not is_unconfirmed(table.rows, plan, best)
    how = {"has_winner": best is not None, "is_confirmed": confirmed}
    for line in lost_lines(table.rows, **how):
        say(line)
    code = ending(table.rows, **how)
    return _summary(folder, table, best, comparison, bound, code, table.best(plan.rounds))


def report_anew(
    plan: SweepPlan,
    folder: Path,
    table: TrialTable,
    *,
    rounds: Sequence[Round],
    command: str,
) -> LostError | None:
    """Write the table and the report again from the rows; nothing else is changed.

    No row holds returns on fresh tasks. As at the end of a sweep, the checkpoints of winner and
    default are evaluated on them, which gives the same numbers each time.

    Args:
        plan: Plan of the sweep.
        folder: Folder of the sweep.
        table: Table of its trials so far.
        rounds: Its rounds, each with its space.
        command: Command line that makes the sweep, for the report.

    Returns:
        The error that says what a verdict lacks, as the report does; None if nothing is missing.
    """
    table.write_csv(folder / "trials.csv")
    best = winner(table.rows, plan)
    comparison, lost = None, None
    try:
        comparison = None if best is None else _judge(plan, folder, table.rows, best)
    except LostError as error:
        lost = error
    _report(plan, folder, table, best, comparison, lost, rounds=rounds, command=command)
    return lost


def _report(
    plan: SweepPlan,
    folder: Path,
    table: TrialTable,
    best: Trial | None,
    comparison: Comparison | None,
    lost: LostError | None,
    *,
    rounds: Sequence[Round],
    command: str,
) -> float | None:
    """Write the report, and return the bound without adaptation."""
    bound = get_family(plan.task).no_adaptation_bound(plan.base().env.horizon)
    write_report(
        folder / "report.html",
        title=f"{plan.task}, {plan.method}: {len(table.rows)} trials",
        plan=plan,
        table=table,
        best=best,
        space=rounds[-1].space if rounds else plan.space(),
        bound=bound,
        comparison=comparison,
        command=command,
        rounds=rounds if plan.rounds > 1 else (),
        unjudged="" if lost is None else str(lost),
        going_on=going_on(plan, folder, is_open=best is not None and not _is_shown(comparison)),
        made_with=recorded_device(folder),
    )
    return bound


def _is_shown(comparison: Comparison | None) -> bool:
    return comparison is not None and comparison.is_shown


def _summary(
    folder: Path,
    table: TrialTable,
    best: Trial | None,
    comparison: Comparison | None,
    bound: float | None,
    code: int,
    searched: Trial | None,
) -> dict[str, Any]:
    return {
        "best_searched": {"trial": searched.trial_id, "score": searched.score}
        if searched
        else None,
        "best_trial": best.trial_id if best else None,
        "score": best.score if best else None,
        "held_out_score": comparison.best_mean if comparison else None,
        "knobs": dict(best.knobs) if best else None,
        "path": str(folder),
        "comparison": dataclasses.asdict(comparison) if comparison else None,
        "no_adaptation_bound": bound,
        "lost": [row.trial_id for row in table.rows if row.state in LOST],
        "exit_code": int(code),
    }


def _keep_best(folder: Path, best: Trial, sweep: str) -> None:
    """Copy the winner's row, and the part of its checkpoint that acting needs, to ``best/``."""
    target = folder / "best"
    saved = saved_run(folder, best)
    player = get_algorithm(saved.config.algorithm).player_type()
    acting = {id(tensor) for tensor in player.params_of(saved.tensors).values()}
    kept = {name: tensor for name, tensor in saved.tensors.items() if id(tensor) in acting}
    Checkpoint(saved.config, kept, saved.progress).save(target / "checkpoint.safetensors")
    replace_file(target / "trial.json", best.to_json(sweep) + "\n")


def next_until_shown(
    folder: Path, plan: SweepPlan, earlier: Sequence[Round], rows: Sequence[Trial]
) -> Round | None:
    """Decide like ``next_round``; after the last round, add seeds while the verdict is open.

    Args:
        folder: Folder of the sweep.
        plan: Plan of the sweep.
        earlier: The rounds so far, in order.
        rows: Rows of the table, with all trials of the earlier rounds.
    """
    following, best = next_round(plan, earlier, rows), winner(rows, plan)
    if following is not None or best is None:
        return following
    further = further_verdict(plan, earlier, rows)
    if further is None or _judge(plan, folder, rows, best, with_switched_off=False).is_shown:
        return None
    return further


def _judge(
    plan: SweepPlan,
    folder: Path,
    rows: Sequence[Trial],
    best: Trial,
    *,
    with_switched_off: bool = True,
) -> Comparison:
    """Compare the winner with the default on fresh tasks."""
    default = plan.space().default_point()
    fresh = fresh_rows(rows, plan, best.knobs)
    own = fresh_returns(folder, fresh or [best], with_switched_off=with_switched_off)
    others = None
    if best.knobs != default:
        others = fresh_returns(folder, fresh_rows(rows, plan, default)).used
    return compare(
        own.used,
        others,
        num_tasks=NUM_FRESH_TASKS,
        num_seeds=len(own.used) if fresh else 0,
        blind_return=blind_return(plan.base()),
        switched_off=own.switched_off,
        level=LATER_LEVEL if num_verdicts(plan, rows) > 1 else LEVEL,
    )


def _verdict_lines(plan: SweepPlan, best: Trial, found: Comparison) -> list[str]:
    """The lines printed at the end of a sweep."""
    seeds = _count(found.num_best_seeds)
    knobs = " ".join(f"{knob}={_short(value)}" for knob, value in best.knobs.items())
    lines = [
        f"winner {knobs} (trial {best.trial_id})",
        f"return on {found.num_tasks} fresh tasks: {found.best_mean:.2f}"
        f"{_interval(found.best_low, found.best_high)}, over {seeds}",
    ]
    if found.blind_return is None:
        lines.append("the best return without adaptation is not known for these tasks")
    else:
        lines.append(
            f"best blind return, without adaptation, on these tasks: {found.blind_return:.2f}"
        )
    if found.switched_off_mean is not None:
        switched_off = "its memory switched off" if plan.adapts_by_memory else "no adaptation"
        lines.append(f"the same policy with {switched_off}: {found.switched_off_mean:.2f}")
    if plan.adapts_by_memory:
        lines.append("training saw the hidden variable of its tasks; these evaluations did not")
    if found.difference is not None:
        is_equal = found.num_default_seeds == found.num_best_seeds
        others = "" if is_equal else f", over {_count(found.num_default_seeds)}"
        lines.append(
            f"the default: {found.default_mean:.2f}{others}, difference {found.difference:+.2f}"
            f"{_interval(found.low, found.high, '+')}"
            + ("" if found.level == LEVEL else f" at {found.level:.0%}, since seeds were added")
        )
    if not found.is_shown and found.findable is not None:
        lines.append(
            f"this many seeds find a difference of {found.findable:.2f} in 8 of 10 sweeps; "
            "`--resume --confirm` trains more"
        )
    return [*lines, found.verdict]


def _count(num_seeds: int) -> str:
    return f"{num_seeds} fresh {'seed' if num_seeds == 1 else 'seeds'}"


def _interval(low: float | None, high: float | None, sign: str = "") -> str:
    if low is None or high is None:
        return ""
    return f" [{low:{sign}.2f}, {high:{sign}.2f}]"


def _short(value: float | int | bool | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
