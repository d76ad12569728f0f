"""Finds damage in the record files of a sweep or study, and repairs it, keeping good records."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssmrl.files import aside, replace_file
from ssmrl.format import FormatError
from ssmrl.printable import one_line
from tuning.table.append_only import look_at
from tuning.table.record_lines import Look, mended
from tuning.table.trial import Trial

ROWS, ROUNDS, LEDGER = "trials.jsonl", "rounds.jsonl", "ledger.jsonl"
RECORD_FILES = (ROWS, ROUNDS, LEDGER)
WARM_ROWS = "warm_start.jsonl"
"""Rows of an earlier sweep that a sweep was started with."""

_THEN = {
    ROWS: "`--resume` repeats its trial if its round is the last",
    ROUNDS: "`--resume` rebuilds its round from plan, rows and journal",
    LEDGER: "`--resume` counts what it may have spent as spent",
    WARM_ROWS: "rounds that have not begun are searched without it",
}


@dataclass(frozen=True)
class Trouble:
    """Damage to a file of a sweep.

    Attributes:
        where: The file, with the line if there is one.
        what: What is wrong with it.
        remedy: The consequence, or what can be done.
        is_mended: Whether ``--repair`` repairs it.
    """

    where: str
    what: str
    remedy: str
    is_mended: bool = False


def read_rows(path: Path, sweep: str) -> tuple[list[Trial], list[Trouble]]:
    """The good rows of a table, and the trouble with each other line; nothing is changed.

    Args:
        path: A file of JSON lines; it need not exist.
        sweep: The id that every row must have; empty for any.
    """
    rows: dict[str, Trial] = {}
    look = look_at(path, sweep, _into(rows))
    return list(rows.values()), list(_troubles(path.name, look))


def record_troubles(path: Path, sweep: str) -> Iterator[Trouble]:
    """The trouble with each bad line of a record file; nothing is changed.

    Args:
        path: A file of JSON lines; it need not exist.
        sweep: The id that every record must have; empty for any.
    """
    yield from _troubles(path.name, look_at(path, sweep))


def mend_records(path: Path, sweep: str) -> None:
    """Back up a damaged file, and replace it by one with all its good records.

    Args:
        path: One of ``RECORD_FILES``, or ``WARM_ROWS``.
        sweep: The id that every record must have; empty for any.
    """
    unwanted: set[int] = set()
    if path.name == ROWS:
        good, all_of_it = look_at(path, sweep, _into({})), look_at(path, sweep)
        unwanted = {
            line.number
            for line, read in zip(good.lines, all_of_it.lines, strict=True)
            if line.record is None and read.record is not None
        }
    shutil.copyfile(path, aside(path))
    replace_file(path, mended(path.read_bytes(), sweep, frozenset(unwanted)))


def _into(rows: dict[str, Trial]) -> Callable[[dict[str, Any]], bool]:
    def take(content: dict[str, Any]) -> bool:
        row = Trial.from_content(content)
        if row.trial_id in rows:
            raise ValueError(f"is a second row of {row.trial_id}")
        rows[row.trial_id] = row
        return True

    return take


def _troubles(name: str, look: Look) -> Iterator[Trouble]:
    is_foreign = any(isinstance(line.error, FormatError) for line in look.lines) and not any(
        line.record for line in look.lines
    )
    for line in look.lines:
        if line.error is None:
            continue
        where, what = f"{name}, line {line.number}", one_line(line.error)
        if is_foreign:
            yield Trouble(where, what, "read it with that version")
        elif line.record is None:
            yield Trouble(where, what, f"`--repair` sets it aside, and {_THEN[name]}", True)
        else:
            yield Trouble(where, what, "`--repair` puts every record in its place", True)
    if look.end:
        where = f"{name}, line {len(look.lines) + 1}"
        what = f"was not written to its end ({len(look.end):,} bytes)"
        yield Trouble(where, what, f"`--repair` sets it aside, and {_THEN[name]}", True)
