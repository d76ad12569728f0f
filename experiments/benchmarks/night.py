"""``python -m experiments.benchmarks.night``: a sweep of 400 trials with faults of all kinds.

Trials and drivers are killed, hang, run out of memory or compute NaN; files are torn, zeroed or
bit-flipped. The faults are drawn from a seed. At the end it checks that nothing is missing.
"""

import shutil
import signal
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.faults.driver import FLOOR_S, START_S
from experiments.faults.fault_list import FaultList, drawn, drawn_few
from experiments.faults.injection import LIST
from experiments.faults.overnight import Overnight
from experiments.faults.rows_file import write_rows
from experiments.faults.verdicts import Outcome, Verdict, outcomes, verdicts
from experiments.folder_option import mounted
from ssmrl.command_line import command_app
from ssmrl.files import replace_file
from ssmrl.provenance import provenance
from ssmrl.strict_json import json_text
from tuning.table.trial import TrialTable

FLAGS = ("--task", "point", "--algorithm", "promp", "--max-env-steps", "4000")
_QUICK_TRIALS = 24

app = command_app()


@app.command()
def night(
    num_trials: Annotated[int, typer.Option("--trials", min=1, help="Trials of the sweep.")] = 400,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the faults.")] = 0,
    seconds: Annotated[
        float, typer.Option(min=60.0, help="Time budget of the sweep [s].")
    ] = 7200.0,
    quick: Annotated[
        bool, typer.Option("--quick", help=f"{_QUICK_TRIALS} trials, and a few faults.")
    ] = False,
    storage: Annotated[
        Path,
        typer.Option(help="Folder of the sweep and the record of its faults.", callback=mounted),
    ] = Path("runs/night"),
    output: Annotated[Path, typer.Option(help="Folder of the results.", callback=mounted)] = Path(
        "experiments/results"
    ),
    anew: Annotated[bool, typer.Option("--anew", help="Delete the storage first.")] = False,
) -> None:
    """Run a sweep under faults; exit code 1 if something is not as expected.

    Ctrl-C stops it, and the same command resumes it.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    storage = storage.resolve()
    if anew:
        shutil.rmtree(storage, ignore_errors=True)
    try:
        faults = drawn_few(seed, _QUICK_TRIALS) if quick else drawn(seed, num_trials)
        if (storage / LIST).exists() and FaultList.read(storage / LIST) != faults:
            raise ValueError(
                f"{storage} holds a sweep with other faults; give its flags again, another "
                "`--storage`, or `--anew`"
            )
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    flags = [*FLAGS, "--num-samples", str(faults.num_trials)]
    overnight = Overnight(faults, storage, flags, seconds=seconds, say=typer.echo)
    try:
        overnight.run()
    except KeyboardInterrupt:
        typer.echo("\nstopped; the same command resumes it", err=True)
        raise typer.Exit(130) from None
    rows = TrialTable(overnight.folder / "trials.jsonl").rows
    of_trials = outcomes(faults, storage, rows)
    found = verdicts(faults, storage, overnight.folder)
    name = "night-quick" if quick else "night"
    about = {
        "command": ["python", "-m", "tuning.sweep", *flags],
        "seed": seed,
        "trials": faults.num_trials,
        "rows": len(rows),
        "floor_s": FLOOR_S,
        "start_s": START_S,
        "states": dict(Counter(row.state.value for row in rows)),
        "made_with": provenance(),
    }
    _write(output, name, of_trials, overnight.events, found, about)
    for line in _lines(of_trials, found):
        typer.echo(line)
    is_well = all(each.is_ok for each in of_trials) and all(each.is_ok for each in found)
    raise typer.Exit(not is_well)


def _lines(of_trials: list[Outcome], found: list[Verdict]) -> list[str]:
    """Lines of the final report: each kind of fault, unexpected outcomes, and verdicts."""
    kinds: dict[str, list[Outcome]] = {}
    for each in of_trials:
        once = ", once" if each.fault.is_once else ""
        kinds.setdefault(" ".join((each.fault.kind, each.fault.detail)).strip() + once, []).append(
            each
        )
    lines = [f"{'fault':<48} {'listed':>6} {'struck':>6} {'ok':>4}"]
    for kind, own in sorted(kinds.items()):
        struck = sum(each.num_struck > 0 for each in own)
        lines.append(f"{kind:<48} {len(own):>6} {struck:>6} {sum(e.is_ok for e in own):>4}")
    for trial in of_trials:
        if not trial.is_ok:
            lines.append(
                f"NOT AS EXPECTED: t{trial.fault.trial:04d}, {trial.fault.kind}: {trial.expected} "
                f"expected, but {trial.state} ({trial.reason})"
            )
    for what, expected, seen, is_ok in found:
        wanted = "" if is_ok else f", not {expected}"
        lines.append(f"{'ok ' if is_ok else 'NO '} {what}: {seen}{wanted}")
    return lines


def _write(
    output: Path,
    name: str,
    of_trials: list[Outcome],
    events: list[dict[str, Any]],
    found: list[Verdict],
    about: dict[str, Any],
) -> None:
    """Write the faults with their outcomes, the stops, and the verdicts."""
    faults = [
        {**asdict(each.fault), "struck": each.num_struck, "expected": each.expected}
        | {"state": each.state, "reason": each.reason, "ok": each.is_ok}
        for each in of_trials
    ]
    stops = [
        {key: "; ".join(value) if isinstance(value, list) else value for key, value in each.items()}
        for each in events
        if each["what"] == "stop"
    ]
    write_rows(output / f"{name}-trials.csv", faults)
    write_rows(output / f"{name}-stops.csv", stops)
    write_rows(output / f"{name}-verdicts.csv", [each._asdict() for each in found])
    replace_file(output / f"{name}.json", json_text(about, indent=1) + "\n")


if __name__ == "__main__":
    app()
