"""Self-contained record lines: each has its format, sweep, place and a checksum."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from ssmrl.format import FORMAT, check_format
from ssmrl.strict_json import json_object, json_text

_FORMAT, _SWEEP, _PLACE, _LOST, _CHECKSUM = "format", "sweep", "place", "lost", "checksum"
CHECKSUM_LENGTH = 16
MAX_DEPTH = 64
"""Maximum nesting of a record; Python's parser gives up at about ten times that depth."""

_LARGEST_PLACE = 2**63


class Record(NamedTuple):
    """The parsed content of a line.

    Attributes:
        content: Its own fields, without those that all records have.
        sweep: The id of its sweep; empty for none.
        place: Its position among the records of its file, from 1; None if an earlier version wrote
            no places.
        is_lost: Whether it only marks the place of a lost record.
    """

    content: dict[str, Any]
    sweep: str = ""
    place: int | None = None
    is_lost: bool = False


def sealed(content: Mapping[str, Any], sweep: str = "", place: int | None = None) -> str:
    """A record as one line of JSON, with its checksum.

    Args:
        content: Fields that JSON can hold; every float is kept exactly.
        sweep: The id of the sweep that it belongs to; empty for none.
        place: Its position among the records of its file, from 1.

    Raises:
        ValueError: If a number is not finite, or the content is nested too deeply.
    """
    placed = {} if place is None else {_PLACE: place}
    record = {_FORMAT: FORMAT, _SWEEP: sweep, **placed, **content}
    _check_depth(record, "a record")
    return json_text(record | {_CHECKSUM: _checksum(record)})


def sealed_loss(sweep: str, place: int | None) -> str:
    """A line that takes the place of a lost record, so that later records keep their places."""
    return sealed({_LOST: "what stood here was damaged, and is set aside"}, sweep, place)


def read_record(text: str, what: str = "a record", sweep: str = "") -> Record:
    """The inverse of ``sealed``.

    Args:
        text: The line.
        what: Name of the line, for the message.
        sweep: The sweep that it must belong to; empty for any.

    Raises:
        FormatError: If it has another format.
        ValueError: If it is not such a line, was changed, or belongs to another sweep.
    """
    record = json_object(text, what)
    _check_depth(record, what)
    check_format(record.get(_FORMAT), what)
    # The checksum alone would accept other spellings of the same value, such as 1E-5.
    is_as_written = json_text(record) == text.strip()
    if record.pop(_CHECKSUM, None) != _checksum(record) or not is_as_written:
        raise ValueError(f"{what} was changed or damaged: its checksum does not fit; restore it")
    del record[_FORMAT]
    found = record.pop(_SWEEP, "")
    if sweep and found != sweep:
        raise ValueError(
            f"{what} must belong to the sweep {sweep!r}, but is of {found!r}; do not mix the files "
            "of two sweeps"
        )
    place = record.pop(_PLACE, None)
    if place is not None and not (type(place) is int and 0 < place < _LARGEST_PLACE):
        raise ValueError(f"{what} must have a place from 1 on, but has {place!r}")
    return Record(record, str(found), place, _LOST in record)


def _checksum(record: Mapping[str, Any]) -> str:
    """The start of SHA-256 over the other fields, independent of their order."""
    text = json.dumps(  # noqa: TID251  # as the checksums of all files were made
        record, sort_keys=True, separators=(",", ":"), allow_nan=False
    )
    return hashlib.sha256(text.encode()).hexdigest()[:CHECKSUM_LENGTH]


def _check_depth(record: Mapping[str, Any], what: str) -> None:
    """Refuse deep nesting, which would make recursive readers fail with a RecursionError."""
    level: list[Any] = [record]
    for _ in range(MAX_DEPTH + 1):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, Mapping):
                inner += value.values()
            elif isinstance(value, list | tuple):
                inner += value
        if not inner:
            return
        level = inner
    raise ValueError(f"{what} must be nested at most {MAX_DEPTH} deep, but is nested deeper")
