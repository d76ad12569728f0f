"""``python -m experiments.benchmarks.signals``: ask sweeps to end, once or twice, at any moment.

The requests are three signals at four moments, a closed terminal and a closed pipe. Recorded are
exit code, time, whether the resume command is printed, and leftover processes and partial files.
"""

import shutil
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from experiments.faults.kills import ended_sweep
from experiments.faults.rows_file import write_rows
from experiments.faults.signals import (
    IMPORTS,
    MOMENTS,
    RAY,
    READER,
    TERMINAL,
    TRIAL,
    Asked,
    Ended,
    asked_to_end,
)
from experiments.folder_option import mounted
from ssmrl.command_line import command_app
from ssmrl.strict_json import json_object, json_text
from tuning.plan import SweepPlan
from tuning.table.durable import append_line, recover_lines

ENDED_WITHIN_S, GONE_WITHIN_S = 5.0, 10.0
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")

app = command_app()


def cells(seed: int) -> list[Asked]:
    """Requests to make.

    Args:
        seed: Random seed of the times between two signals.
    """
    rng = np.random.default_rng(seed)
    asked = [
        Asked(name, moment, round(float(rng.uniform(0.1, 1.0)), 2) if twice else 0.0)
        for moment in MOMENTS
        for name in _SIGNALS
        for twice in (False, True)
    ]
    return [*asked, Asked(TERMINAL, RAY), Asked(TERMINAL, TRIAL), Asked(READER, "first line")]


def is_ok(asked: Asked, ended: Ended) -> bool:
    """Whether the sweep ended as it should."""
    clean = not (ended.traceback or ended.left or ended.num_parts)
    if asked.what == READER:
        return clean and ended.code == 0
    number = signal.SIGHUP if asked.what == TERMINAL else signal.Signals[asked.what]
    told = ended.says_how or asked.what == TERMINAL or asked.moment == IMPORTS
    in_time = ended.seconds <= ENDED_WITHIN_S and ended.gone_s <= GONE_WITHIN_S
    return clean and told and in_time and ended.code == 128 + number


@app.command()
def signals(
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the times between signals.")] = 0,
    storage: Annotated[Path, typer.Option(help="Folder of the sweeps.", callback=mounted)] = Path(
        "runs/signals"
    ),
    output: Annotated[Path, typer.Option(help="CSV of the results.", callback=mounted)] = Path(
        "experiments/results/signals.csv"
    ),
    anew: Annotated[bool, typer.Option("--anew", help="Delete the storage first.")] = False,
) -> None:
    """Ask sweeps to end; exit code 1 if one ends wrongly. The same command resumes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if anew:
        shutil.rmtree(storage, ignore_errors=True)
    storage = storage.resolve()
    storage.mkdir(parents=True, exist_ok=True)
    plan = SweepPlan("point", algorithm="promp", num_samples=2, max_env_steps=4000)
    told = [json_object(line, "a cell") for line in recover_lines(storage / "cells.jsonl")]
    known = [{name: cell[name] for name in asdict(Asked("", ""))} for cell in told]
    wanted = cells(seed)
    try:
        finished = ended_sweep(plan, storage / "finished")
        for number, asked in enumerate(wanted):
            if asdict(asked) in known:
                continue
            folder = storage / f"cell-{number}"
            shutil.rmtree(folder, ignore_errors=True)
            ended = asked_to_end(asked, plan, finished, folder)
            told.append(asdict(asked) | asdict(ended) | {"ok": is_ok(asked, ended)})
            append_line(storage / "cells.jsonl", json_text(told[-1]))
            typer.echo(f"{number + 1}/{len(wanted)} {told[-1]}")
            write_rows(output, told)
    except KeyboardInterrupt:
        typer.echo("\nstopped; the same command resumes it", err=True)
        raise typer.Exit(130) from None
    write_rows(output, told)
    num_well = sum(each["ok"] for each in told)
    typer.echo(f"{num_well} of {len(told)} ended as they should; table in {output}")
    raise typer.Exit(num_well < len(told))


if __name__ == "__main__":
    app()
