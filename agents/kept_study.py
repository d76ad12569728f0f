"""Plan and budget of a new study, or of one that is resumed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from agents.budget import Budget
from agents.ledger import EventKind, Ledger
from ssmrl.format import FormatError
from tuning.ending import LostError
from tuning.kept_plan import is_study, kept_plan
from tuning.plan import SweepPlan


def kept_study(
    plan: SweepPlan,
    budget: Budget,
    folder: Path,
    *,
    resume: bool,
    say: Callable[[str], object],
) -> tuple[SweepPlan, Budget]:
    """The plan and the budget of a new study, or those of the study to resume.

    Budgets of minutes, tokens and calls that are given again replace the study's own. Its budget
    of trials stays: the lengths of its rounds depend on it.

    Args:
        plan: The plan from the command line.
        budget: The budget from the command line.
        folder: Folder of the study.
        resume: Whether to resume a study.
        say: Receives a line if the plan is missing and is restored.

    Raises:
        ValueError: If there is no such study, or the folder holds a sweep instead.
        LostError: If plan or ledger are damaged or gone.
    """
    kept = kept_plan(plan, folder, resume=resume, what="study", say=say)
    if kept is None:
        return plan.begun(), budget
    path = folder / "ledger.jsonl"
    try:
        ledger = Ledger(path, sweep=kept.sweep_id)
    except FormatError:
        raise
    except ValueError as error:
        repair = f"`ssmrl doctor {folder} --repair` keeps every good record"
        raise LostError(f"{error}; {repair}") from error
    anew = {kind: getattr(budget, kind) for kind in ("minutes", "tokens", "calls")}
    given = {kind: limit for kind, limit in anew.items() if limit is not None}
    if ledger.events:
        if not given and all(event.kind is not EventKind.BUDGET for event in ledger.events):
            raise LostError(
                f"the budget of the study is in a lost record of {path}; restore the file, or give "
                "`--budget-minutes`, `--budget-tokens` or `--budget-calls` again"
            )
        trials = kept.num_samples if ledger.budget.trials is None else ledger.budget.trials
        return kept, replace(ledger.budget, trials=trials, **given)
    if is_study(folder):
        raise LostError(
            f"{path} is gone or empty: what the agents said and spent is not known; restore it "
            "from a copy, or continue without the agents by `python -m tuning.sweep`"
        )
    if (folder / "rounds.jsonl").exists():
        raise ValueError(
            f"{folder} has trials but no ledger, so it is a sweep, not a study; resume it with "
            "`python -m tuning.sweep`, or choose another `--name`"
        )
    return kept, replace(budget, trials=kept.num_samples)  # killed before it began
