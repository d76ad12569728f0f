"""The flag ``--gpus-per-trial``, the same for every command that has it."""

from typing import Annotated, TypeAlias

import typer

GpusPerTrialOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-trial",
        help="With --device cuda, a trial's share of a GPU; by default 1 / trials at once per GPU.",
    ),
]
