"""Describes what a study would do, for ``--dry-run``."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agents.budget import KINDS, Budget
from tuning.placement import Placement
from tuning.plan import SweepPlan
from tuning.spaces.ranges import range_text


def description(
    plan: SweepPlan, budget: Budget, folder: Path, model: str | None, placement: Placement
) -> dict[str, Any]:
    """A study that has not started, as plain data.

    Args:
        plan: The plan of its trials.
        budget: Its total budget.
        folder: Its folder.
        model: The model that would answer; None for the offline brain.
        placement: Devices that trials would run on.
    """
    limits = plan.limits().ranges
    left = {kind: budget.limit(kind) for kind in KINDS}
    return {
        "task": plan.task,
        "method": plan.method,
        "folder": str(folder),
        "brain": model or "offline",
        "device": placement.device,
        "placement": [line.strip() for line in placement.lines(plan)],
        "trials_of_rounds": plan.trials_of_rounds(),
        "num_confirmed": plan.num_confirmed,
        "num_fresh_seeds": plan.num_fresh_seeds,
        "budget": {kind: limit for kind, limit in left.items() if math.isfinite(limit)},
        "space": {
            knob: {"range": range_text(a_range), "limits": range_text(limits[knob])}
            for knob, a_range in plan.space().ranges.items()
        },
    }


def as_text(content: Mapping[str, Any]) -> str:
    """The description as lines of text."""
    rounds = ", ".join(map(str, content["trials_of_rounds"]))
    budget = ", ".join(f"{kind} {limit:g}" for kind, limit in content["budget"].items())
    return "\n".join(
        [
            f"study of {content['task']} ({content['method']}) in {content['folder']}",
            f"brain: {content['brain']}",
            f"rounds of {rounds} trials, then {content['num_confirmed']} trained again, and "
            f"{content['num_fresh_seeds']} fresh seeds of the winner and of the default",
            *content["placement"],
            f"budget: {budget}",
            *(
                f"  {knob}: {texts['range']}, limits {texts['limits']}"
                for knob, texts in content["space"].items()
            ),
        ]
    )
