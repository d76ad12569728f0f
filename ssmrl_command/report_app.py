"""``ssmrl report``: rewrites the report page and the table of a sweep; it trains nothing."""

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
    """Rewrite report.html and trials.csv of a sweep, whether it has finished or not.

    The numbers come from the rows, except for the returns on fresh tasks, which no row holds. For
    these, winner and default are evaluated again from their checkpoints, with the same results.

    Exits with 0; with 3 if the report has no verdict because a checkpoint is missing; and with 2 if
    there is no sweep, another process is working on it, or its records are damaged.

    Example: ssmrl report runs/swept
    """
    # A folder of `ssmrl train` also has a config.json.
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
    """Write report and table from the records, which are only read."""
    from tuning.conclusion import report_anew
    from tuning.going_on import SWEEP
    from tuning.table.round_log import RoundLog
    from tuning.table.trial import TrialTable

    plan = written_plan(folder, say=lambda line: typer.echo(printable(line), err=True))
    table = TrialTable(folder / ROWS, plan.sweep_id)
    rounds = RoundLog(folder / ROUNDS, plan.base(), plan.sweep_id).rounds
    # No record holds the command line of a study, above all its budget.
    command = "" if is_study(folder) else shlex.join([*SWEEP, *plan.flags()])
    return report_anew(plan, folder, table, rounds=rounds, command=command)
