"""The rounds of an existing sweep; those that the log has lost are decided again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from ssmrl.files import aside
from tuning.ending import LostError
from tuning.plan import SweepPlan
from tuning.rounds import further_verdict, next_round
from tuning.search.study import study_spaces
from tuning.table.record_files import ROUNDS, ROWS
from tuning.table.round_log import Round, RoundLog
from tuning.table.trial import Trial

Decide: TypeAlias = Callable[[SweepPlan, Sequence[Round], Sequence[Trial]], Round | None]
"""Function of the plan, the rounds so far and all their rows: the next round, or None."""


def kept_rounds(
    plan: SweepPlan,
    folder: Path,
    rows: Sequence[Trial],
    *,
    restore: Decide | None,
    say: Callable[[str], None],
) -> RoundLog:
    """The log of a sweep's rounds, complete for all rounds that have rows.

    A round is a function of the plan and of the rounds and rows before it, so a lost one is decided
    again. If the journal holds its space, that space is used.

    Args:
        plan: Plan of the sweep.
        folder: Folder of the sweep.
        rows: Rows of its table.
        restore: Function that decides a round of a study again; None for a sweep.
        say: Prints a line if a round was lost.

    Raises:
        ValueError: If the log is damaged.
        LostError: If a lost round cannot be decided again.
    """
    path = folder / ROUNDS
    what = "sweep" if restore is None else "study"
    log = RoundLog(path, plan.base(), plan.sweep_id, plan=plan.to_json(), what=what)
    known = {this.number: this for this in log.rounds}
    missing = {row.round for row in rows} - known.keys()
    if not missing:
        return log
    spaces = study_spaces(folder / "optuna.journal", f"{plan.sweep_id or folder.name}-r")
    rounds: list[Round] = []
    for number in sorted(known.keys() | missing | spaces.keys()):
        before = [row for row in rows if row.round < number]
        this = known.get(number) or (restore or _following)(plan, rounds, before)
        if this is not None and this.number == number:
            rounds.append(_where_it_was(this, plan, spaces) if number not in known else this)
        elif number in missing:
            raise LostError(
                f"{path} lacks round {number}, though {ROWS} has rows of it, and nothing else says "
                "how many trials it had; restore the file from a copy"
            )
    if path.exists():
        path.replace(aside(path))
    log = RoundLog(path, plan.base(), plan.sweep_id, plan=plan.to_json(), what=what)
    for this in rounds:
        log.append(this)
    numbers = ", ".join(map(str, sorted(missing)))
    say(f"{path} lacked round {numbers}; it is rebuilt from the plan, the rows and the journal")
    return log


def _following(plan: SweepPlan, earlier: Sequence[Round], rows: Sequence[Trial]) -> Round | None:
    this = next_round(plan, earlier, rows)
    return further_verdict(plan, earlier, rows) if this is None and earlier else this


def _where_it_was(this: Round, plan: SweepPlan, spaces: Mapping[int, str]) -> Round:
    """The round with the space of its study in the journal, if that differs."""
    written = spaces.get(this.number, this.space.to_json())
    if written == this.space.to_json():
        return this
    space = type(this.space).from_json(written, plan.base())
    return replace(this, space=space, moves=())
