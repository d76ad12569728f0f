"""The leaves of settings by name, and how settings check them; it knows no settings itself."""

import dataclasses
import numbers
import operator
from functools import cache
from typing import Any, TypeAlias

import numpy as np

KnobValue: TypeAlias = int | float | bool | str
Whole: TypeAlias = Any
"""A whole number of any integer type; ``whole`` refuses what is none."""


def knobs_of(settings: Any) -> dict[str, KnobValue]:
    """Every leaf of a tree of dataclasses by its dotted name, in the order of definition.

    Args:
        settings: A dataclass, whose fields are values or dataclasses.
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
    """Asked for at every knob of every point of a search."""
    return tuple(item.name for item in dataclasses.fields(kind))


def typed(knob: str, value: Any, kind: type) -> KnobValue:
    """The value as its knob's type; whole numbers pass between int and float, and from NumPy.

    Raises:
        TypeError: If it is of another type.
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
        ValueError: If it does; the message names the knob, the rule and the value.
    """
    if not holds:
        raise ValueError(f"`{knob}` must be {invariant}, but got {value!r}")


def check_positive(name: str, value: object) -> None:
    """Refuse what is no positive and finite number, or no number.

    Raises:
        ValueError: If it is none; the message names it.
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    holds = is_number and 0.0 < value < float("inf")  # type: ignore[operator]
    check_knob(holds, name, value, "positive and finite")


def whole(name: str, value: object, *, least: int = 1) -> int:
    """The value as a plain int, if it is a whole number of any integer type.

    Raises:
        ValueError: If it is none, or below ``least``; the message names it.

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
        section: What its knobs' names begin with.
        counts: Names that must be at least 1.
        positive: Names that must be positive and finite.
        shares: Names that must be in [0, 1].
        not_negative: Names that must be finite and at least 0.

    Raises:
        ValueError: If one is; the message names the knob.
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
