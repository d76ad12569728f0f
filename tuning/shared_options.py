"""Options that a sweep and a study share, each defined once."""

from typing import Annotated, TypeAlias

import typer

from ssmrl.meta.algorithms import ALGORITHMS
from ssmrl.shared_options import METHOD

TaskOption: TypeAlias = Annotated[str, typer.Option(help="Task family, for example ant-vel.")]
MethodOption: TypeAlias = Annotated[str, METHOD]
AlgorithmOption: TypeAlias = Annotated[
    str, typer.Option(help=f"Learning algorithm: {', '.join(ALGORITHMS)}.")
]
SearcherOption: TypeAlias = Annotated[str, typer.Option(help="tpe, gp, cmaes, qmc or random.")]
SeedOption: TypeAlias = Annotated[
    int, typer.Option(help="Random seed of the searcher and of training.")
]
SeedsPerTrialOption: TypeAlias = Annotated[
    int, typer.Option(help="Runs averaged into a trial's score.")
]
RetriesOption: TypeAlias = Annotated[
    int,
    typer.Option(
        help="Restarts of a trial whose process dies, from its last checkpoint; one that shows "
        "no sign of life is restarted once."
    ),
]
AddressOption: TypeAlias = Annotated[
    str | None, typer.Option(help="Ray cluster to join; by default a private local one.")
]
MaxConcurrentOption: TypeAlias = Annotated[
    int | None, typer.Option(help="Concurrent trials; by default as many as the CPUs allow.")
]
GpusPerTrialOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-trial",
        help="Share of a GPU, or number of GPUs, of each learning process of a trial, with "
        "--device cuda; by default an even share.",
    ),
]
NumEnvRunnersOption: TypeAlias = Annotated[int, typer.Option(help="Rollout actors of a trial.")]
CpusPerRunnerOption: TypeAlias = Annotated[
    float, typer.Option(help="Share of a CPU that Ray reserves for each rollout actor.")
]
NumLearnersOption: TypeAlias = Annotated[
    int, typer.Option(help="Learners that share the meta-updates of a trial.")
]
DashboardOption: TypeAlias = Annotated[
    bool, typer.Option("--dashboard", help="Run Ray's dashboard and print its address.")
]
