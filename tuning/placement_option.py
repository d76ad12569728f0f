"""The flag ``--gpus-per-trial``, the same for every command that has it."""

from typing import Annotated, TypeAlias

import typer

GpusPerTrialOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-trial",
        help="Share of a GPU per trial, with --device cuda; by default 1 / trials at once per GPU.",
    ),
]
