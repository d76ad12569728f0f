"""The lines of a file of records: which can be read, which stand in their place, what is lost."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from tuning.table.record import Record, read_record, sealed, sealed_loss

_MANY = 100_000  # more than that are not lost, but a place is wrong
# A disk that lost power may have the end of a line, but not what comes before: it gives zeros.
_NEVER_WRITTEN = bytes(8)
_BETWEEN = re.compile(rb'(?<=\}).(?=\{"format": |$)', re.DOTALL)  # two records, or the last's end


@dataclass(frozen=True)
class Line:
    """One line of such a file, as it was found.

    Attributes:
        number: From 1.
        text: Without its end.
        record: What it says; None if it cannot be read.
        error: What is wrong with it or with where it stands; None if nothing is.
    """

    number: int
    text: bytes
    record: Record | None = None
    error: ValueError | None = None

    @property
    def place(self) -> int | None:
        """Its own, if it has one."""
        return None if self.record is None else self.record.place


_Entry: TypeAlias = tuple[str, Record] | None  # a good line; None for one that is lost


@dataclass(frozen=True)
class Look:
    """What a file was found to hold.

    Attributes:
        lines: All lines but an end that was not written.
        end: That end.
    """

    lines: tuple[Line, ...]
    end: bytes = b""


def examined(data: bytes, subject: Callable[[int], str], sweep: str) -> Look:
    """The lines of a file, each read and held against its place.

    Args:
        data: What the file holds.
        subject: What the line of a number is called in messages.
        sweep: The id that every record must have; empty for any.
    """
    *texts, end = data.split(b"\n")
    lines = [_read(number, text, subject, sweep) for number, text in enumerate(texts, start=1)]
    if end:
        last = _read(len(texts) + 1, end, subject, sweep)
        if last.record is not None:  # only the end of the line is missing
            lines.append(last)
            end = b""
    elif lines and lines[-1].record is None and _NEVER_WRITTEN in lines[-1].text:
        end = lines.pop().text + b"\n"
    return Look(tuple(_placed(lines, subject)), end)


def mended(data: bytes, sweep: str, unwanted: frozenset[int] = frozenset()) -> str:
    """What a file should hold: every good record, and a line in the place of each that is lost.

    Args:
        data: What it holds.
        sweep: The id that every record must have; empty for any.
        unwanted: Numbers of lines that can be read, but say what cannot be.
    """
    look = examined(data, str, sweep)
    found: list[_Entry] = []
    for line in look.lines:
        readable = [] if line.number in unwanted else _readable(line, sweep)
        found += readable or [None]
    found += _readable(Line(0, look.end), sweep)
    good = dict(entry for entry in found if entry is not None)
    places = [record.place for record in good.values() if record.place]
    if len(places) == len(set(places)) and max(places, default=0) < len(found) + _MANY:
        own = sweep or next((record.sweep for record in good.values()), "")
        text = "".join(f"{line}\n" for line in _in_place(found, own))
        if all(line.error is None for line in examined(text.encode(), str, sweep).lines):
            return text
    # Two files in one, for example: all that is good, numbered anew.
    each = sorted(good.values(), key=lambda record: record.place or 0)
    return "".join(
        f"{sealed(record.content, record.sweep, place)}\n"
        for place, record in enumerate(each, start=1)
    )


def _in_place(found: Sequence[_Entry], sweep: str) -> list[str]:
    """The good lines in their places, and in each place that is empty one that says so."""
    placed = {entry[1].place: entry[0] for entry in found if entry and entry[1].place}
    if not placed:
        return [sealed_loss(sweep, None) if entry is None else entry[0] for entry in found]
    last = max(placed)
    without = [n for n, entry in enumerate(found) if entry and entry[1].place is None]
    empty = [place for place in range(1, last + 1) if place not in placed]
    num_lost = max(0, len(empty) - len(without))
    head = []
    for entry in found[: without[-1] + 1 if without else 0]:
        if entry is None and num_lost:
            head.append(sealed_loss(sweep, None))
            num_lost -= 1
        elif entry and entry[1].place is None:
            head.append(entry[0])
    placed |= {place: sealed_loss(sweep, place) for place in empty[len(empty) - num_lost :]}
    num_at_the_end = next(n for n, entry in enumerate(reversed(found)) if entry)
    tail = [sealed_loss(sweep, last + 1 + number) for number in range(num_at_the_end)]
    return [*head, *(placed[place] for place in sorted(placed)), *tail]


def _readable(line: Line, sweep: str) -> list[_Entry]:
    """The record of a line; or the records whose line's end was damaged, so that they share one."""
    if line.record is not None:
        return [(line.text.decode(), line.record)]
    parts = (_read(1, part, str, sweep) for part in _BETWEEN.split(line.text))
    return [(part.text.decode(), part.record) for part in parts if part.record is not None]


def _read(number: int, text: bytes, subject: Callable[[int], str], sweep: str) -> Line:
    try:
        return Line(number, text, read_record(text.decode(), subject(number), sweep))
    except UnicodeDecodeError as error:
        said = f"{subject(number)} must be JSON, but byte {error.start} is no text"
        return Line(number, text, error=ValueError(said))
    except ValueError as error:
        return Line(number, text, error=error)


def _placed(lines: Sequence[Line], subject: Callable[[int], str]) -> list[Line]:
    """The lines, with an error where one does not stand in its place."""
    line_of: dict[int, int] = {}
    for line in lines:
        if line.place is not None:
            line_of.setdefault(line.place, line.number)
    first = min(line_of.values(), default=len(lines) + 1)
    last = num_unknown = 0  # of what cannot be read it is not known whether it was a record
    found = []
    for line in lines:
        complaint = ""
        if line.record is None:
            num_unknown += 1
        elif line.place is None:
            if line.number > first:
                complaint = "has no place, but stands after one that has: lines were moved"
            else:
                last += 1
        else:
            complaint = _complaint(line, last, num_unknown, line_of)
            if line.place > last:
                last, num_unknown = line.place, 0
        error = ValueError(f"{subject(line.number)} {complaint}") if complaint else line.error
        found.append(replace(line, error=error))
    return found


def _complaint(line: Line, last: int, num_unknown: int, line_of: Mapping[int, int]) -> str:
    place = line.place or 0
    if line_of[place] != line.number:
        return f"is record {place} once more, after line {line_of[place]}"
    if place <= last:
        return f"is record {place}, but stands after record {last}: lines were moved"
    expected = last + 1
    if place <= expected + num_unknown:
        return ""
    if expected in line_of:
        return (
            f"is record {place}, but record {expected}, which stands in line {line_of[expected]}, "
            "was to come: lines were moved"
        )
    gone = f"{expected}" if place == expected + 1 else f"{expected} to {place - 1}"
    return f"is record {place}, but before it {gone} should stand: lines were taken out"
