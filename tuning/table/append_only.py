"""A file of records to which records are only ever added; reading it changes nothing.

Each record has a checksum and its place, so that none can be changed, doubled, moved or taken out
without being found. A process that is killed leaves at most one end that was not written: it is
left out, and moved to ``<path>.torn`` before the next record is added.
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
"""Takes in what a record says; whether what was taken so far stands on its own."""

UNREADABLE = (ValueError, UnknownNameError, TypeError, OverflowError)
"""What a record may raise in whoever takes it in; anything else is a fault of theirs."""


class AppendOnlyFile:
    """A file of records. One process writes at a time.

    Args:
        path: Of JSON lines, made with the first record.
        sweep: The id of the sweep, which every record carries; without one, those of any are read.
    """

    def __init__(self, path: Path, sweep: str = "") -> None:
        self._path, self._sweep = path, sweep
        self._size = self._current_size()
        self._num_kept, self._end, self._is_open = 0, b"", False

    def read(self, take: Take, lost: Callable[[], None] = lambda: None) -> None:
        """Hand on all records, in order; to be called before any is added.

        Args:
            take: Gets the content of each. Records at the end that do not stand on their own are
                left out, as an end that was not written is, with a warning.
            lost: Is told where a record stood that was set aside.

        Raises:
            FormatError: If a record is of another format.
            ValueError: If a line is damaged, does not stand where it was written, or cannot be
                taken in; the message names file and line.
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
                f"({len(self._end)} bytes, probably a killed process); it is left out, and moved "
                f"to {self._path.name}.torn by the next one",
                stacklevel=3,
            )

    def append(self, *contents: Mapping[str, Any]) -> None:
        """Add records, all or none; when this returns, they are on the disk.

        Raises:
            RuntimeError: If another process wrote to the file.
            ValueError: If one cannot be written.
            OSError: If the file cannot be written; it is then as it was.
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
        """Set aside what was left out, and end the last line if its end alone is missing."""
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
    """All that a file holds, and what is wrong with each line, for whoever wants to mend it.

    Args:
        path: It need not exist.
        sweep: The id that every record must have; empty for any.
        take: Gets the content of each record that can be read, each once, by place.
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
