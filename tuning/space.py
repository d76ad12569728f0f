"""What a sweep may vary: ranges keyed by knob, checked when made; not how they are searched."""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self, TypeAlias

from ssmrl.config import KnobValue, TrainConfig


@dataclass(frozen=True)
class Float:
    """All numbers from ``low`` to ``high``, both included.

    Attributes:
        low: Smallest value.
        high: Largest value.
        log: Search the logarithm evenly: for step sizes, whose order of magnitude matters.

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
        """Whether ``value`` is a number of the range; a bool is none."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and self.low <= float(value) <= self.high


@dataclass(frozen=True)
class Int:
    """The integers ``low, low + step, ..., high``.

    Attributes:
        low: Smallest value.
        high: Largest value.
        step: Distance of neighbours.
        log: Search the logarithm evenly; then ``step`` is 1.

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
        """Whether ``value`` is an integer of the range; neither ``8.0`` nor a bool is."""
        if not isinstance(value, int) or isinstance(value, bool):
            return False
        return self.low <= value <= self.high and (value - self.low) % self.step == 0


@dataclass(frozen=True)
class Choice:
    """One of some values without an order.

    Attributes:
        options: At least two values, all different.

    Raises:
        ValueError: If there are fewer.
    """

    options: tuple[KnobValue, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(self.options))
        if len(self.options) < 2 or len(_typed(self.options)) < len(self.options):
            raise ValueError(
                f"`options` must be at least 2 different values, but got {self.options!r}; "
                "set a knob that does not vary in the base configuration."
            )

    def contains(self, value: KnobValue) -> bool:
        """Whether ``value`` is an option, of the same type: ``1`` is not ``True``."""
        return (type(value), value) in _typed(self.options)


Range: TypeAlias = Float | Int | Choice

_KINDS: dict[str, Callable[..., Range]] = {"float": Float, "int": Int, "choice": Choice}
_KNOB_TYPES: dict[type, tuple[type, ...]] = {
    float: (Float, Choice),
    int: (Int, Choice),
    bool: (Choice,),
    str: (Choice,),
}


@dataclass(frozen=True)
class SearchSpace:
    """The knobs that vary, their ranges, and the configuration that everything else comes from.

    A *point* of the space is a mapping with a value for every searched knob, and nothing else.

    Attributes:
        ranges: The range of each searched knob, read-only.
        base: The configuration of the knobs that do not vary.

    Raises:
        KeyError: If a name is not a knob; the message lists the known ones.
        ValueError: If there is no range, or one has an end that no configuration accepts.
        TypeError: If a range does not fit the type of its knob.

    Example:
        >>> space = SearchSpace({"meta.inner_lr": Float(0.01, 1.0, log=True)}, TrainConfig())
        >>> space.default_point()
        {'meta.inner_lr': 0.1}
        >>> space.configure({"meta.inner_lr": 0.5}).meta.inner_lr
        0.5
    """

    ranges: Mapping[str, Range]
    base: TrainConfig

    def __post_init__(self) -> None:
        object.__setattr__(self, "ranges", MappingProxyType(dict(self.ranges)))
        if not self.ranges:
            raise ValueError("a search space must hold at least 1 range, but got none.")
        known = self.base.knobs()
        for knob, a_range in self.ranges.items():
            if knob not in known:
                raise KeyError(f"unknown knob {knob!r}; the knobs are: {', '.join(known)}")
            _check_fit(knob, a_range, type(known[knob]))
            _check_ends(knob, a_range, self.base)

    def __reduce__(self) -> tuple[type[Self], tuple[dict[str, Range], TrainConfig]]:
        return type(self), (dict(self.ranges), self.base)  # a read-only view cannot be pickled

    def contains(self, knobs: Mapping[str, KnobValue]) -> bool:
        """Whether ``knobs`` is a point of the space."""
        return knobs.keys() == self.ranges.keys() and all(
            a_range.contains(knobs[knob]) for knob, a_range in self.ranges.items()
        )

    def default_point(self) -> dict[str, KnobValue]:
        """The values that the base configuration has for the searched knobs.

        Raises:
            ValueError: If the base lies outside of the space; the message names the knobs.
        """
        known = self.base.knobs()
        point = {knob: known[knob] for knob in self.ranges}
        self._check_point(point, "the base configuration")
        return point

    def configure(self, point: Mapping[str, KnobValue]) -> TrainConfig:
        """The configuration of a point.

        Raises:
            ValueError: If a searched knob is missing, another one is given, or a value is outside.
        """
        self._check_point(point, "the point")
        return self.base.with_knobs(point)

    def to_json(self) -> str:
        """The ranges as one line of JSON; the base is not part of it."""
        kinds = {make: kind for kind, make in _KINDS.items()}
        return json.dumps(
            {
                knob: {"kind": kinds[type(a_range)], **dataclasses.asdict(a_range)}
                for knob, a_range in self.ranges.items()
            }
        )

    @classmethod
    def from_json(cls, text: str, base: TrainConfig) -> Self:
        """The inverse of ``to_json``.

        Raises:
            ValueError: If the text does not describe ranges; also all that the class raises.
        """
        data = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError(f"a search space must be a JSON object, but got {text[:80]!r}")
        return cls({knob: _range_from(knob, fields) for knob, fields in data.items()}, base)

    def _check_point(self, point: Mapping[str, KnobValue], whose: str) -> None:
        if point.keys() != self.ranges.keys():
            missing = sorted(self.ranges.keys() - point.keys())
            extra = sorted(point.keys() - self.ranges.keys())
            raise ValueError(
                f"{whose} must have exactly the searched knobs, but {missing=}, {extra=}."
            )
        outside = {knob: v for knob, v in point.items() if not self.ranges[knob].contains(v)}
        if outside:
            ranges = ", ".join(f"{knob}: {self.ranges[knob]}" for knob in outside)
            raise ValueError(
                f"{whose} must lie inside of the search space, but has {outside}; "
                f"change the value or the range ({ranges})."
            )


def default_space(base: TrainConfig) -> SearchSpace:
    """The knobs that matter most for how well a policy adapts, around the published values.

    Args:
        base: Decides whether there is a memory to size: ``policy.state_dim`` is searched for the
            method ``ssm`` alone.
    """
    ranges: dict[str, Range] = {
        "policy.hidden_dim": Int(16, 128, step=16),
        "meta.inner_lr": Float(0.01, 1.0, log=True),
        "meta.outer_lr": Float(3e-4, 1e-2, log=True),
        "meta.num_inner_steps": Int(1, 3),
    }
    if base.policy.method == "ssm":
        ranges = {"policy.state_dim": Int(8, 128, step=8), **ranges}
    return SearchSpace(ranges, base)


def _check_order(low: float, high: float, log: bool) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(
            f"`low < high` must hold with finite ends, but got {low=}, {high=}; "
            "set a knob that does not vary in the base configuration."
        )
    if log and low <= 0:
        raise ValueError(
            f"`0 < low < high` must hold with `log`, but got {low=}, {high=}; "
            "use a linear scale for ranges that include 0."
        )


def _check_fit(knob: str, a_range: Range, kind: type) -> None:
    if not isinstance(a_range, _KNOB_TYPES[kind]):
        fitting = " or ".join(fit.__name__ for fit in _KNOB_TYPES[kind])
        raise TypeError(
            f"the range of `{knob}`, of type {kind.__name__}, must be {fitting}, but got {a_range}."
        )


def _check_ends(knob: str, a_range: Range, base: TrainConfig) -> None:
    """Tries the values that can be wrong: each option, or the ends and the first step."""
    if isinstance(a_range, Choice):
        values = a_range.options
    elif isinstance(a_range, Int):
        values = (a_range.low, a_range.low + a_range.step, a_range.high)
    else:
        values = (a_range.low, a_range.high)
    for value in values:
        try:
            base.with_knobs({knob: value})
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"every value of the range of `{knob}` must make a valid configuration, but "
                f"{a_range} reaches {value!r}: {error.args[0]}; choose other ends, step or options."
            ) from error


def _range_from(knob: str, fields: Any) -> Range:
    kind = fields.get("kind") if isinstance(fields, dict) else None
    if kind not in _KINDS:
        raise ValueError(
            f"the range of `{knob}` must have a kind of {sorted(_KINDS)}, but got {fields!r}"
        )
    arguments = {name: value for name, value in fields.items() if name != "kind"}
    try:
        return _KINDS[kind](**arguments)
    except TypeError as error:
        raise ValueError(f"the range of `{knob}` cannot be read from {fields!r}: {error}") from None


def _typed(options: tuple[KnobValue, ...]) -> set[tuple[type, KnobValue]]:
    return {(type(option), option) for option in options}
