"""Helpers to list the leaves of any settings dataclass by name, and to check their values."""

import dataclasses
import numbers
import operator
from functools import cache
from typing import Any, TypeAlias

import numpy as np

KnobValue: TypeAlias = int | float | bool | str
Whole: TypeAlias = Any
"""A whole number of any integer type; ``whole`` refuses anything else."""


def knobs_of(settings: Any) -> dict[str, KnobValue]:
    """Every leaf of a tree of dataclasses by its dotted name, in the order of definition.

    Args:
        settings: A dataclass; its fields are values or dataclasses.
    """
    leaves: dict[str, KnobValue] = {}
    ahead = [("", settings)]
    while ahead:
        name, value = ahead.pop()
        kind: Any = type(value)
        if dataclasses.is_dataclass(value):
            inside = f"{name}." if name else ""
            own = reversed(_field_names(kind))
            ahead += [(f"{inside}{field}", getattr(value, field)) for field in own]
        else:
            leaves[name] = value
    return leaves


@cache
def _field_names(kind: type) -> tuple[str, ...]:
    """Names of a dataclass's fields; cached, since a search asks for them very often."""
    return tuple(item.name for item in dataclasses.fields(kind))


def typed(knob: str, value: Any, kind: type) -> KnobValue:
    """Convert a value to its knob's type: NumPy scalars, and whole numbers between int and float.

    Raises:
        TypeError: If the value is of any other type.
    """
    given, value = value, value.item() if isinstance(value, np.generic) else value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if type(value) is not kind:
        raise TypeError(f"`{knob}` must be of type {kind.__name__}, but got {given!r}")
    return kind(value)  # type: ignore[no-any-return]


def check_knob(holds: bool, knob: str, value: object, invariant: str) -> None:
    """Refuse a value that breaks its rule.

    Raises:
        ValueError: If ``holds`` is false; the message names the knob, the rule and the value.
    """
    if not holds:
        raise ValueError(f"`{knob}` must be {invariant}, but got {value!r}")


def check_positive(name: str, value: object) -> None:
    """Check that a value is a positive and finite number.

    Raises:
        ValueError: If it is not; the message gives its name.
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    holds = is_number and 0.0 < value < float("inf")  # type: ignore[operator]
    check_knob(holds, name, value, "positive and finite")


def whole(name: str, value: object, *, least: int = 1) -> int:
    """Convert a whole number of any integer type to a plain int.

    Raises:
        ValueError: If it is not a whole number, or below ``least``; the message gives its name.

    Example:
        >>> whole("horizon", np.int64(7))
        7
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or number < least:
        raise ValueError(f"`{name}` must be a whole number of at least {least}, but got {value!r}")
    return number


def check_ranges(
    settings: object,
    section: str,
    *,
    counts: tuple[str, ...] = (),
    positive: tuple[str, ...] = (),
    shares: tuple[str, ...] = (),
    not_negative: tuple[str, ...] = (),
) -> None:
    """Refuse settings outside their ranges.

    Args:
        settings: A dataclass.
        section: Section of the settings, such as ``"meta"``, for the knob names in messages.
        counts: Fields that must be whole numbers of at least 1.
        positive: Fields that must be positive and finite.
        shares: Fields that must be in [0, 1].
        not_negative: Fields that must be finite and at least 0.

    Raises:
        ValueError: If a setting is outside its range; the message names the knob.
    """
    for name in counts:
        value = getattr(settings, name)
        is_whole = isinstance(value, int | np.integer)
        check_knob(is_whole, f"{section}.{name}", value, "a whole number")
        check_knob(value >= 1, f"{section}.{name}", value, "at least 1")
    for name in positive:
        value = getattr(settings, name)
        check_knob(0.0 < value < float("inf"), f"{section}.{name}", value, "positive and finite")
    for name in shares:
        value = getattr(settings, name)
        check_knob(0.0 <= value <= 1.0, f"{section}.{name}", value, "in [0, 1]")
    for name in not_negative:
        value = getattr(settings, name)
        check_knob(0.0 <= value < float("inf"), f"{section}.{name}", value, "at least 0")
