"""The lines of a record file: which are readable, which are out of place, which are lost."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from tuning.table.record import Record, read_record, sealed, sealed_loss

_MANY = 100_000  # more missing records than that mean that a place is wrong
# After a power loss, a line may have its end but zeros before it, which were never written.
_NEVER_WRITTEN = bytes(8)
# The damaged newline between two records, or after the last one.
_BETWEEN = re.compile(rb'(?<=\}).(?=\{"format": |$)', re.DOTALL)


@dataclass(frozen=True)
class Line:
    """One line of a record file, as it was found.

    Attributes:
        number: Line number, from 1.
        text: The line without its newline.
        record: Its record; None if it cannot be read.
        error: What is wrong with its content or position; None if nothing is.
    """

    number: int
    text: bytes
    record: Record | None = None
    error: ValueError | None = None

    @property
    def place(self) -> int | None:
        """The place in its record, if it has one."""
        return None if self.record is None else self.record.place


_Entry: TypeAlias = tuple[str, Record] | None  # a good line; None for a lost one


@dataclass(frozen=True)
class Look:
    """The content of a record file.

    Attributes:
        lines: All lines except an incomplete end.
        end: The incomplete end.
    """

    lines: tuple[Line, ...]
    end: bytes = b""


def examined(data: bytes, subject: Callable[[int], str], sweep: str) -> Look:
    """The lines of a file, each parsed and checked against its place.

    Args:
        data: The content of the file.
        subject: Names a line in messages, by its number.
        sweep: The id that every record must have; empty for any.
    """
    *texts, end = data.split(b"\n")
    lines = [_read(number, text, subject, sweep) for number, text in enumerate(texts, start=1)]
    if end:
        last = _read(len(texts) + 1, end, subject, sweep)
        if last.record is not None:  # only the newline is missing
            lines.append(last)
            end = b""
    elif lines and lines[-1].record is None and _NEVER_WRITTEN in lines[-1].text:
        end = lines.pop().text + b"\n"
    return Look(tuple(_placed(lines, subject)), end)


def mended(data: bytes, sweep: str, unwanted: frozenset[int] = frozenset()) -> str:
    """The repaired content of a file: every good record, and a marker for each lost one.

    Args:
        data: The damaged content.
        sweep: The id that every record must have; empty for any.
        unwanted: Numbers of readable lines whose content is invalid.
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
    # Otherwise, for example with two files in one, the good records are renumbered.
    each = sorted(good.values(), key=lambda record: record.place or 0)
    return "".join(
        f"{sealed(record.content, record.sweep, place)}\n"
        for place, record in enumerate(each, start=1)
    )


def _in_place(found: Sequence[_Entry], sweep: str) -> list[str]:
    """The good lines in their places, with a loss marker in each empty place."""
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
    """The record of a line, or its several records if the newlines between them were damaged."""
    if line.record is not None:
        return [(line.text.decode(), line.record)]
    parts = (_read(1, part, str, sweep) for part in _BETWEEN.split(line.text))
    return [(part.text.decode(), part.record) for part in parts if part.record is not None]


def _read(number: int, text: bytes, subject: Callable[[int], str], sweep: str) -> Line:
    try:
        return Line(number, text, read_record(text.decode(), subject(number), sweep))
    except UnicodeDecodeError as error:
        said = f"{subject(number)} must be JSON, but byte {error.start} is not UTF-8"
        return Line(number, text, error=ValueError(said))
    except ValueError as error:
        return Line(number, text, error=error)


def _placed(lines: Sequence[Line], subject: Callable[[int], str]) -> list[Line]:
    """The lines, with an error for each that is not in its place."""
    line_of: dict[int, int] = {}
    for line in lines:
        if line.place is not None:
            line_of.setdefault(line.place, line.number)
    first = min(line_of.values(), default=len(lines) + 1)
    last = num_unknown = 0  # an unreadable line may or may not have been a record
    found = []
    for line in lines:
        complaint = ""
        if line.record is None:
            num_unknown += 1
        elif line.place is None:
            if line.number > first:
                complaint = "has no place, but comes after a line that has one: lines were moved"
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
        return f"is record {place}, but comes after record {last}: lines were moved"
    expected = last + 1
    if place <= expected + num_unknown:
        return ""
    if expected in line_of:
        return (
            f"is record {place}, but record {expected} should come here and is in line "
            f"{line_of[expected]}: lines were moved"
        )
    gone = f"{expected}" if place == expected + 1 else f"{expected} to {place - 1}"
    return f"is record {place}, but {gone} should come before it: lines were taken out"
