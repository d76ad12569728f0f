"""The flag ``--device``, the same for every command that has it."""

from typing import Annotated, TypeAlias

import typer

DeviceOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="cpu|cuda|cuda:N",
        help="Where networks compute; physics stays on CPUs. By default cpu; with --resume, where "
        "there is one, as before.",
    ),
]
