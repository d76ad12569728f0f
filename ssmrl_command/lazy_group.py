"""Subcommands that are imported only when they are called."""

import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from ssmrl_command.renderer import RendererError, check_renderer


@dataclass(frozen=True)
class Subcommand:
    """Import path and summary of a subcommand.

    Attributes:
        path: ``package.module:NAME`` of its typer application, which ``python -m`` runs as well.
        summary: A line for the list of subcommands.
        within: Name within the application, if that has several commands.
        starts_slowly: Whether its imports take seconds, during which Ctrl-C ends it with one line.
    """

    path: str
    summary: str
    within: str = ""
    starts_slowly: bool = False

    def load(self) -> Any:
        """Import the subcommand and return its command object."""
        module, _, name = self.path.partition(":")
        command: Any = typer.main.get_command(getattr(import_module(module), name))
        return command.commands[self.within] if self.within else command


class _LazyGroup(TyperGroup):
    """Replaces the entry of a subcommand by the real one when it is called."""

    subcommands: Mapping[str, Subcommand]

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        known = self.subcommands.get(name or "")
        if known is None:
            return name, command, rest
        if not ctx.resilient_parsing:
            try:
                check_renderer()
            except RendererError as error:
                typer.echo(f"error: {error}", err=True)
                raise typer.Exit(2) from error
            if known.starts_slowly:
                from tuning.folder.quiet_start import quiet_start

                quiet_start()
        return name, known.load(), rest


def lazy_app(subcommands: Mapping[str, Subcommand], *, add_completion: bool) -> typer.Typer:
    """A typer application with the subcommands of a table.

    Args:
        subcommands: Subcommands by name, in the order of the help.
        add_completion: Whether the application can install shell completion.
    """
    group = type("Group", (_LazyGroup,), {"subcommands": subcommands})
    app = typer.Typer(
        cls=group,
        add_completion=add_completion,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for name, known in subcommands.items():
        app.command(name, help=known.summary)(_entry)
    return app


def _entry() -> None:
    """Placeholder of a subcommand that is not imported yet."""


def find_own_modules() -> None:
    """Allow imports from the working directory, as ``python -m`` does.

    By default an installed command imports installed packages only. Those keep precedence.
    """
    with suppress(OSError):  # a working directory that was removed holds no modules
        here = str(Path.cwd())
        if here not in sys.path and "" not in sys.path:
            sys.path.append(here)
