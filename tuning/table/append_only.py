"""An append-only file of records; reading it changes nothing.

Each record has a checksum and its place, so that a changed, doubled, moved or missing record is
detected. A killed process leaves at most one incomplete end. Readers skip it, and the next append
first moves it to ``<path>.torn``.
"""

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from ssmrl.format import FormatError
from ssmrl.unknown_name import UnknownNameError
from tuning.table.durable import append_line
from tuning.table.record import sealed
from tuning.table.record_lines import Line, Look, examined

Take: TypeAlias = Callable[[dict[str, Any]], bool]
"""Consumes the content of a record; returns whether the records so far are complete together."""

UNREADABLE = (ValueError, UnknownNameError, TypeError, OverflowError)
"""Errors of a ``Take`` that mean a bad record; any other error is a bug in the ``Take``."""


class AppendOnlyFile:
    """A file of records. One process writes at a time.

    Args:
        path: A file of JSON lines, made with the first record.
        sweep: The id of the sweep, which every record carries; empty to read those of any sweep.
    """

    def __init__(self, path: Path, sweep: str = "") -> None:
        self._path, self._sweep = path, sweep
        self._size = self._current_size()
        self._num_kept, self._end, self._is_open = 0, b"", False

    def read(self, take: Take, lost: Callable[[], None] = lambda: None) -> None:
        """Pass on all records, in order; to be called before any is appended.

        Args:
            take: Receives the content of each record. Final records that ``take`` calls incomplete
                are left out with a warning, like an incomplete line.
            lost: Called at each place of a record that was lost.

        Raises:
            FormatError: If a record has another format.
            ValueError: If a line is damaged, not in its place, or refused by ``take``; the message
                names file and line.
        """
        data = self._path.read_bytes() if self._path.exists() else b""
        look = examined(data, lambda number: f"line {number} of {self._path}", self._sweep)
        size = kept = 0
        for line in look.lines:
            if line.error is not None or line.record is None:
                raise line.error or AssertionError(line)
            before, size = size, min(size + len(line.text) + 1, len(data))
            if line.record.is_lost:
                lost()
                stands = kept == before
            else:
                stands = _taken(line, take, f"line {line.number} of {self._path}: ")
            if stands:
                kept, self._num_kept = size, line.number
        self._end, self._size = data[kept:], len(data)
        self._is_open = bool(kept) and not data[:kept].endswith(b"\n")
        if self._end:
            warnings.warn(
                f"the last line of {self._path} was torn: it was not written to its end "
                f"({len(self._end)} bytes, probably a killed process); it is left out, and "
                f"will be moved to {self._path.name}.torn by the next append",
                stacklevel=3,
            )

    def append(self, *contents: Mapping[str, Any]) -> None:
        """Append records, all or none; when this returns, they are on the disk.

        Raises:
            RuntimeError: If another process wrote to the file.
            ValueError: If a record cannot be written as JSON.
            OSError: If the file cannot be written; it is then unchanged.
        """
        if (size := self._current_size()) != self._size:
            raise RuntimeError(
                f"only one process may write to {self._path}, but it changed from {self._size} to "
                f"{size} bytes meanwhile; run the two under different names."
            )
        first = self._num_kept + 1
        text = "\n".join(
            sealed(content, self._sweep, place) for place, content in enumerate(contents, first)
        )
        self._cut_back()
        append_line(self._path, text)
        self._num_kept += len(contents)
        self._size = self._current_size()

    def _cut_back(self) -> None:
        """Move the incomplete end to the torn file, or add a missing newline to the last line."""
        if self._end:
            torn = self._path.with_name(f"{self._path.name}.torn")
            append_line(torn, self._end.decode(errors="replace").rstrip("\n"))
            os.truncate(self._path, self._size - len(self._end))
        if self._is_open:
            append_line(self._path, "")
        self._end, self._is_open = b"", False
        self._size = self._current_size()

    def _current_size(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0


def look_at(path: Path, sweep: str = "", take: Take | None = None) -> Look:
    """All lines of a file, with the error of each bad line, for inspection and repair.

    Args:
        path: The file; it need not exist.
        sweep: The id that every record must have; empty for any.
        take: Receives the content of each readable record, once, in the order of places.
    """
    look = examined(path.read_bytes() if path.exists() else b"", lambda number: "it", sweep)
    if take is None:
        return look
    refused: dict[int, ValueError] = {}
    taken: set[bytes] = set()
    for line in sorted(look.lines, key=lambda line: line.place or 0):
        if line.record is None or line.record.is_lost or line.text in taken:
            continue
        taken.add(line.text)
        try:
            _taken(line, take)
        except ValueError as error:
            refused[line.number] = error
    lines = (
        replace(line, record=None, error=refused[line.number]) if line.number in refused else line
        for line in look.lines
    )
    return Look(tuple(lines), look.end)


def _taken(line: Line, take: Take, subject: str = "") -> bool:
    try:
        return take(line.record.content if line.record else {})
    except FormatError:
        raise
    except UNREADABLE as error:
        raise ValueError(f"{subject}{error.args[0] if error.args else error}") from error
