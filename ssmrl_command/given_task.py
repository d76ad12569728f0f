"""The options of commands on one task, which is named or drawn."""

from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:  # slow imports wait until the command line was parsed
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


def numbers(text: str) -> list[float]:
    """The numbers of a comma-separated list.

    Raises:
        ValueError: If a part is not a number.

    Example:
        >>> numbers("0.6, -0.8")
        [0.6, -0.8]
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(
            f"`--task-parameters` must be numbers separated by commas, but got {text!r}"
        ) from error


def task_of(config: "TrainConfig", text: str | None, seed: int) -> "Task":
    """The task of a command line.

    Args:
        config: Configuration with the task family.
        text: Hidden variables of the task; None to draw it.
        seed: Random seed of the draw.

    Raises:
        ValueError: If ``text`` is not one finite number for each hidden variable of the family.
    """
    from ssmrl.envs.families import get_family
    from ssmrl.rollout.assignment import drawn_task

    if text is None:
        return drawn_task(config, seed)
    return get_family(config.env.task).task(numbers(text))
