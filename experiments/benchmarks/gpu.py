"""``python -m experiments.benchmarks.gpu``: measure what a GPU gains, within a time limit.

The parts run in order of importance, each in its own process, checks before timings. Each row is
written to disk as soon as it is measured. It needs the engine ``ssmrl`` and its dependencies, but
neither Ray nor a network: see ``docs/gpu.md``.
"""

import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Timer
from typing import Annotated

import torch
import typer

from experiments.benchmarks.gpu_part import MODULES, PREFIX, Job
from experiments.benchmarks.gpu_rows import Record, Row, table
from experiments.folder_option import mounted
from ssmrl.command_line import command_app
from ssmrl.device import checked_device

RESULTS = Path("experiments/results")
QUICK_RESULTS = Path("runs/gpu-quick")

WEIGHTS = {
    "check": 1.0,
    "updates": 2.5,
    "ant-vel": 3.0,
    "halfcheetah-vel": 2.0,
    "shares": 1.0,
    "promp": 2.0,
    "ant-vel-halves": 2.0,
    "ant-vel-tf32": 2.0,
    "ant-vel-bfloat16": 2.0,
}
"""Weights by which the time left is shared among a part and those after it."""

SHORTEST = 5.0
"""Least time with which a part is started [s]."""

app = command_app()


@app.command()
def gpu(
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cuda",
    limit: Annotated[float, typer.Option(help="Time limit of all parts [s].")] = 480.0,
    only: Annotated[
        list[str] | None, typer.Option(help=f"Part to run; repeatable: {', '.join(MODULES)}.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only check that it works.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            help=f"Folder of the results; {RESULTS}, or {QUICK_RESULTS} when quick.",
            callback=mounted,
        ),
    ] = None,
) -> None:
    """Check and time context-sac on a device, part by part.

    Exit code 1 if a check or a part failed, or a graph was not replayed; a missed goal is a result,
    not an error.
    """
    started = time.monotonic()
    try:
        name = str(checked_device(device))
        if not 0.0 < limit < math.inf:
            raise ValueError(f"`--limit` must be positive and finite, but got {limit}")
        if unknown := [part for part in only or [] if part not in MODULES]:
            raise ValueError(f"unknown {unknown}; the parts are: {', '.join(MODULES)}")
        about = {"device": name, "limit": limit, "quick": quick, "torch": torch.__version__}
        record = Record(output or (QUICK_RESULTS if quick else RESULTS), about)
    except (OSError, ValueError) as error:
        typer.echo(error.args[0] if len(error.args) == 1 else str(error), err=True)
        raise typer.Exit(2) from error
    parts = [part for part in MODULES if part in (only or MODULES)]
    interrupted = False
    try:
        for place, part in enumerate(parts):
            left = limit - (time.monotonic() - started)
            share = left * WEIGHTS[part] / sum(WEIGHTS[each] for each in parts[place:])
            for row in part_rows(Job(part, name, quick, share, time.time()), left):
                _take(record, about, row)
    except KeyboardInterrupt:
        interrupted = True
        typer.echo("interrupted; what was measured until now:", err=True)
    mark = ", quick: not a measurement" if quick else ""
    typer.echo(table(record.rows, f"{about.get('device_name', name)}{mark}"))
    typer.echo(f"{time.monotonic() - started:.0f} s of {limit:g} s; rows in {record.path}")
    if interrupted:
        raise typer.Exit(130)
    if failed := [row for row in record.rows if row.is_failure]:
        typer.echo(f"failed: {'; '.join(f'{row.part}: {row.what}' for row in failed)}", err=True)
        raise typer.Exit(1)


def part_rows(job: Job, left: float) -> Iterator[Row]:
    """Run a part, and yield each of its rows as it comes.

    Args:
        job: Job of the part.
        left: Time after which it is stopped [s].
    """
    if left < SHORTEST:
        note = f"{max(left, 0.0):.0f} s were left, {SHORTEST:g} s is the least"
        yield Row(job.part, "the whole part", trouble="not run", note=note)
        return
    typer.echo(f"{job.part}: {job.share:.0f} s, {left:.0f} s at most")
    command = [sys.executable, "-m", "experiments.benchmarks.gpu_part", job.to_json()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        timer = Timer(left, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(PREFIX):
                    yield Row.of_json(line.removeprefix(PREFIX))
                else:
                    typer.echo(line.rstrip("\n"))
            code = process.wait()
        except BaseException:
            process.kill()
            raise
        finally:
            timer.cancel()
    if code:
        late = time.time() - job.started >= left
        what = "stopped at the time limit" if late else f"its process ended with code {code}"
        yield Row(job.part, what, trouble="not run" if late else "failed")


def _take(record: Record, about: dict[str, object], row: Row) -> None:
    """Keep a row, and print it; the device's name is kept once for all parts."""
    if row.what == "device":
        about["device_name"] = row.note
        return
    record.add(row)
    typer.echo(table([row], "").splitlines()[-1])


if __name__ == "__main__":
    app()
