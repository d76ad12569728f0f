"""Check of the folders that flags of the experiments name; nothing is written there."""

from pathlib import Path

import typer

from ssmrl.files import check_mounted


def mounted(parameter: typer.CallbackParam, folder: Path | None) -> Path | None:
    """Callback of a folder's ``typer.Option``: returns the folder unless it is an address.

    Args:
        parameter: The flag.
        folder: Value of the flag; None if it was left out.

    Raises:
        typer.BadParameter: If it is an address such as ``s3://...``, which would create a local
            folder ``s3:``.
    """
    if folder is not None:
        try:
            check_mounted(parameter.opts[0], folder)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    return folder
