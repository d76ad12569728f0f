"""``ssmrl report``: the page and the table of a sweep, made anew; it trains nothing."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ssmrl.command_line import command_app, refuse
from ssmrl.printable import one_line, printable
from tuning.ending import Ending, LostError
from tuning.folder.interruption import FolderError, exclusive
from tuning.kept_plan import CONFIG, is_study, is_whole, written_plan
from tuning.table.record_files import RECORD_FILES, ROUNDS, ROWS

app = command_app()


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of the sweep or study.")],
) -> None:
    """Write report.html and trials.csv of a sweep anew, whether it has finished or not.

    What the rows say is taken from them. The returns on fresh tasks stand in none: for these the
    checkpoints of winner and default are played again, which gives the same numbers.

    Ends with 0, with 3 if the report is there without a verdict since a checkpoint is gone, and
    with 2 if there is no sweep, or somebody is working on it, or its records are damaged.

    Example: ssmrl report runs/swept
    """
    # What `ssmrl train` leaves has a config.json, too.
    has_records = any((folder / name).exists() for name in RECORD_FILES)
    if not has_records and not is_whole(folder / CONFIG):
        refuse(f"there is no sweep in {folder}")
    try:
        with exclusive(folder):
            lost = _write(folder)
    except FolderError as error:
        refuse(str(error))
    except (LostError, OSError, ValueError, KeyError) as error:
        refuse(f"{one_line(error)}; `ssmrl doctor {folder}` says what is damaged")
    typer.echo(printable(f"table {folder / 'trials.csv'}, report {folder / 'report.html'}"))
    if lost is not None:
        refuse(one_line(lost), Ending.LOST)


def _write(folder: Path) -> LostError | None:
    """Read the records, which changes none of them, and write what they come to."""
    from tuning.conclusion import report_anew
    from tuning.going_on import SWEEP
    from tuning.table.round_log import RoundLog
    from tuning.table.trial import TrialTable

    plan = written_plan(folder, say=lambda line: typer.echo(printable(line), err=True))
    table = TrialTable(folder / ROWS, plan.sweep_id)
    rounds = RoundLog(folder / ROUNDS, plan.base(), plan.sweep_id).rounds
    # How a study was asked for, its budget above all, is in no record.
    command = "" if is_study(folder) else shlex.join([*SWEEP, *plan.flags()])
    return report_anew(plan, folder, table, rounds=rounds, command=command)
