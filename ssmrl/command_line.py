"""What every command of this project has in common: how it is made, and how it refuses."""

from typing import Any, NoReturn

import typer

from ssmrl.printable import printable

REFUSED = 2
"""The exit code of what was refused before any work began."""


def command_app(**settings: Any) -> typer.Typer:
    """An application of one command, without colours, boxes and tracebacks that show variables.

    Args:
        settings: More of typer's own.
    """
    return typer.Typer(
        add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, **settings
    )


def refuse(message: str, code: int = REFUSED) -> NoReturn:
    """End the command with one line on stderr.

    Args:
        message: What is wrong and what to do; of what could steer a terminal a `?` is left.
        code: Of the exit.
    """
    typer.echo(f"error: {printable(message)}", err=True)
    raise typer.Exit(code)
