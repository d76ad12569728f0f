"""Which flags of a command line do not count when a sweep is gone on with; it reads no flags."""

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from tuning.plan import SweepPlan

# How a plan calls what a flag calls otherwise.
_FLAGS = {"settings": "set"}
_NAMES = {"budget_trials": "num_samples", "space": "space_path"}


def plan_of(params: Mapping[str, Any], **others: Any) -> SweepPlan:
    """The plan that a command line asks for.

    How many trials work at once follows from where they are placed, and the space from its file.

    Args:
        params: Values by the names of the command's parameters, of which many are fields of a plan;
            None leaves a field as is usual for the algorithm.
        others: Fields that the command calls otherwise.

    Raises:
        KeyError: All that a plan raises.
        ValueError: All that a plan raises.
    """
    named = {field.name for field in fields(SweepPlan)} - {"max_concurrent"}
    given = {name: value for name, value in params.items() if name in named}
    return SweepPlan(**given | others)


def ignored_flags(given: Mapping[str, Any], kept: SweepPlan) -> list[str]:
    """Those that ask for something else than the sweep to go on with has.

    Args:
        given: Flags of the command line that a plan keeps, by their parameters' names; None where
            one was left out.
        kept: The plan that counts.

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
    """What to say of the flags that do not count; empty if there are none.

    Args:
        context: Typer's, of the command.
        kept: The plan that counts.
        counting: Parameters that count all the same.
    """
    of_plan = {field.name for field in fields(SweepPlan)} | _NAMES.keys()
    given = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in context.params.items()
        if name in of_plan.difference(counting)
        and context.get_parameter_source(name).name == "COMMANDLINE"
    }
    flags = ignored_flags(given, kept)
    what = "`--resume` goes on with the run's own settings, so these do not count"
    return f"warning: {what}: {', '.join(flags)}" if flags else ""
