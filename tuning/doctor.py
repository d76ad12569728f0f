"""``python -m tuning.doctor``: find what is damaged in the folder of a sweep, and repair it."""

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from ssmrl.checkpoint import CheckpointError, read_tensors
from ssmrl.command_line import command_app, refuse
from ssmrl.config import TrainConfig
from ssmrl.files import aside, replace_file
from ssmrl.printable import one_line, printable
from ssmrl.run import checkpoint_path
from tuning.ending import Ending
from tuning.folder.interruption import FolderError, exclusive
from tuning.kept_plan import CONFIG, changed_fields, is_whole, logged_plan
from tuning.plan import SweepPlan
from tuning.search.study import repair_journal
from tuning.table.record_files import (
    LEDGER,
    RECORD_FILES,
    ROUNDS,
    ROWS,
    WARM_ROWS,
    Trouble,
    mend_records,
    read_rows,
    record_troubles,
)
from tuning.table.result_files import BY_RESUME, TABLE, result_troubles
from tuning.table.trial import Trial, TrialState, TrialTable

_JOURNAL = "optuna.journal"
_MANY = 1000

app = command_app()


@app.command()
def doctor(
    folder: Annotated[Path, typer.Argument(help="Folder of the sweep or study.")],
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Set damaged records aside, and keep every good one."),
    ] = False,
) -> None:
    """Check all files of a sweep that no process works on, and name what is damaged.

    Exit code 0 if all is sound or repaired, 3 if something is damaged, 2 if no check is possible.

    Example: ssmrl doctor runs/swept
    """
    if not any((folder / name).exists() for name in (CONFIG, *RECORD_FILES)):
        refuse(f"there is no sweep in {folder}")
    try:
        with exclusive(folder):
            found = list(examine(folder))
            mended = mend(folder, found) if repair else []
    except FolderError as error:
        refuse(str(error))
    for trouble in found:
        done = "repaired: " if trouble in mended else ""
        typer.echo(printable(f"{trouble.where}: {trouble.what}; {done}{trouble.remedy}"))
    left = [trouble for trouble in found if trouble not in mended]
    typer.echo(printable(summary(folder, len(left))))
    raise typer.Exit(Ending.LOST if left else Ending.DONE)


def examine(folder: Path) -> Iterator[Trouble]:
    """Find what is damaged, file by file; nothing is changed.

    Args:
        folder: Folder of a sweep or study.
    """
    yield from _config_troubles(folder)
    sweep = _sweep_id(folder)
    rows, troubles = read_rows(folder / ROWS, sweep)
    yield from troubles
    yield from _missing(rows)
    for name in (ROUNDS, LEDGER, WARM_ROWS):
        yield from record_troubles(folder / name, sweep)
    yield from _journal(folder / _JOURNAL)
    yield from _checkpoints(folder, rows)
    yield from result_troubles(folder, rows, sweep)
    for part in sorted(folder.rglob("*.part")):
        where = str(part.relative_to(folder))
        yield Trouble(where, "was left half written", "nothing needs it", is_mended=True)


def mend(folder: Path, found: list[Trouble]) -> list[Trouble]:
    """Set damaged records and a damaged journal aside, restore the plan, rewrite the table.

    Args:
        folder: Folder of a sweep or study.
        found: Troubles from ``examine``.

    Returns:
        Those that were repaired.
    """
    able = [trouble for trouble in found if trouble.is_mended]
    sweep, copy = _sweep_id(folder), _copy(folder)
    if any(trouble.where == CONFIG for trouble in able) and copy is not None:
        if (folder / CONFIG).exists():
            (folder / CONFIG).replace(aside(folder / CONFIG))
        replace_file(folder / CONFIG, copy.to_json())
    for name in (*RECORD_FILES, WARM_ROWS):
        if any(trouble.where.startswith(f"{name}, ") for trouble in able):
            mend_records(folder / name, sweep)
    if any(trouble.where == _JOURNAL for trouble in able):
        (folder / _JOURNAL).replace(aside(folder / _JOURNAL))
    for trouble in able:
        if trouble.where.endswith(".part"):
            (folder / trouble.where).unlink(missing_ok=True)
    if (folder / ROWS).exists():
        TrialTable(folder / ROWS).write_csv(folder / TABLE)
    return able


def summary(folder: Path, num_left: int) -> str:
    """The last line of the output: the state of the folder, and the disk space of its trials."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    rows, _ = read_rows(folder / ROWS, "")
    state = "all is sound" if not num_left else f"{num_left} of its files or records are damaged"
    takes = ""
    if rows:
        many = size / len(rows) * _MANY / 1e9
        takes = f", {size / 1e6:,.0f} MB; {_MANY:,} such trials take {many:,.1f} GB"
    return f"{folder}: {len(rows)} trials{takes}; {state}"


def _config_troubles(folder: Path) -> Iterator[Trouble]:
    copy = _copy(folder)
    try:
        plan = SweepPlan.from_json((folder / CONFIG).read_text(), "it")
    except (OSError, ValueError) as error:
        said = "is not there" if isinstance(error, FileNotFoundError) else "cannot be read"
        said += f": {one_line(error)}" if is_whole(folder / CONFIG) else ""
        if copy is None:
            yield Trouble(CONFIG, said, f"{ROUNDS} holds no copy of the plan; restore the file")
        else:
            yield Trouble(CONFIG, said, f"`--repair` restores it from the copy in {ROUNDS}", True)
        return
    if copy is not None and (changed := changed_fields(plan, copy)):
        remedy = f"delete it, and it is restored from the copy in {ROUNDS}"
        yield Trouble(CONFIG, f"changed since the start: {'; '.join(changed)}", remedy)


def _copy(folder: Path) -> SweepPlan | None:
    try:
        return logged_plan(folder)
    except ValueError:  # another version wrote it
        return None


def _sweep_id(folder: Path) -> str:
    try:
        return SweepPlan.from_json((folder / CONFIG).read_text()).sweep_id
    except (OSError, ValueError):
        copy = _copy(folder)
        return copy.sweep_id if copy else ""


def _missing(rows: list[Trial]) -> Iterator[Trouble]:
    numbers = {row.number for row in rows}
    for number in sorted(set(range(max(numbers, default=-1))) - numbers):
        yield Trouble(
            ROWS,
            f"there is no row for trial {number}",
            "`--resume` runs it if its round is the last",
        )


def _journal(path: Path) -> Iterator[Trouble]:
    if not path.exists():
        return
    copy = path.with_name(f"{path.name}.looked-at")
    shutil.copyfile(path, copy)
    try:
        with warnings.catch_warnings():  # a torn last line is no damage
            warnings.simplefilter("ignore")
            repair_journal(copy)
    except ValueError as error:
        yield Trouble(_JOURNAL, one_line(error).replace(str(copy), "it"), BY_RESUME, True)
    finally:
        for name in (copy.name, f"{copy.name}.torn"):
            copy.with_name(name).unlink(missing_ok=True)


def _checkpoints(folder: Path, rows: list[Trial]) -> Iterator[Trouble]:
    for row in rows:
        if row.state is not TrialState.COMPLETE or not row.config:
            continue
        for seed in row.seeds:
            try:
                config = TrainConfig.of_knobs(row.config).with_knobs({"seed": seed})
                read_tensors(checkpoint_path(folder / "checkpoints", config))
            except (OSError, CheckpointError) as error:
                where = f"checkpoint of {row.trial_id}, seed {seed}"
                yield Trouble(
                    where, one_line(error), "its row stays, but it cannot be evaluated again"
                )
            except (KeyError, ValueError, TypeError) as error:
                yield Trouble(row.trial_id, one_line(error), "another version made it")


if __name__ == "__main__":
    app()
