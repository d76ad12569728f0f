"""The option ``--device``, shared by every command that has it."""

from typing import Annotated, TypeAlias

import typer

DeviceOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="cpu|cuda|cuda:N",
        help="Device of the networks; physics stays on CPUs. By default cpu; a resumed run keeps "
        "its device.",
    ),
]
