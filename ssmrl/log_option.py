"""The option ``--log`` of commands that train."""

from typing import Annotated, TypeAlias

import typer

from ssmrl.command_line import refuse
from ssmrl.train_log import LogKind, checked_log

LogOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="tensorboard|wandb", help="Also log training to TensorBoard or Weights & Biases."
    ),
]


def asked_log(log: str | None) -> LogKind | None:
    """Check ``--log`` before any work begins; end the command with one line if it is unusable."""
    try:
        return None if log is None else checked_log(log)
    except (ImportError, ValueError) as error:
        refuse(str(error))
