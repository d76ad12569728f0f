"""Checks that the fields of a JSON record have the right types; not what they mean."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

_LARGEST = 10**300  # larger integers fit no float
_LARGEST_COUNT = 2**63  # larger counts fit no column of a table
_MAX_SHOWN = 60


class FieldType(NamedTuple):
    """A type of field values.

    Attributes:
        words: Its name in messages.
        holds: Tests whether a value has this type.
    """

    words: str
    holds: Callable[[Any], bool]


def list_of(kind: FieldType, length: int | None = None) -> FieldType:
    """The type of lists with values of one type, of a given length or of any."""
    words = (
        f"a list, each {kind.words}" if length is None else f"a list of {length}, each {kind.words}"
    )
    return FieldType(
        words,
        lambda value: (
            isinstance(value, list) and length in (None, len(value)) and all(map(kind.holds, value))
        ),
    )


def map_of(kind: FieldType) -> FieldType:
    """The type of objects whose values have one type."""
    return FieldType(
        f"an object, each value {kind.words}",
        lambda value: isinstance(value, dict) and all(map(kind.holds, value.values())),
    )


def none_or(kind: FieldType) -> FieldType:
    """The type that also allows null."""
    return FieldType(f"{kind.words} or null", lambda value: value is None or kind.holds(value))


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < _LARGEST)


TEXT = FieldType("text", lambda value: isinstance(value, str))
NUMBER = FieldType("a number", _is_number)
WHOLE = FieldType("a whole number", lambda value: type(value) is int and abs(value) < _LARGEST)
COUNT = FieldType(
    "a count from 0 to below 2**63",
    lambda value: type(value) is int and 0 <= value < _LARGEST_COUNT,
)
ANYTHING = FieldType("anything", lambda value: True)
KNOB = FieldType(
    "a number, text, true or false",
    lambda value: isinstance(value, str | bool) or _is_number(value),
)


def check_fields(content: Mapping[str, Any], types: Mapping[str, FieldType]) -> None:
    """Check the types of the fields that are present; missing fields are not checked here.

    Raises:
        ValueError: If a field has another type; the message names it and its value.

    Example:
        >>> check_fields({"number": "3"}, {"number": COUNT, "author": TEXT})
        Traceback (most recent call last):
        ValueError: `number` must be a count from 0 to below 2**63, but is '3'
    """
    for name, kind in types.items():
        if name in content and not kind.holds(content[name]):
            shown = repr(content[name])
            shown = shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}..."
            raise ValueError(f"`{name}` must be {kind.words}, but is {shown}")


def check_present(content: Mapping[str, Any], *names: str) -> None:
    """Check that the content has all fields.

    Raises:
        ValueError: If one is missing; the message names the first one.

    Example:
        >>> check_present({"number": 3}, "number", "author")
        Traceback (most recent call last):
        ValueError: `author` must be there, but there are only ['number']
    """
    for name in names:
        if name not in content:
            raise ValueError(f"`{name}` must be there, but there are only {sorted(content)}")
