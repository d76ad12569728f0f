"""``python -m experiments.benchmarks.learning``: one seed's learning curve, with its control.

It is no benchmark of speed, and no comparison: it writes one CSV per seed, and a figure of all.
"""

import dataclasses
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.session import session
from experiments.benchmarks.curves import CurveRow, draw_curves
from experiments.benchmarks.learning_run import LearningRun
from experiments.folder_option import mounted
from ssmrl.checkpoint import CheckpointError
from ssmrl.command_line import command_app
from ssmrl.config import METHODS, PolicyConfig, TrainConfig
from ssmrl.meta.diverged import DivergedError
from ssmrl.rollout.worker import env_shape
from ssmrl.run import fingerprint

app = command_app()


@app.command()
def learning(  # noqa: PLR0917  # one parameter a flag
    task: Annotated[str, typer.Option(help="Task family.")],
    method: Annotated[str, typer.Option(help=f"Sequence model: {', '.join(METHODS)}.")] = "mlp",
    hidden_dim: Annotated[int | None, typer.Option(help="Width of the layers.")] = None,
    state_dim: Annotated[int | None, typer.Option(help="State size of the ssm [reals].")] = None,
    preset: Annotated[str | None, typer.Option(help="Named sizes instead of widths.")] = None,
    knob: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE, any knob; may be repeated.")
    ] = None,
    env_steps: Annotated[int, typer.Option(min=1, help="Budget [env steps].")] = 20_000_000,
    seed: Annotated[
        int, typer.Option(min=0, help="Random seed of weights, tasks and rollouts.")
    ] = 0,
    shuffled_rewards: Annotated[
        bool, typer.Option("--shuffled-rewards", help="Adapt on shuffled rewards in training, too.")
    ] = False,
    output: Annotated[
        Path,
        typer.Option(help="Folder of the curves.", callback=mounted),
    ] = Path("experiments/results"),
    checkpoints: Annotated[
        Path,
        typer.Option(help="Folder of the checkpoints.", callback=mounted),
    ] = Path("runs/learning"),
    num_threads: Annotated[int, typer.Option(help="Threads of the physics; 0: all cores.")] = 0,
    plot: Annotated[
        bool, typer.Option("--plot", help="Only draw the task's curves in the folder.")
    ] = False,
) -> None:
    """Meta-train one seed, with a row per iteration; the same command resumes it."""
    try:
        if plot:
            typer.echo(f"figure in {draw_curves(task, output)}")
            return
        sizes = {"policy.hidden_dim": hidden_dim, "policy.state_dim": state_dim}
        config = configured(
            task,
            method,
            {name: value for name, value in sizes.items() if value is not None},
            preset=preset,
            knobs=dict(_parsed(text) for text in knob or []),
            seed=seed,
        )
    except (KeyError, ValueError, TypeError) as error:
        typer.echo(error.args[0], err=True)
        raise typer.Exit(2) from error
    label = curve_label(config, preset=preset, named=not knob, shuffled_rewards=shuffled_rewards)
    run = LearningRun(
        config,
        curve=output / f"learning-{task}-{label}-seed{seed}.csv",
        checkpoints=checkpoints / "shuffled" if shuffled_rewards else checkpoints,
        shuffled_rewards=shuffled_rewards,
        num_threads=num_threads,
    )
    _run_or_explain(run, env_steps)
    typer.echo(f"{run.env_steps:,} of {env_steps:,} env steps; curve in {run.curve}")


def _run_or_explain(run: LearningRun, env_steps: int) -> None:
    """Train; report errors that the user can fix in one sentence."""
    try:
        run.restore()
        if run.env_steps < env_steps:
            _train(run, env_steps)
    except (FileExistsError, CheckpointError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    except BlockingIOError as error:
        typer.echo(f"another process is training {run.curve}", err=True)
        raise typer.Exit(2) from error
    except DivergedError as error:
        typer.echo(f"diverged after {run.env_steps:,} env steps: {error}", err=True)
        raise typer.Exit(1) from error


def configured(
    task: str,
    method: str,
    sizes: dict[str, int],
    *,
    preset: str | None,
    knobs: dict[str, Any],
    seed: int,
) -> TrainConfig:
    """The configuration that the flags describe.

    Raises:
        KeyError: If task, preset or a knob is unknown.
        ValueError: If a value is out of range, or sizes are given twice.
        TypeError: If a knob's value has the wrong type.
    """
    config = TrainConfig.for_task(task, "promp").with_knobs({"policy.method": method, "seed": seed})
    if preset is not None:
        if sizes:
            raise ValueError(f"`--preset` gives the sizes, but {sorted(sizes)} were given, too")
        config = dataclasses.replace(config, policy=_preset(preset, method, config))
    return config.with_knobs(sizes | knobs)


def _preset(name: str, method: str, config: TrainConfig) -> PolicyConfig:
    from ssmrl.models.presets import preset

    policy: PolicyConfig = preset(name, method, *env_shape(config.env))
    return policy


def _parsed(text: str) -> tuple[str, Any]:
    """Parse a knob and its value from the command line."""
    name, equals, value = text.partition("=")
    known = TrainConfig(algorithm="promp").knobs()
    if not equals or name not in known:
        raise KeyError(f"`--knob` must be NAME=VALUE, but got {text!r}; known: {', '.join(known)}")
    kind = type(known[name])
    return name, value.lower() in ("true", "1", "yes") if kind is bool else kind(value)


def curve_label(
    config: TrainConfig, *, preset: str | None, named: bool, shuffled_rewards: bool
) -> str:
    """A name that the seeds of one curve share and other curves do not.

    Args:
        config: Configuration to train.
        preset: Name of the sizes.
        named: Whether the sizes identify the curve; otherwise a fingerprint is added.
        shuffled_rewards: Whether the curve is that of the control.
    """
    policy = config.policy
    memory = f"x{policy.state_dim}" if policy.method == "ssm" else ""
    parts = [preset or f"{policy.hidden_dim}{memory}"]
    if not named:
        parts.append(fingerprint(dataclasses.replace(config, seed=0))[:6])
    if shuffled_rewards:
        parts.append("shuffled")
    return "-".join([policy.method, *parts])


def _train(run: LearningRun, env_steps: int) -> None:
    """Train until the budget is spent or a stop is requested; then write a checkpoint."""
    with session(), run.started():
        asked: list[int] = []
        for number in (signal.SIGINT, signal.SIGTERM):
            # Set after Ray's own handlers. A second signal ends the process at once.
            signal.signal(number, lambda n, _: _ask(asked, n))
        try:
            while run.env_steps < env_steps and not asked:
                _print(run.advance(env_steps))
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
        run.save()
    if asked:
        typer.echo("stopped; the same command resumes it")
        raise typer.Exit(128 + asked[0])


def _ask(asked: list[int], number: int) -> None:
    if asked:
        raise SystemExit(128 + number)
    asked.append(number)
    typer.echo("stopping after this iteration; signal again to stop at once")


def _print(row: CurveRow) -> None:
    text = (
        f"{row['env_steps']:>12,.0f} env steps, {row['seconds']:6.2f} s, "
        f"return {row['return_before']:9.2f} -> {row['return_after']:9.2f}"
    )
    if "held_out_after" in row:
        text += (
            f" | held out {row['held_out_before']:9.2f} -> {row['held_out_after']:9.2f}, "
            f"on shuffled rewards {row['held_out_shuffled']:9.2f}"
        )
    typer.echo(text)


if __name__ == "__main__":
    app()
