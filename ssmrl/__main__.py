"""``python -m ssmrl``: judge a saved policy."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ssmrl.checkpoint import Checkpoint, CheckpointError
from ssmrl.envs.families import get_family
from ssmrl.meta.initial_actor import saved_actor
from ssmrl.rollout.evaluate import REPORTED_STEPS
from ssmrl.train import evaluate

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
    path: Annotated[Path, typer.Argument(help="A checkpoint, or the folder that holds one.")],
    draw: Annotated[int, typer.Option(min=0, help="Which set of held-out tasks.")] = 0,
    num_tasks: Annotated[
        int | None, typer.Option(min=1, help="Held-out tasks; the checkpoint's own by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Adapt a saved policy to held-out tasks and print the return after each step."""
    try:
        saved = Checkpoint.load(path / "checkpoint.safetensors" if path.is_dir() else path)
    except (FileNotFoundError, CheckpointError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    config = saved.config
    if num_tasks is not None:
        config = config.with_knobs({"evaluation.num_tasks": num_tasks})
    evaluation = evaluate(config, saved_actor(saved), num_steps=max(REPORTED_STEPS), draw=draw)
    bound = get_family(config.env.task).no_adaptation_bound(config.env.horizon)
    means = evaluation.mean_returns()
    if as_json:
        returns = {str(k): means[k] for k in REPORTED_STEPS}
        typer.echo(
            json.dumps({"task": config.env.task, "returns": returns, "no_adaptation_bound": bound})
        )
        return
    typer.echo(f"{config.env.task}: {config.evaluation.num_tasks} held-out tasks, draw {draw}")
    for k in REPORTED_STEPS:
        low, high = evaluation.interval(k)
        typer.echo(f"  after {k} adaptation steps: {means[k]:9.2f}  [{low:.2f}, {high:.2f}]")
    if bound is not None:
        typer.echo(f"  no policy without adaptation exceeds {bound:.2f}")


if __name__ == "__main__":
    app()
