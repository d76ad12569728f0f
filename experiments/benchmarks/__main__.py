"""``python -m experiments.benchmarks``: run all benchmarks, or those still missing."""

import importlib
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from experiments.benchmarks.harness import Measured, Row, Settings, read_rows, table, write_rows
from experiments.folder_option import mounted
from ssmrl.command_line import command_app

BENCHMARKS = {
    "stepping": "batched step against raw physics, Gymnasium and EnvPool",
    "collecting": "rollouts of a 53 K state space policy against raw physics, RLlib and SB3",
    "layers": "a sequence layer forward and backward against nn.LSTM and nn.GRU",
    "sequence_length": "how a scan's time grows with the length of its sequence",
    "meta_update": "one second-order MAML update against higher and TorchOpt",
    "floor": "the same update against the matrix products it consists of",
    "iteration": "a whole ProMP iteration against raw physics",
    "context_iteration": "an iteration of context-sac against its products and raw physics",
    "memory": "peak memory of ProMP iterations, and its growth",
    "coverage": "how often printed intervals contain the true value",
}
RESULTS = Path("experiments/results")
QUICK_RESULTS = Path("runs/benchmarks-quick")

app = command_app()


@app.command()
def benchmarks(  # noqa: PLR0917  # one parameter a flag
    only: Annotated[list[str] | None, typer.Option(help="Name of a benchmark; repeatable.")] = None,
    list_names: Annotated[bool, typer.Option("--list", help="List the benchmarks.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Only check that it works.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Skip finished benchmarks.")] = False,
    repeats: Annotated[int, typer.Option(min=1, help="Timed repeats.")] = 9,
    num_threads: Annotated[int, typer.Option(min=1, help="Threads, ours and peers'.")] = 2,
    memory_iterations: Annotated[int, typer.Option(min=10, help="Iterations of `memory`.")] = 200,
    output: Annotated[
        Path | None,
        typer.Option(
            help=f"Folder of the results; {RESULTS}, or {QUICK_RESULTS} when quick.",
            callback=mounted,
        ),
    ] = None,
) -> None:
    """Run benchmarks, each in a process of its own; exit code 1 if one could not be measured.

    A missed target is a result, not an error.

    Example: ssmrl bench --only floor --quick
    """
    if list_names:
        for name, subject in BENCHMARKS.items():
            typer.echo(f"  {name:<12} {subject}")
        return
    if unknown := [name for name in only or [] if name not in BENCHMARKS]:
        raise typer.BadParameter(f"unknown {unknown}; the benchmarks are: {', '.join(BENCHMARKS)}")
    folder = output or (QUICK_RESULTS if quick else RESULTS)
    settings = Settings(quick, repeats, num_threads, memory_iterations)
    if only is not None and len(only) == 1:
        _run(only[0], settings, folder)
        return
    failed = []
    for name in only or BENCHMARKS:
        if resume and (done := csv_path(folder, name)).exists():
            typer.echo(f"{name}: kept from {done}")
        elif not _run_apart(name, settings, folder):
            failed.append(name)
    _summarise([name for name in only or BENCHMARKS if name not in failed], folder)
    if failed:
        typer.echo(f"not measured, see above: {', '.join(failed)}", err=True)
        raise typer.Exit(1)


def csv_path(folder: Path, name: str) -> Path:
    """Path of a benchmark's rows; the file exists once the benchmark is finished."""
    return folder / f"benchmark-{name.replace('_', '-')}.csv"


def _run_apart(name: str, settings: Settings, folder: Path) -> bool:
    """Run a benchmark in its own process, so that it inherits no threads, actors or memory."""
    command = [sys.executable, "-m", "experiments.benchmarks", "--only", name]
    command += ["--repeats", str(settings.num_repeats), "--num-threads", str(settings.num_threads)]
    command += ["--memory-iterations", str(settings.memory_iterations), "--output", str(folder)]
    return subprocess.run(command + ["--quick"] * settings.quick, check=False).returncode == 0


def _run(name: str, settings: Settings, folder: Path) -> None:
    torch.set_num_threads(settings.num_threads)
    typer.echo(f"{name}: {BENCHMARKS[name]}")
    started = time.perf_counter()
    measured: Measured = importlib.import_module(f"experiments.benchmarks.{name}").measure(settings)
    machine = Row(
        "machine",
        float(os.cpu_count() or 0),
        "cores",
        note=f"{platform.machine()}, {settings.num_threads} threads, torch {torch.__version__}, "
        f"{settings.repeats} repeats{', quick: not a measurement' if settings.quick else ''}",
    )
    path = csv_path(folder, name)
    write_rows(path, [*measured.rows, machine])
    _draw(name, measured, path.with_suffix(".png"))
    typer.echo(table(measured.rows))
    typer.echo(f"  {time.perf_counter() - started:.0f} s; rows in {path}, figure beside it")


def _draw(name: str, measured: Measured, path: Path) -> None:
    from experiments.plots import Bar, Curve, log_log_lines, ratio_bars

    if measured.lines:
        curves = [
            Curve(label, list(points), [list(points.values())])
            for label, points in measured.lines.items()
        ]
        log_log_lines(
            path, curves, title=BENCHMARKS[name], x_label="length [steps]", y_label="time [s]"
        )
        return
    bars = [Bar(row.what, row.value, row.wanted, row.share, row.met) for row in measured.rows]
    ratio_bars(path, bars, title=BENCHMARKS[name])


def _summarise(names: list[str], folder: Path) -> None:
    rows = [row for name in names for row in read_rows(csv_path(folder, name))]
    targeted = [row for row in rows if row.met is not None]
    typer.echo(f"\nall targets\n{table(targeted)}")
    typer.echo(f"  {sum(row.met or False for row in targeted)} of {len(targeted)} met")


if __name__ == "__main__":
    app()
