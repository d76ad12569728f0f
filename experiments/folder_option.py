"""What the experiments accept as the folder of their results; not what they leave in it."""

from pathlib import Path

import typer

from ssmrl.files import check_mounted


def mounted(parameter: typer.CallbackParam, folder: Path | None) -> Path | None:
    """The folder that a flag gave: the callback of its ``typer.Option``.

    Args:
        parameter: The flag.
        folder: What it gave; None if it was left out.

    Raises:
        typer.BadParameter: If it is an address, of which a folder ``s3:`` would be made here.
    """
    if folder is not None:
        try:
            check_mounted(parameter.opts[0], folder)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    return folder
