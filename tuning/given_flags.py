"""Which flags of a command line are ignored when a sweep is resumed; it reads no flags."""

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from tuning.plan import SweepPlan

# Parameters with another name than their flag, or than their field of the plan.
_FLAGS = {"settings": "set"}
_NAMES = {"budget_trials": "num_samples", "space": "space_path"}


def plan_of(params: Mapping[str, Any], **others: Any) -> SweepPlan:
    """The plan that a command line asks for.

    The number of concurrent trials is set later by the placement, and the space by its file.

    Args:
        params: Values by the names of the command's parameters; those of a plan's fields are used.
            None leaves the algorithm's default.
        others: Fields that have another name in the command.

    Raises:
        KeyError: As ``SweepPlan`` raises it.
        ValueError: As ``SweepPlan`` raises it.
    """
    named = {field.name for field in fields(SweepPlan)} - {"max_concurrent"}
    given = {name: value for name, value in params.items() if name in named}
    return SweepPlan(**given | others)


def ignored_flags(given: Mapping[str, Any], kept: SweepPlan) -> list[str]:
    """The flags whose values differ from those of the sweep to resume.

    Args:
        given: Values of the flags that a plan keeps, by parameter name; None for one that was not
            given.
        kept: Plan of the sweep to resume.

    Returns:
        Each flag with its value.

    Example:
        >>> ignored_flags({"seed": 1, "num_samples": 8}, SweepPlan("point", seed=2))
        ['--seed 1']
    """
    return [
        f"--{_FLAGS.get(name, name.replace('_', '-'))} {value}"
        for name, value in given.items()
        if value is not None and str(value) != str(getattr(kept, _NAMES.get(name, name)))
    ]


def ignored_line(context: Any, kept: SweepPlan, counting: Collection[str]) -> str:
    """The warning about ignored flags; empty if there are none.

    Args:
        context: Typer's context of the command.
        kept: Plan of the sweep to resume.
        counting: Parameters that are used all the same.
    """
    of_plan = {field.name for field in fields(SweepPlan)} | _NAMES.keys()
    given = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in context.params.items()
        if name in of_plan.difference(counting)
        and context.get_parameter_source(name).name == "COMMANDLINE"
    }
    flags = ignored_flags(given, kept)
    what = "`--resume` uses the run's own settings, so these are ignored"
    return f"warning: {what}: {', '.join(flags)}" if flags else ""
