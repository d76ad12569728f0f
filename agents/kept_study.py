"""Plan and budget of a study that was begun, or of a new one."""

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
    """The plan and the budget of a new study, or those of the one to go on with.

    What is given anew of minutes, tokens and calls takes the place of what the study had. Its
    trials stay what they were: its rounds are divided by them.

    Args:
        plan: What is asked for now.
        budget: What may be spent, as far as it is given now.
        folder: Of the study.
        resume: Whether to go on with one.
        say: Is told if the plan was not where it should be.

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
                f"what the study may spend stood in a record of {path} that is lost; restore it, "
                "or give `--budget-minutes`, `--budget-tokens` or `--budget-calls` anew"
            )
        trials = kept.num_samples if ledger.budget.trials is None else ledger.budget.trials
        return kept, replace(ledger.budget, trials=trials, **given)
    if is_study(folder):
        raise LostError(
            f"{path} is gone or empty: what the agents said, and what they spent, is not known; "
            "restore it from a copy, or go on with the trials alone by `python -m tuning.sweep`"
        )
    if (folder / "rounds.jsonl").exists():
        raise ValueError(
            f"{folder} has trials but no ledger of what they took: it is a sweep, not a study; go "
            "on with `python -m tuning.sweep`, or choose another `--name`"
        )
    return kept, replace(budget, trials=kept.num_samples)  # killed before it began
