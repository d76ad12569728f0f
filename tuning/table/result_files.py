"""Finds damage in the result files of a sweep: its table, its report, its best trial."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from ssmrl.checkpoint import CheckpointError, read_tensors
from ssmrl.printable import one_line
from tuning.table.record_files import LEDGER, Trouble
from tuning.table.trial import Trial, TrialState, csv_text

TABLE, _REPORT = "trials.csv", "report.html"
_ROW, _CHECKPOINT = "best/trial.json", "best/checkpoint.safetensors"
BY_RESUME = "`--resume` rebuilds it from the rows"


def result_troubles(folder: Path, rows: Sequence[Trial], sweep: str) -> Iterator[Trouble]:
    """The damaged or missing result files; nothing is changed.

    Args:
        folder: Folder of a sweep or study.
        rows: Its good rows.
        sweep: Its id; empty for any.
    """
    if rows and (what := _table_trouble(folder / TABLE, rows)):
        yield Trouble(TABLE, what, BY_RESUME, is_mended=True)
    has_ended = any((folder / name).exists() for name in (_REPORT, "best"))
    if not has_ended or not any(row.state is TrialState.COMPLETE for row in rows):
        return
    yield from _unless_read(folder, _REPORT, sweep)
    if not (folder / LEDGER).exists():  # a study keeps its best elsewhere
        yield from _unless_read(folder, _ROW, sweep)
        yield from _unless_read(folder, _CHECKPOINT, sweep)


def _table_trouble(path: Path, rows: Sequence[Trial]) -> str:
    """What is wrong with a table, which may lack the last rows; empty if nothing is."""
    if not path.exists():
        return "is not there"
    try:
        text = path.read_bytes().decode()
        names = {record.get("trial_id") for record in csv.DictReader(io.StringIO(text))}
    except (ValueError, csv.Error):
        return "cannot be read"
    is_of_rows = text == csv_text([row for row in rows if row.trial_id in names])
    return "" if is_of_rows else "does not match the rows"


def _unless_read(folder: Path, name: str, sweep: str) -> Iterator[Trouble]:
    path = folder / name
    try:
        if name == _CHECKPOINT:
            read_tensors(path)
        elif name == _ROW:
            Trial.from_json(path.read_text(), "it", sweep)
        elif not path.read_text().rstrip().endswith("</html>"):
            yield Trouble(name, "is not whole", BY_RESUME)
    except FileNotFoundError:
        yield Trouble(name, "is not there", BY_RESUME)
    except (OSError, ValueError, CheckpointError) as error:
        yield Trouble(name, f"cannot be read: {one_line(error)}", BY_RESUME)
