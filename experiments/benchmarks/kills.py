"""``python -m experiments.benchmarks.kills``: sweeps killed once must end as an undisturbed one.

There are 30 sweeps with one kill each: ten of a trial, twenty of the driver. Each is compared with
the same sweep undisturbed, row for row.
"""

import shutil
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from experiments.faults.kills import DRIVER, WORKER, Killed, Moment, ended_sweep, killed
from experiments.faults.rows_file import write_rows
from experiments.folder_option import mounted
from ssmrl.command_line import command_app
from ssmrl.strict_json import json_object, json_text
from tuning.plan import SweepPlan
from tuning.table.durable import append_line, recover_lines
from tuning.table.trial import TrialTable

GONE_WITHIN_S = 10.0

app = command_app()


def moments(seed: int, num_trials: int, *, quick: bool = False) -> list[Moment]:
    """Moments to kill, spread over a sweep from Ray's start to its last rows.

    Args:
        seed: Random seed of the delays.
        num_trials: Trials of the sweep.
        quick: Whether to take only one moment of each kind.
    """
    rng = np.random.default_rng(seed)

    def at(what: str, rows: int, longest_s: float) -> Moment:
        return Moment(what, rows, round(float(rng.uniform(0.0, longest_s)), 3))

    workers = [at(WORKER, number * num_trials // 10, 1.5) for number in range(10)]
    drivers = [at(DRIVER, -1, 12.0), at(DRIVER, -1, 12.0)]
    drivers += [at(DRIVER, number * (num_trials + 1) // 18, 2.0) for number in range(18)]
    if quick:
        return [workers[4], drivers[9]]
    ordered = [*workers, *drivers]
    # In random order, so that an early stop has seen all kinds.
    return [ordered[place] for place in rng.permutation(len(ordered))]


def is_ok(moment: Moment, found: Killed, num_trials: int) -> bool:
    """Whether the sweep ended as the undisturbed one."""
    as_undisturbed = found.num_equal == found.num_rows == num_trials and found.weights_equal
    kept = found.acknowledged_kept and not found.num_rerun and not found.left
    in_time = moment.what == WORKER or found.gone_s <= GONE_WITHIN_S
    return as_undisturbed and kept and in_time and found.code == 0


@app.command()
def kills(  # noqa: PLR0917  # one parameter a flag
    num_trials: Annotated[int, typer.Option("--trials", min=4, help="Trials per sweep.")] = 6,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of sweeps and moments.")] = 0,
    searcher: Annotated[str, typer.Option(help="Searcher that chooses the points.")] = "tpe",
    at_once: Annotated[
        int,
        typer.Option(
            "--max-concurrent",
            min=1,
            help="Trials at once. With more than one, points are drawn at random and no trial is "
            "stopped early, since both would otherwise depend on which trial ends first.",
        ),
    ] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="Only two moments.")] = False,
    storage: Annotated[Path, typer.Option(help="Folder of the sweeps.", callback=mounted)] = Path(
        "runs/kills"
    ),
    output: Annotated[Path, typer.Option(help="CSV of the results.", callback=mounted)] = Path(
        "experiments/results/kills.csv"
    ),
    anew: Annotated[bool, typer.Option("--anew", help="Delete the storage first.")] = False,
) -> None:
    """Kill, resume and compare sweeps; exit code 1 if one differs. The same command resumes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if anew:
        shutil.rmtree(storage, ignore_errors=True)
    storage = storage.resolve()
    storage.mkdir(parents=True, exist_ok=True)
    several: dict[str, Any] = {} if at_once == 1 else {"searcher": "random", "scheduler": "none"}
    plan = SweepPlan(
        "point",
        algorithm="promp",
        num_samples=num_trials,
        max_env_steps=4000,
        seed=seed,
        max_concurrent=at_once,
        **{"searcher": searcher} | several,
    )
    told = [json_object(line, "a cell") for line in recover_lines(storage / "cells.jsonl")]
    try:
        undisturbed = ended_sweep(plan, storage / "undisturbed")
        num_rows = len(TrialTable(undisturbed / "trials.jsonl").rows)
        wanted = moments(seed, num_rows, quick=quick)
        known = [{name: cell[name] for name in asdict(wanted[0])} for cell in told]
        for number, moment in enumerate(wanted):
            if asdict(moment) in known:
                continue
            folder = storage / f"cell-{number}"
            shutil.rmtree(folder, ignore_errors=True)
            found = killed(plan, undisturbed, folder, moment)
            well = is_ok(moment, found, num_rows)
            told.append(asdict(moment) | asdict(found) | {"ok": well})
            append_line(storage / "cells.jsonl", json_text(told[-1]))
            typer.echo(f"{number + 1}/{len(wanted)} {'ok' if well else 'NOT OK'}: {told[-1]}")
            _write(output, told)
    except KeyboardInterrupt:
        typer.echo("\nstopped; the same command resumes it", err=True)
        raise typer.Exit(130) from None
    _write(output, told)
    num_well = sum(each["ok"] for each in told)
    typer.echo(f"{num_well} of {len(told)} ended as the undisturbed sweep; table in {output}")
    raise typer.Exit(num_well < len(told))


def _write(output: Path, cells: list[dict[str, Any]]) -> None:
    """Write the table, sorted by moment."""
    write_rows(
        output, sorted(cells, key=lambda cell: (cell["what"], cell["rows"], cell["delay_s"]))
    )


if __name__ == "__main__":
    app()
