"""Lines that outlive the process: each says its format and its sweep, and whether it is whole."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ssmrl.format import FORMAT, check_format
from ssmrl.strict_json import json_object, json_text

_FORMAT, _SWEEP, _CHECKSUM = "format", "sweep", "checksum"
CHECKSUM_LENGTH = 16


def sealed(content: Mapping[str, Any], sweep: str = "") -> str:
    """One line of JSON.

    Args:
        content: What JSON can hold; every float is kept exactly.
        sweep: The id of the sweep that it belongs to; empty for none.

    Raises:
        ValueError: If a number is not finite.
    """
    record = {_FORMAT: FORMAT, _SWEEP: sweep, **content}
    return json_text(record | {_CHECKSUM: _checksum(record)})


def opened(text: str, what: str = "a record", sweep: str = "") -> dict[str, Any]:
    """The content of a line that ``sealed`` wrote.

    Args:
        text: The line.
        what: What was read, for the message.
        sweep: The sweep that it must belong to; empty for any.

    Raises:
        FormatError: If it is of another format.
        ValueError: If it is no such line, was changed, or belongs to another sweep.
    """
    record = json_object(text, what)
    check_format(record.get(_FORMAT), what)
    if record.pop(_CHECKSUM, None) != _checksum(record):
        raise ValueError(
            f"{what} was changed or damaged: its checksum does not fit; restore it, or start anew"
        )
    del record[_FORMAT]
    found = record.pop(_SWEEP, "")
    if sweep and found != sweep:
        raise ValueError(
            f"{what} must belong to the sweep {sweep!r}, but is of {found!r}; do not mix the files "
            "of two sweeps"
        )
    return record


def _checksum(record: Mapping[str, Any]) -> str:
    """The start of SHA-256 over the other fields, whatever their order."""
    text = json.dumps(  # noqa: TID251  # as the checksums of all files were made
        record, sort_keys=True, separators=(",", ":"), allow_nan=False
    )
    return hashlib.sha256(text.encode()).hexdigest()[:CHECKSUM_LENGTH]
