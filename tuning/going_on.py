"""The command lines that a report offers as next steps for a sweep or study."""

import shlex
from pathlib import Path

from tuning.kept_plan import is_study
from tuning.plan import SweepPlan

SWEEP, _STUDY = ("python", "-m", "tuning.sweep"), ("python", "-m", "agents.research")


def going_on(plan: SweepPlan, folder: Path, *, is_open: bool) -> list[tuple[str, str]]:
    """The possible next steps with a sweep or study, each in words and as a command line.

    Args:
        plan: Plan of the sweep.
        folder: Folder of the sweep.
        is_open: Whether there is a winner, but no shown difference from the default.
    """
    study = is_study(folder)
    place = ["--task", plan.task, "--storage", str(folder.parent), "--name", folder.name]
    resume = [*(_STUDY if study else SWEEP), *place, "--resume"]
    known = [
        ("Evaluate the winner on held-out tasks", ["ssmrl", "evaluate", str(folder / "best")]),
        ("Run the missing trials, and judge the winner", resume),
    ]
    if is_open and not study:
        more = "Train more fresh seeds, until winner and default are shown to differ"
        known.append((more, [*resume, "--confirm"]))
    known += [
        ("Print statistics of the trials", ["ssmrl", "analyze", str(folder)]),
        ("Check all files for damage", ["ssmrl", "doctor", str(folder)]),
        ("Write this report again", ["ssmrl", "report", str(folder)]),
    ]
    return [(words, shlex.join(command)) for words, command in known]
