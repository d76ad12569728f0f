"""The ranges of one knob: numbers between two ends, or options; they do not know their knob."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from ssmrl.config import KnobValue


@dataclass(frozen=True)
class Float:
    """All numbers from ``low`` to ``high``, both included.

    Attributes:
        low: Smallest value.
        high: Largest value.
        log: Whether to search on a log scale: for learning rates and other orders of magnitude.

    Raises:
        ValueError: If the range is empty, infinite, or logarithmic and not positive.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))
        _check_order(self.low, self.high, self.log)

    def contains(self, value: KnobValue) -> bool:
        """Whether ``value`` is a number in the range; a bool is not a number."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and self.low <= float(value) <= self.high

    def covers(self, other: "Range") -> bool:
        """Whether every value of ``other``, a range of the same kind, is one of this range."""
        return isinstance(other, Float) and self.low <= other.low and other.high <= self.high

    def to_unit(self, value: float) -> float:
        """Where ``value`` lies on the scale of the search: 0 at ``low``, 1 at ``high``.

        A value outside of the range lies below 0 or above 1.

        Raises:
            ValueError: If the scale is logarithmic and the value not positive.

        Example:
            >>> Float(0.01, 1.0, log=True).to_unit(0.1)
            0.5
        """
        return _to_unit(value, self.low, self.high, self.log)

    def from_unit(self, unit: float) -> float:
        """The value at a position on the scale of the search; outside 0 to 1, the nearer end.

        Raises:
            ValueError: If ``unit`` is NaN.
        """
        return _from_unit(unit, self.low, self.high, self.log)


@dataclass(frozen=True)
class Int:
    """The integers ``low, low + step, ..., high``.

    Attributes:
        low: Smallest value.
        high: Largest value.
        step: Distance of neighbours.
        log: Whether to search on a log scale; ``step`` must then be 1.

    Raises:
        ValueError: If the range is empty, ``step`` misses ``high``, or ``log`` does not fit.
        TypeError: If a bound or the step is not an integer.
    """

    low: int
    high: int
    step: int = 1
    log: bool = False

    def __post_init__(self) -> None:
        for name in ("low", "high", "step"):
            if type(value := getattr(self, name)) is not int:
                raise TypeError(f"`{name}` must be an integer, but got {value!r}; or use Float.")
        _check_order(self.low, self.high, self.log)
        low, high, step = self.low, self.high, self.step
        if step < 1 or (high - low) % step:
            hint = f"use high={high - (high - low) % step}" if step >= 1 else "use step=1"
            raise ValueError(
                "`step` must be at least 1 and divide `high - low`, "
                f"but got {low=}, {high=}, {step=}; {hint}."
            )
        if self.log and step != 1:
            raise ValueError(f"`step` must be 1 with `log`, but got {step=}; drop one of the two.")

    def contains(self, value: KnobValue) -> bool:
        """Whether ``value`` is an integer in the range; ``8.0`` and bools are not integers."""
        if not isinstance(value, int) or isinstance(value, bool):
            return False
        return self.low <= value <= self.high and (value - self.low) % self.step == 0

    def covers(self, other: "Range") -> bool:
        """Whether every value of ``other``, a range of the same kind, is one of this range."""
        if not isinstance(other, Int):
            return False
        return all(self.contains(end) for end in (other.low, other.low + other.step, other.high))

    def to_unit(self, value: float) -> float:
        """Where ``value`` lies on the scale of the search: 0 at ``low``, 1 at ``high``.

        A value outside of the range lies below 0 or above 1.

        Raises:
            ValueError: If the scale is logarithmic and the value not positive.
        """
        return _to_unit(value, self.low, self.high, self.log)

    def from_unit(self, unit: float) -> int:
        """The step nearest to a position on the search's scale; outside 0 to 1, the nearer end.

        Raises:
            ValueError: If ``unit`` is NaN.

        Example:
            >>> Int(8, 128, step=8).from_unit(0.52)
            72
        """
        value = _from_unit(unit, self.low, self.high, self.log)
        num_steps = round((value - self.low) / self.step)
        return min(max(self.low, self.low + self.step * num_steps), self.high)


@dataclass(frozen=True)
class Choice:
    """A choice between values without an order.

    Attributes:
        options: At least two values, all different.

    Raises:
        ValueError: If there are fewer, or two are equal.
    """

    options: tuple[KnobValue, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(self.options))
        if len(self.options) < 2 or len(_typed(self.options)) < len(self.options):
            raise ValueError(
                f"`options` must be at least 2 different values, but got {self.options!r}; "
                "set a fixed knob in the base configuration instead."
            )

    def contains(self, value: KnobValue) -> bool:
        """Whether ``value`` is an option with the same type: ``1`` is not ``True``."""
        return (type(value), value) in _typed(self.options)

    def covers(self, other: "Range") -> bool:
        """Whether every value of ``other``, a range of the same kind, is one of this range."""
        return isinstance(other, Choice) and all(map(self.contains, other.options))


Range: TypeAlias = Float | Int | Choice

_KINDS: dict[str, Callable[..., Range]] = {"float": Float, "int": Int, "choice": Choice}


def _check_order(low: float, high: float, log: bool) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(
            f"`low < high` must hold with finite ends, but got {low=}, {high=}; "
            "set a fixed knob in the base configuration instead."
        )
    if log and low <= 0:
        raise ValueError(
            f"`0 < low < high` must hold with `log`, but got {low=}, {high=}; "
            "use a linear scale for ranges that include 0."
        )
    if log and math.log(low) == math.log(high):
        raise ValueError(
            f"the ends must differ on the logarithmic scale, but got {low=}, {high=}; "
            "widen the range."
        )


def range_fields(a_range: Range) -> dict[str, Any]:
    """The kind and the fields of a range, for JSON."""
    kinds = {make: kind for kind, make in _KINDS.items()}
    return {"kind": kinds[type(a_range)], **dataclasses.asdict(a_range)}


def range_text(a_range: Range) -> str:
    """A range as text for a reader.

    Example:
        >>> range_text(Float(3e-4, 1.0, log=True))
        '[0.0003, 1]'
        >>> range_text(Choice(("ssm", "gru")))
        'ssm, gru'
    """
    if isinstance(a_range, Choice):
        return ", ".join(map(str, a_range.options))
    return f"[{a_range.low:.4g}, {a_range.high:.4g}]"


def range_from(knob: str, fields: Any) -> Range:
    """The inverse of ``range_fields``.

    Args:
        knob: The knob, for the message.
        fields: The fields that were read.

    Raises:
        ValueError: If they do not describe a range, or the range is invalid.
    """
    kind = fields.get("kind") if isinstance(fields, dict) else None
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(
            f"the range of `{knob}` must have a kind of {sorted(_KINDS)}, but got {fields!r}"
        )
    arguments = {name: value for name, value in fields.items() if name != "kind"}
    try:
        return _KINDS[kind](**arguments)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"the range of `{knob}` cannot be read from {fields!r}: {error}") from None


def _to_unit(value: float, low: float, high: float, log: bool) -> float:
    if not log:
        return (value - low) / (high - low)
    if value <= 0:
        raise ValueError(
            f"`value` must be positive on the logarithmic scale from {low} to {high}, "
            f"but got {value}."
        )
    return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))


def _from_unit(unit: float, low: float, high: float, log: bool) -> float:
    if math.isnan(unit):
        raise ValueError(f"`unit` must be a position between 0 and 1, but got {unit}.")
    if unit <= 0 or unit >= 1:  # the ends are returned exactly
        return low if unit <= 0 else high
    if log:
        value = math.exp(math.log(low) * (1 - unit) + math.log(high) * unit)
    else:
        value = low * (1 - unit) + high * unit
    return min(max(low, value), high)


def _typed(options: tuple[KnobValue, ...]) -> set[tuple[type, KnobValue]]:
    return {(type(option), option) for option in options}
