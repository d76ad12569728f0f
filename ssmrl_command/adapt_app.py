"""``ssmrl adapt``: adapts a saved policy to one task, episode by episode."""

from pathlib import Path
from typing import Annotated

import typer

from ssmrl.command_line import command_app, refuse
from ssmrl.shared_options import CheckpointArgument, EpisodesOption, JsonOption
from ssmrl_command.given_task import (
    SeedOption,
    TaskOption,
    task_of,
)

app = command_app()


@app.command()
def adapt_command(
    path: CheckpointArgument,
    task_parameters: TaskOption = None,
    num_episodes: EpisodesOption = None,
    seed: SeedOption = 0,
    save: Annotated[
        Path | None,
        typer.Option(help="File for the adapted policy; for algorithms that adapt by gradient."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Let a saved policy adapt to one task, and print the return of each episode.

    Example: ssmrl adapt runs/mine --task-parameters 0.6,0.8
    """
    from ssmrl.meta.adapted_policy import adapted_policy, check_saves
    from ssmrl.rollout.report import PolicyReport
    from ssmrl.saved_policy import SavedPolicy
    from ssmrl.strict_json import json_text
    from ssmrl.unknown_name import UnknownNameError

    try:
        saved = SavedPolicy.load(path)
        task = task_of(saved.config, task_parameters, seed)
        if save is not None:
            check_saves(saved.config)
    except (OSError, UnknownNameError, ValueError) as error:
        refuse(str(error))
    report = PolicyReport.of(
        saved.config, saved.params, draw=seed, task=task, num_episodes=num_episodes
    )
    if task_parameters is None and not as_json:
        typer.echo(f"the task was drawn from the test distribution with --seed {seed}")
    typer.echo(json_text(report.to_json()) if as_json else report.to_text())
    if save is None:
        return
    num_steps = report.lines[-1].episode
    adapted = adapted_policy(saved.config, saved.params, task, draw=seed, num_steps=num_steps)
    try:
        adapted.save(save)
    except OSError as error:
        refuse(str(error), 1)
    typer.echo(f"the policy after {num_steps} adaptation steps is in {save}", err=as_json)
