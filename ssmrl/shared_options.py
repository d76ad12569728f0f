"""Options that several commands have, each defined once."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

CheckpointArgument: TypeAlias = Annotated[
    Path, typer.Argument(help="A checkpoint, or the folder that holds one.")
]
EpisodesOption: TypeAlias = Annotated[
    int | None,
    typer.Option("--episodes", min=1, help="Episodes per task; by default the algorithm's."),
]
DeviceOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="cpu|cuda|cuda:N",
        help="Device of the networks; physics stays on CPUs. By default cpu; a resumed run keeps "
        "its device.",
    ),
]
SettingsOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KNOB=VALUE", help="Override a knob's value; repeatable."),
]
ResumeOption: TypeAlias = Annotated[
    bool, typer.Option("--resume", help="Resume NAME with its own settings.")
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
LastJsonOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON object at the end of stdout.")
]

METHOD = typer.Option(help="Sequence model: ssm, lstm, gru, transformer or mlp.")
"""The option ``--method``; commands give it different defaults."""
