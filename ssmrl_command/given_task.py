"""The one task that a command line names, or leaves to be drawn."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:  # what starts slowly waits until the line was read
    from ssmrl.config import TrainConfig
    from ssmrl.envs.task import Task

TaskOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--task-parameters",
        metavar="X[,X...]",
        help="Hidden variables of the task, for example 2.0; by default drawn from the family's "
        "test distribution with --seed.",
    ),
]
SeedOption: TypeAlias = Annotated[
    int, typer.Option(min=0, help="Random seed of start states, exploration and a drawn task.")
]
CheckpointArgument: TypeAlias = Annotated[
    Path, typer.Argument(help="A checkpoint, or the folder that holds one.")
]
EpisodesOption: TypeAlias = Annotated[
    int | None,
    typer.Option("--episodes", min=1, help="With the task; by default the algorithm's own."),
]


def numbers(text: str) -> list[float]:
    """Numbers with commas between them.

    Raises:
        ValueError: If one is none.

    Example:
        >>> numbers("0.6, -0.8")
        [0.6, -0.8]
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(
            f"`--task-parameters` must be numbers with commas between them, but got {text!r}"
        ) from error


def task_of(config: "TrainConfig", text: str | None, seed: int) -> "Task":
    """The task that is meant.

    Args:
        config: Names its family.
        text: Its hidden variables; None where it is drawn.
        seed: What it is drawn with.

    Raises:
        ValueError: If they are not as many finite numbers as the family has hidden variables.
    """
    from ssmrl.envs.families import get_family
    from ssmrl.rollout.assignment import drawn_task

    if text is None:
        return drawn_task(config, seed)
    return get_family(config.env.task).task(numbers(text))
