"""``python -m experiments.benchmarks.scaling``: iterations on 1 to 8 runners, and a model of them.

It compares with no peer: it shows where the time goes when runners are added.
"""

import csv
import io
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cluster.algorithm import MAMLConfig
from cluster.session import session
from experiments.benchmarks.harness import Row, table
from experiments.benchmarks.scaling_model import Layout, Measurement, ScalingModel
from experiments.folder_option import mounted
from experiments.plots import Curve, log_log_lines
from ssmrl.command_line import command_app
from ssmrl.config import PolicyConfig, TrainConfig
from ssmrl.files import replace_file
from tuning.plan import usable_cpus

TASK = "halfcheetah-dir"
WEAK_TASKS = 10  # tasks of each runner
MAX_ERROR = 0.15
MAX_OVERHEAD = 0.05
NETWORK_BYTES_PER_S = 1.25e9  # in the predictions for many machines: 10 Gbit/s
PREDICTED_RUNNERS = (1, 2, 4, 8, 16, 40, 100, 400, 1000)
FITTED = (1, 4)  # numbers of runners that the constants are fitted to; others check

COLUMNS = (
    *("kind", "runners", "tasks", "iteration_s", "play_and_transport_s", "update_s", "other_s"),
    *("trajectory_bytes", "weight_bytes", "predicted_s", "error", "use"),
)

app = command_app()


@app.command()
def scaling(
    runners: Annotated[str, typer.Option(help="Numbers of runners, with commas.")] = "1,2,4,8",
    repeats: Annotated[int, typer.Option(min=1, help="Timed iterations of each.")] = 5,
    num_tasks: Annotated[int, typer.Option(min=1, help="Tasks of the strong-scaling batch.")] = 40,
    num_episodes: Annotated[int, typer.Option(min=1, help="Episodes per task.")] = 20,
    method: Annotated[str, typer.Option(help="Sequence model.")] = "mlp",
    hidden_dim: Annotated[int, typer.Option(min=1, help="Width of the layers.")] = 64,
    output: Annotated[
        Path,
        typer.Option(help="Folder of the table and the figure.", callback=mounted),
    ] = Path("experiments/results"),
) -> None:
    """Time meta-iterations with a fixed meta-batch (strong) and with one that grows (weak).

    Constants are fitted to the iterations on 1 and 4 runners, and checked on all others.
    """
    numbers = _numbers(runners)
    policy = PolicyConfig(method=method, hidden_dim=hidden_dim)
    default = TrainConfig.for_task(TASK, "promp")
    base = replace(default, policy=policy).with_knobs({"meta.num_episodes": num_episodes})
    cases = [("strong", number, num_tasks) for number in numbers]
    cases += [("weak", number, WEAK_TASKS * number) for number in numbers]
    measured: list[tuple[str, Measurement]] = []
    # Logical CPUs, one for each runner: more runners than cores take turns.
    with session(num_cpus=max(numbers) + 1):
        for kind, number, tasks in cases:
            config = base.with_knobs({"meta.num_tasks": tasks})
            one = measure(config, number, repeats=repeats)
            measured.append((kind, one))
            typer.echo(
                f"{kind:<6} {number} runners, {tasks} tasks: {one.total_s:.2f} s, "
                f"sampling {one.sample_s:.2f}, update {one.update_s:.2f}, other {one.other_s:.3f}"
            )
    model = ScalingModel.fit(_fitted([one for _, one in measured]))
    typer.echo(f"\n{table(rows(measured, model))}\n")
    typer.echo(predictions(model, replace(measured[0][1].layout, num_tasks=num_tasks)))
    output.mkdir(parents=True, exist_ok=True)
    replace_file(output / "scaling.csv", as_csv(measured, model))
    draw(output / "scaling.png", measured, model)
    typer.echo(f"rows in {output / 'scaling.csv'}, figure beside it")


def measure(config: TrainConfig, num_runners: int, *, repeats: int) -> Measurement:
    """Median stages of an iteration; Ray must be running.

    Args:
        config: Configuration to train.
        num_runners: Rollout actors, each with one thread of physics.
        repeats: Timed iterations, after an untimed one.
    """
    settings = MAMLConfig().training(train_config=config, num_physics_threads=1)
    algorithm = settings.env_runners(num_env_runners=num_runners).build_algo()
    stages: list[tuple[float, float, float]] = []
    for turn in range(repeats + 1):
        result = algorithm.train()
        parts = result["env_runners"]
        sample, update = float(parts["sample_seconds"]), float(parts["update_seconds"])
        if turn:
            stages.append((sample, update, float(result["time_this_iter_s"]) - sample - update))
    weights = algorithm.learner_group.get_weights()
    weight_bytes = sum(value.nbytes for module in weights.values() for value in module.values())
    algorithm.stop()
    sample, update, other = (statistics.median(column) for column in zip(*stages, strict=True))
    layout = Layout(num_runners, config.meta.num_tasks, usable_cpus())
    return Measurement(layout, sample, update, other, parts["trajectory_bytes"], weight_bytes)


def rows(measured: Sequence[tuple[str, Measurement]], model: ScalingModel) -> list[Row]:
    """Rows of the measurements: the overhead, and the model's errors."""
    found = []
    for kind, one in measured:
        layout = one.layout
        overhead = one.other_s / one.total_s
        found.append(
            Row(
                f"{kind}, {layout.num_runners} runners, {layout.num_tasks} tasks: share outside of "
                "sampling and learning",
                overhead,
                "",
                target=MAX_OVERHEAD if kind == "strong" else None,
                at_most=True,
                note=f"{one.other_s:.3f} of {one.total_s:.2f} s; "
                f"{one.trajectory_bytes / 1e6:.1f} MB of trajectories, "
                f"{layout.num_runners} x {one.weight_bytes / 1e3:.0f} kB of weights",
            )
        )
        if one not in _fitted([m for _, m in measured]):
            predicted = model.predict(layout).total
            found.append(
                Row(
                    f"{kind}, {layout.num_runners} runners, {layout.num_tasks} tasks: error of the "
                    "predicted iteration time",
                    abs(predicted / one.total_s - 1.0),
                    "",
                    target=MAX_ERROR,
                    at_most=True,
                    note=f"predicted {predicted:.2f} s, measured {one.total_s:.2f} s",
                )
            )
    return found


def predictions(model: ScalingModel, layout: Layout) -> str:
    """Iteration times on a cluster with a core for every runner, and the bottlenecks."""
    lines = [
        f"a core for every runner, {layout.num_tasks} tasks, "
        f"{NETWORK_BYTES_PER_S * 8 / 1e9:g} Gbit/s:",
        f"  {'runners':>8} {'play':>8} {'transport':>10} {'update':>8} {'total [s]':>10}  longest",
    ]
    there = replace(layout, network_bytes_per_s=NETWORK_BYTES_PER_S)
    for number in PREDICTED_RUNNERS:
        stages = model.predict(replace(there, num_runners=number, num_cores=number))
        lines.append(
            f"  {number:>8} {stages.play:>8.3f} {stages.transport:>10.3f} {stages.update:>8.3f} "
            f"{stages.total:>10.3f}  {stages.bottleneck}"
        )
    if (first := model.first_bottleneck(there, PREDICTED_RUNNERS[-1])) is not None:
        lines.append(f"  the first bottleneck is {first[1]}, from {first[0]} runners on")
    return "\n".join(lines)


def as_csv(measured: Sequence[tuple[str, Measurement]], model: ScalingModel) -> str:
    """The measurements as CSV, a line each, with the model's predictions."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    fitted = _fitted([one for _, one in measured])
    for kind, one in measured:
        predicted = model.predict(one.layout).total
        numbers = (one.total_s, one.sample_s, one.update_s, one.other_s)
        writer.writerow(
            [
                *(kind, one.layout.num_runners, one.layout.num_tasks),
                *(f"{number:.4g}" for number in numbers),
                *(f"{one.trajectory_bytes:.0f}", f"{one.weight_bytes:.0f}"),
                *(f"{predicted:.4g}", f"{predicted / one.total_s - 1.0:+.3f}"),
                "fit" if one in fitted else "check",
            ]
        )
    return text.getvalue()


def draw(path: Path, measured: Sequence[tuple[str, Measurement]], model: ScalingModel) -> Path:
    """Measured iteration times, and the model's on as many runners."""
    curves = []
    for kind in dict.fromkeys(kind for kind, _ in measured):
        ours = [one for other, one in measured if other == kind]
        x = [one.layout.num_runners for one in ours]
        curves.append(Curve(f"{kind}, measured", x, [[one.total_s for one in ours]]))
        predicted = [model.predict(one.layout).total for one in ours]
        curves.append(Curve(f"{kind}, model", x, [predicted], style="--"))
    title = f"a meta-iteration on {measured[0][1].layout.num_cores} cores"
    return log_log_lines(path, curves, title=title, x_label="runners", y_label="time [s]")


def _numbers(text: str) -> list[int]:
    words = text.split(",")
    if not all(word.strip().isdigit() and int(word) > 0 for word in words):
        raise typer.BadParameter(
            f"numbers of runners must be 1 or more, with commas between, but got {text!r}",
            param_hint="--runners",
        )
    return [int(word) for word in words]


def _fitted(measurements: Sequence[Measurement]) -> list[Measurement]:
    chosen = [one for one in measurements if one.layout.num_runners in FITTED]
    return chosen if len(chosen) > 2 else list(measurements)


if __name__ == "__main__":
    app()
