"""Helpers shared by all commands of this project: the typer app, and exits with an error."""

from typing import Any, NoReturn

import typer

from ssmrl.printable import printable

REFUSED = 2
"""Exit code for input that is refused before any work begins."""


def command_app(**settings: Any) -> typer.Typer:
    """A typer application without colours, boxes or tracebacks that show variables.

    Args:
        settings: Further arguments of ``typer.Typer``.
    """
    return typer.Typer(
        add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, **settings
    )


def refuse(message: str, code: int = REFUSED) -> NoReturn:
    """End the command with one line on stderr.

    Args:
        message: What is wrong and what to do; terminal control characters are printed as `?`.
        code: Exit code.
    """
    typer.echo(f"error: {printable(message)}", err=True)
    raise typer.Exit(code)
