"""``ssmrl render``: makes a video of a saved policy on one task, before and after adaptation."""

from pathlib import Path
from typing import Annotated

import typer

from ssmrl.shared_options import CheckpointArgument, EpisodesOption, JsonOption
from ssmrl_command.given_task import (
    SeedOption,
    TaskOption,
    task_of,
)
from ssmrl_command.renderer import choose_renderer

# Not `command_app`: it imports MuJoCo, which reads MUJOCO_GL only once, at import.
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def render_command(
    path: CheckpointArgument,
    task_parameters: TaskOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.mp4|FILE.gif",
            help="Video file; by default render.mp4 beside the checkpoint.",
        ),
    ] = None,
    num_episodes: EpisodesOption = None,
    seed: SeedOption = 0,
    size: Annotated[
        int,
        typer.Option(help="Width of each half; the video is 2 SIZE wide, 1.25 SIZE high [pixels]."),
    ] = 480,
    as_json: JsonOption = False,
) -> None:
    """Film a saved policy on one task, before and after adaptation side by side.

    The left half shows the first episode, without adaptation; the right half shows the last of
    --episodes, with it. Each env step is a frame. Without a display, robots are drawn by
    MUJOCO_GL=egl or osmesa.

    Example: ssmrl render runs/mine --output mine.gif
    """
    choose_renderer()
    from ssmrl.command_line import refuse
    from ssmrl.envs.batched_env import NoPictureError
    from ssmrl.saved_policy import SavedPolicy
    from ssmrl.strict_json import json_text
    from ssmrl.unknown_name import UnknownNameError
    from ssmrl.video.writer import check_output

    target = output or (path if path.is_dir() else path.parent) / "render.mp4"
    try:
        saved = SavedPolicy.load(path)
        task = task_of(saved.config, task_parameters, seed)
        check_output(target)
        # These import the drawing package that was just checked.
        from ssmrl.video.frame import check_size
        from ssmrl.video.render import render

        check_size(size)
        horizon = saved.config.env.horizon
        typer.echo(f"filming two episodes of at most {horizon} env steps", err=True)
        video = render(saved, task, target, seed=seed, num_episodes=num_episodes, size=size)
    except (ImportError, NoPictureError, OSError, UnknownNameError, ValueError) as error:
        refuse(" ".join(str(error).split()))
    if as_json:
        typer.echo(json_text(video.to_json() | {"is_drawn": task_parameters is None}))
        return
    if task_parameters is None:
        typer.echo(f"the task was drawn from the test distribution with --seed {seed}")
    typer.echo(video.to_text())
