"""``python -m ssmrl evaluate``: evaluate a saved policy, the same as ``ssmrl evaluate``."""

from typing import Annotated

import typer

from ssmrl.device import checked_device
from ssmrl.device_memory import DeviceMemoryError, device_memory
from ssmrl.rollout.report import PolicyReport
from ssmrl.saved_policy import SavedPolicy
from ssmrl.shared_options import CheckpointArgument, DeviceOption, EpisodesOption, JsonOption
from ssmrl.strict_json import json_text

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def main() -> None:
    """Meta-learning with state space model policies on MuJoCo task families."""


@app.command("evaluate")
def evaluate_command(
    path: CheckpointArgument,
    draw: Annotated[int, typer.Option(min=0, help="Index of the held-out task set.")] = 0,
    num_tasks: Annotated[
        int | None, typer.Option(min=1, help="Held-out tasks; by default as in the checkpoint.")
    ] = None,
    num_episodes: EpisodesOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Adapt a saved policy to held-out tasks and print the return of each episode.

    The checkpoint may come from any device.

    Example: ssmrl evaluate runs/mine --num-tasks 10
    """
    try:
        there = checked_device(device or "cpu")
        saved = SavedPolicy.load(path)
    except (OSError, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    config = saved.config
    if num_tasks is not None:
        config = config.with_knobs({"evaluation.num_tasks": num_tasks})
    try:
        with device_memory(config):
            report = PolicyReport.of(
                config, saved.params, draw=draw, num_episodes=num_episodes, device=there
            )
    except DeviceMemoryError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    content = report.to_json() | {"device": str(there)}
    typer.echo(json_text(content) if as_json else report.to_text())


if __name__ == "__main__":
    app()
