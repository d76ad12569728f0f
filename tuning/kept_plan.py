"""The plan of an existing sweep: from ``config.json``, or from its copy in the round log."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ssmrl.format import FormatError
from ssmrl.strict_json import json_object, json_text
from tuning.ending import LostError
from tuning.plan import SweepPlan
from tuning.table.append_only import look_at
from tuning.table.record_files import RECORD_FILES, ROUNDS
from tuning.table.round_log import PLAN

CONFIG = "config.json"
_OF_A_START = ("time_budget_s", "max_concurrent", "space_path")  # which each start may change
_PARTS = frozenset({"base", "space", "limits", "task"})


def kept_plan(
    plan: SweepPlan,
    folder: Path,
    *,
    resume: bool,
    what: str = "sweep",
    say: Callable[[str], object] = print,
) -> SweepPlan | None:
    """The recorded plan of the sweep to resume; None for a new sweep.

    Args:
        plan: Requested plan.
        folder: Folder of the sweep.
        resume: Whether to resume a sweep.
        what: Word for it in messages, such as sweep or study.
        say: Prints a line if the plan is restored from its copy.

    Raises:
        ValueError: If a sweep exists but ``resume`` is false, if none exists but it is true, or if
            the sweep has another task.
        LostError: If both the plan and its copy are damaged or gone.
    """
    exists = any((folder / name).exists() for name in (CONFIG, *RECORD_FILES))
    if not resume:
        if exists:
            raise ValueError(
                f"there is a {what} in {folder} already; resume it with `--resume`, or choose "
                "another `--name`"
            )
        return None
    if not exists:
        raise ValueError(f"there is no {what} in {folder} to resume")
    kept = written_plan(folder, say)
    if kept.task != plan.task:
        raise ValueError(f"the {what} in {folder} is on task {kept.task!r}, not {plan.task!r}")
    return kept


def written_plan(folder: Path, say: Callable[[str], object]) -> SweepPlan:
    """The recorded plan of a sweep, or its copy.

    Args:
        folder: Folder of the sweep or study.
        say: Prints a line if the plan is restored from its copy.

    Raises:
        ValueError: If another version wrote it.
        LostError: If both the plan and its copy are damaged or gone.
    """
    path = folder / CONFIG
    try:
        return SweepPlan.from_json(path.read_text(), str(path))
    except FormatError:
        raise
    except (OSError, ValueError) as error:
        copy = logged_plan(folder)
        if copy is None and is_whole(path):
            raise  # another version wrote it
        why = "is gone" if isinstance(error, FileNotFoundError) else "is damaged"
        if copy is None:
            raise LostError(
                f"{path} {why}, and no record of {ROUNDS} holds a copy of the plan; restore the "
                "file; trials.jsonl can be read without it"
            ) from error
    say(f"{path} {why}; it is restored from the plan in {ROUNDS}")
    return copy


def logged_plan(folder: Path) -> SweepPlan | None:
    """The copy of a sweep's plan in its round log; None if there is no readable one.

    Args:
        folder: Folder of the sweep or study.

    Raises:
        ValueError: If another version wrote it.
    """
    for content in _copies(folder):
        return SweepPlan.from_json(json_text(content["plan"]), f"the plan in {ROUNDS}")
    return None


def is_study(folder: Path) -> bool:
    """Whether the round log of a folder says that it is a study, in which agents decide."""
    return any(content.get("what") == "study" for content in _copies(folder))


def changed_fields(plan: SweepPlan, copy: SweepPlan) -> list[str]:
    """The differences of a plan from its copy, in fields that no start may change.

    Args:
        plan: Current plan.
        copy: Plan at the beginning of the sweep.
    """
    return [
        f"`{field.name}` is {getattr(plan, field.name)!r}, and was {getattr(copy, field.name)!r}"
        for field in fields(plan)
        if field.name not in _OF_A_START and getattr(plan, field.name) != getattr(copy, field.name)
    ]


def is_whole(path: Path) -> bool:
    """Whether a file holds a whole plan, even if another version wrote it."""
    try:
        return json_object(path.read_bytes(), "it").keys() >= _PARTS
    except (OSError, ValueError):
        return False


def _copies(folder: Path) -> list[Mapping[str, Any]]:
    records = [line.record for line in look_at(folder / ROUNDS).lines if line.record is not None]
    return [record.content for record in records if record.content.get("event") == PLAN]
