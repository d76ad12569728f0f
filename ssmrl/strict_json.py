"""Strict JSON reading and writing: no NaN, no duplicate keys, and errors with their position.

Replies of language models are read by ``agents.strict_json``, which also limits their size.
"""

import json
import math
from typing import Any

_MAX_SHOWN = 40


def json_text(value: Any, *, indent: int | None = None) -> str:
    """The value as JSON; on one line unless it is indented.

    Args:
        value: Any value that JSON can hold.
        indent: Number of spaces per level.

    Raises:
        ValueError: If a number is not finite, since other programs could not read it.
        TypeError: If the value is of a type that JSON does not have.

    Example:
        >>> json_text({"score": 1.5, "interval": None})
        '{"score": 1.5, "interval": null}'
    """
    return json.dumps(value, indent=indent, allow_nan=False)


def json_value(text: str | bytes, what: str = "it") -> Any:
    """The inverse of ``json_text``.

    Args:
        text: JSON text; the encoding of bytes is detected from their start.
        what: Name of what was read, for the message.

    Raises:
        ValueError: If the text is not JSON, is nested too deeply, has a number that is not finite,
            or has a duplicate key. The message is one line that begins with ``what``.

    Example:
        >>> json_value('{"score": NaN}', "x.json")
        Traceback (most recent call last):
        ValueError: x.json must be JSON, but has the number NaN, which is not finite
    """
    try:
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"{what} must be JSON, but at {place}: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{what} must be JSON, but byte {error.start} is not text") from error
    except RecursionError as error:
        raise ValueError(f"{what} must be JSON, but is nested too deeply to be read") from error
    except ValueError as error:  # from the hooks below, or of integers with thousands of digits
        raise ValueError(f"{what} must be JSON, but {error}") from error


def json_object(text: str | bytes, what: str) -> dict[str, Any]:
    """Parse a text that must be a JSON object.

    Args:
        text: As in ``json_value``.
        what: Name of what was read, for the message.

    Raises:
        ValueError: If the text is not an object, or ``json_value`` refuses it.
    """
    value = json_value(text, what)
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be a JSON object, but is {_shown(repr(value))}")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {_shown(repr(key))} occurs twice")
        found[key] = value
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"has the number {name}, which is not finite")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"has the number {_shown(text)}, which is not finite")
    return value


def _shown(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
