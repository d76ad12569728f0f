"""The command lines that are of use once a sweep has trials; not what they do."""

import shlex
from pathlib import Path

from tuning.kept_plan import is_study
from tuning.plan import SweepPlan

SWEEP, _STUDY = ("python", "-m", "tuning.sweep"), ("python", "-m", "agents.research")


def going_on(plan: SweepPlan, folder: Path, *, is_open: bool) -> list[tuple[str, str]]:
    """What can be done next with a sweep or study, each in words and as a command line.

    Args:
        plan: Of the sweep.
        folder: Where it is kept.
        is_open: Whether it has a winner that was not told apart from the default.
    """
    study = is_study(folder)
    place = ["--task", plan.task, "--storage", str(folder.parent), "--name", folder.name]
    resume = [*(_STUDY if study else SWEEP), *place, "--resume"]
    known = [
        ("Let the winner act on held-out tasks", ["ssmrl", "evaluate", str(folder / "best")]),
        ("Make the trials that are missing, and judge", resume),
    ]
    if is_open and not study:
        more = "Train more fresh seeds, until winner and default are told apart"
        known.append((more, [*resume, "--confirm"]))
    known += [
        ("See what the trials say in numbers", ["ssmrl", "analyze", str(folder)]),
        ("See whether all files are sound", ["ssmrl", "doctor", str(folder)]),
        ("Write this page anew", ["ssmrl", "report", str(folder)]),
    ]
    return [(words, shlex.join(command)) for words, command in known]
