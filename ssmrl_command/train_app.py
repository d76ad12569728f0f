"""``ssmrl train``: the command line."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ssmrl.command_line import command_app, refuse
from ssmrl.log_option import LogOption
from ssmrl.shared_options import METHOD, DeviceOption, LastJsonOption, ResumeOption, SettingsOption
from ssmrl.strict_json import json_text

app = command_app()


@app.command()
def train_command(  # noqa: PLR0917  # one parameter a flag
    task: Annotated[
        str | None, typer.Option(help="Task family, for example halfcheetah-vel.")
    ] = None,
    algorithm: Annotated[
        str | None, typer.Option(help="Learning algorithm; context-sac by default.")
    ] = None,
    method: Annotated[str | None, METHOD] = None,
    env_steps: Annotated[
        int | None, typer.Option(help="Budget [env steps]; 200,000 by default.")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(help="Budget instead of --env-steps [CPU s of training, without evaluation]."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed; 0 by default.")] = None,
    num_seeds: Annotated[
        int | None,
        typer.Option(help="Seeds to train at once, counted from --seed; context-sac only."),
    ] = None,
    knobs: SettingsOption = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="CHECKPOINT",
            help="Checkpoint to start from, or the folder that holds one; its task, algorithm and "
            "knobs are the defaults.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the run; by default task, algorithm and time.")
    ] = None,
    storage: Annotated[Path, typer.Option(help="Folder of all runs.")] = Path("runs"),
    resume: ResumeOption = False,
    num_threads: Annotated[int, typer.Option(min=1, help="Threads of physics and learning.")] = 1,
    device: DeviceOption = None,
    num_evaluations: Annotated[
        int | None, typer.Option(help="Evaluations at equal shares of the budget; 4 by default.")
    ] = None,
    log: LogOption = None,
    as_json: LastJsonOption = False,
) -> None:
    """Train a policy in this process, and save it in a folder with its learning curve.

    Example: ssmrl train --task point --env-steps 2000 --name mine
    """
    from ssmrl_command.train import RefusedError, train
    from ssmrl_command.train_plan import Wishes

    say = partial(print, file=sys.stderr if as_json else sys.stdout, flush=True)
    wishes = Wishes(
        task=task,
        algorithm=algorithm,
        method=method,
        seed=seed,
        knobs=tuple(knobs or ()),
        max_env_steps=env_steps,
        max_cpu_seconds=seconds,
        num_evaluations=num_evaluations,
        num_seeds=num_seeds,
        checkpoint=checkpoint,
    )
    try:
        outcome = train(
            wishes,
            storage,
            name,
            resume=resume,
            num_threads=num_threads,
            device=device,
            log=log,
            say=say,
        )
    except RefusedError as error:
        refuse(str(error))
    if as_json and outcome.summary is not None:
        print(json_text(outcome.summary), flush=True)
    raise typer.Exit(outcome.exit_code)
