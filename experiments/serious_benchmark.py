"""``python -m experiments.serious_benchmark``: meta-train sequence models and test them, one table.

It does not search over settings. The default budget is below the published one: the meta-batch is
small, so that a comparison takes minutes.
"""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

if not __package__:
    # Run as a script: the root replaces this folder, whose modules would shadow the stdlib's.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import typer

from experiments.benchmark_result import REPORTED_STEPS, TEST_DRAW, BenchmarkResult, estimate
from experiments.folder_option import mounted
from ssmrl.command_line import command_app, refuse
from ssmrl.config import METHODS, TrainConfig
from ssmrl.shared_options import DeviceOption, JsonOption
from ssmrl.strict_json import json_text, json_value

if TYPE_CHECKING:
    from experiments.benchmark_run import BenchmarkRun

METHOD_NAMES = ("all", *METHODS)


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Turn the first SIGINT or SIGTERM into a request; a second one ends the process at once."""
    asked: list[int] = []

    def ask(number: int, _: Any) -> None:
        if asked:
            raise SystemExit(128 + number)
        asked.append(number)
        typer.echo("stopping after this iteration; signal again to stop at once", err=True)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, ask) for number in numbers]
    try:
        yield asked
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def table(results: list[BenchmarkResult]) -> str:
    """The results as text; the ends of each interval are below its interquartile mean."""
    first = results[0].config
    bound = results[0].no_adaptation_bound
    columns = "".join(f"{f'k = {k}':>11}" for k in REPORTED_STEPS)
    lines = [
        f"{first.env.task}: return after k adaptation steps on {first.evaluation.num_tasks} "
        f"held-out tasks (draw {TEST_DRAW}), interquartile mean",
        "with 95 % interval over the tasks; cost of the training",
        f"{'method':<12}{'seed':>5}{'parameters':>12}{'env steps':>13}{'seconds':>9}{columns}",
    ]
    for result in results:
        estimates = [estimate([result], k) for k in REPORTED_STEPS]
        middle, low, high = (
            "".join(f"{_cell(getattr(each, part)):>11}" for each in estimates)
            for part in ("middle", "low", "high")
        )
        lines += [
            f"{result.method:<12}{result.config.seed:>5}{result.num_parameters:>12,}"
            f"{result.env_steps:>13,}{result.seconds:>9.0f}{middle}",
            f"{'from':>51}{low}",
            f"{'to':>51}{high}",
        ]
    lines.append(
        "no useful bound of policies without adaptation is known for this family"
        if bound is None
        else f"no policy without adaptation exceeds {bound:.2f} on average over the tasks"
    )
    return "\n".join(lines)


app = command_app(
    # Accept --output_dir for --output-dir.
    context_settings={"token_normalize_func": lambda token: token.replace("_", "-")},
)


@app.command()
def main(
    *,
    task: Annotated[str, typer.Option(help="Task family.")] = "halfcheetah-vel",
    method: Annotated[str, typer.Option(help=f"One of {', '.join(METHOD_NAMES)}.")] = "all",
    epochs: Annotated[int, typer.Option(min=1, help="Meta-iterations of each method.")] = 100,
    hidden_dim: Annotated[
        int | None, typer.Option(help="Width of the layers; 64 by default.")
    ] = None,
    state_dim: Annotated[
        int | None, typer.Option(help="State size of the ssm [reals], even; 32 by default.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Named sizes instead of widths: seed (128 units) or matched (equal parameters)."
        ),
    ] = None,
    device: DeviceOption = None,
    output_dir: Annotated[
        Path,
        typer.Option(help="Folder of results, curves and checkpoints.", callback=mounted),
    ] = Path("runs/serious_benchmark"),
    seed: Annotated[
        list[int],
        typer.Option(min=0, help="Random seed of weights, tasks and rollouts; repeatable."),
    ] = [0],  # noqa: B006  # typer copies it
    # A small meta-batch, and learning rates to match: many updates in few env steps.
    num_tasks: Annotated[int, typer.Option(help="Tasks of a meta-batch.")] = 10,
    num_episodes: Annotated[
        int, typer.Option(help="Episodes per task before and after each adaptation step.")
    ] = 4,
    num_test_tasks: Annotated[int, typer.Option(help="Held-out tasks.")] = 20,
    inner_lr: Annotated[float, typer.Option(help="Learning rate of the adaptation.")] = 0.1,
    outer_lr: Annotated[float, typer.Option(help="Adam's learning rate.")] = 3e-3,
    num_threads: Annotated[
        int, typer.Option(min=0, help="Threads of the physics; 0: all cores.")
    ] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep finished results; resume the rest.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Meta-train the methods with ProMP, test them on held-out tasks, write a file for each."""
    knobs = {
        "meta.num_tasks": num_tasks,
        "meta.num_episodes": num_episodes,
        "meta.inner_lr": inner_lr,
        "meta.outer_lr": outer_lr,
        "evaluation.num_tasks": num_test_tasks,
        "evaluation.num_episodes": num_episodes,
    }
    try:
        methods = chosen_methods(method)
        TrainConfig.for_task(task, "promp").with_knobs(knobs)  # before anything slow is imported
        from ssmrl.device_record import checked_device_of, record_device

        where = checked_device_of(device, output_dir, resume=resume)
        sizes = {"policy.hidden_dim": hidden_dim, "policy.state_dim": state_dim}
        given = {name: value for name, value in sizes.items() if value is not None}
        from experiments.benchmark_run import BenchmarkRun
        from experiments.benchmarks.learning import configured

        runs = [
            BenchmarkRun(
                configured(task, each, given, preset=preset, knobs=knobs, seed=number),
                num_iterations=epochs,
                preset=preset,
                device=where,
                folder=output_dir,
                num_threads=num_threads,
            )
            for each in methods
            for number in dict.fromkeys(seed)
        ]
        earlier = [run.earlier_result(resume=resume) for run in runs]
        output_dir.mkdir(parents=True, exist_ok=True)
        record_device(output_dir, str(where))
    except (KeyError, ValueError, TypeError) as error:
        refuse(str(error.args[0]))
    except OSError as error:
        refuse(str(error))
    results, failures = run_all(runs, earlier)
    if as_json:
        typer.echo(json_text({"results": [json_value(result.to_json()) for result in results]}))
    elif results:
        typer.echo(table(results))
    for failure in failures:
        typer.echo(failure, err=True)
    if failures:
        raise typer.Exit(1)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def chosen_methods(name: str) -> tuple[str, ...]:
    """The method of that name; all methods for ``"all"``.

    Raises:
        KeyError: If there is no such method.
    """
    if name not in METHOD_NAMES:
        raise KeyError(f"`--method` must be one of {', '.join(METHOD_NAMES)}, but got {name!r}")
    return METHODS if name == "all" else (name,)


def run_all(
    runs: list["BenchmarkRun"], earlier: list[BenchmarkResult | None]
) -> tuple[list[BenchmarkResult], list[str]]:
    """Train and test every run that has no result yet.

    Args:
        runs: Runs in the order of training.
        earlier: Result of each run; None if it is not finished.

    Returns:
        The results in the order of the runs, and a sentence for each run that diverged or ran out
        of device memory.

    Raises:
        typer.Exit: If a stop was requested, or another process trains the same run.
    """
    from cluster.session import session
    from ssmrl.device_memory import DeviceMemoryError
    from ssmrl.meta.diverged import DivergedError

    results, failures = [], []
    unfinished = [run for run, result in zip(runs, earlier, strict=True) if result is None]
    needs_ray = any(run.needs_ray for run in unfinished)
    with session() if needs_ray else nullcontext(), stop_requests() as asked:
        for run, known in zip(runs, earlier, strict=True):
            if known is not None:
                typer.echo(f"{run.name}: finished before", err=True)
                results.append(known)
                continue
            try:
                result = None if asked else run.train_and_test(asked, _say)
            except DivergedError as error:
                failures.append(f"{run.name} diverged: {error}")
                continue
            except DeviceMemoryError as error:
                failures.append(f"{run.name}: {error}")
                continue
            except BlockingIOError:
                refuse(f"another process is training {run.name} in {run.folder}")
            if result is None:
                typer.echo("stopped; repeat the command with `--resume` to continue", err=True)
                raise typer.Exit(128 + asked[0])
            results.append(result)
    return results, failures


def _say(line: str) -> None:
    typer.echo(line, err=True)


if __name__ == "__main__":
    app()
