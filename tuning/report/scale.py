"""Positions of values along a report's axis, in percent of its length; not how it is drawn."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ssmrl.config import KnobValue
from tuning.spaces.ranges import Choice, Range

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Scale:
    """An axis of numbers.

    Attributes:
        low: Value at its beginning.
        high: Value at its end; larger than ``low``.
        log: Whether the axis is logarithmic.
    """

    low: float
    high: float
    log: bool = False

    def place(self, value: float) -> float:
        """The position of a value, from 0 to 100, clipped to the ends.

        Example:
            >>> Scale(0.01, 1.0, log=True).place(0.1), Scale(-4.0, 4.0).place(9.0)
            (50.0, 100.0)
        """
        value = min(max(value, self.low), self.high)
        if self.log:
            whole = math.log(self.high) - math.log(self.low)
            return 100.0 * (math.log(value) - math.log(self.low)) / whole
        # Halves avoid an overflow of `high - low`. The halved span may underflow to 0.
        whole = self.high / 2.0 - self.low / 2.0
        return 100.0 * ((value / 2.0 - self.low / 2.0) / whole) if whole else 50.0

    def ticks(self, most: int = 5, *, whole: bool = False) -> list[float]:
        """Round values within a linear axis, evenly spaced.

        Args:
            most: Maximum number of values.
            whole: Whether to use integers only.

        Example:
            >>> Scale(-3.0, 11.0).ticks()
            [0.0, 5.0, 10.0]
        """
        span = self.high - self.low
        if not math.isfinite(span) or span <= 1e-12 * max(abs(self.low), abs(self.high), 1e-280):
            return [self.low, self.high]
        power = 10.0 ** math.floor(math.log10(span / most))
        steps = [power * step for step in _STEPS]
        if whole:
            steps = [max(1.0, round(step)) for step in [*steps, 20.0 * power]]
        step = next((step for step in steps if span / step < most), steps[-1])
        numbers = range(math.ceil(self.low / step), math.floor(self.high / step) + 1)
        return [number * step for number in numbers]


def scale_of(values: Iterable[float], *, margin: float = 0.06) -> Scale:
    """A linear axis that holds all values, with some room at both ends.

    Args:
        values: Values, at least one.
        margin: Room at each end, as a share of the span of the values.

    Example:
        >>> scale_of([0.0, 10.0], margin=0.1)
        Scale(low=-1.0, high=11.0, log=False)
    """
    known = list(values)
    low, high = min(known), max(known)
    room = margin * (high - low) if low < high else abs(low) / 10.0 or 0.5
    wider = (low - room, high + room)
    return Scale(*wider) if all(map(math.isfinite, wider)) else Scale(low, high)


@dataclass(frozen=True)
class KnobAxis:
    """An axis for the values of a knob: a scale, or levels side by side if they have no order.

    Attributes:
        knob: The knob.
        scale: Scale of its numbers; None if its values are not numbers.
        levels: Its values as text; empty if they are numbers.
    """

    knob: str
    scale: Scale | None
    levels: tuple[str, ...] = ()

    def place(self, value: KnobValue) -> float:
        """The position of a value, from 0 to 100."""
        if self.scale is not None:
            return self.scale.place(float(value))
        return 100.0 * (self.levels.index(str(value)) + 0.5) / len(self.levels)

    def labels(self) -> list[tuple[float, str, str, int]]:
        """Labels of the ends, or of every level: place, text, anchor of the text, line of text.

        More than three levels alternate between two lines, so that a phone has room for them.
        """
        if self.scale is not None:
            low, high = (f"{end:.4g}" for end in (self.scale.low, self.scale.high))
            return [(0.0, low, "start", 0), (100.0, high, "end", 0)]
        num_lines = 2 if len(self.levels) > 3 else 1
        return [
            (self.place(level), level, "middle", index % num_lines)
            for index, level in enumerate(self.levels)
        ]


def knob_axis(knob: str, ranges: Sequence[Range], values: Iterable[KnobValue]) -> KnobAxis:
    """An axis that holds all ranges of a knob and all its values.

    Args:
        knob: The knob.
        ranges: Its searched ranges; empty if they are not known.
        values: Its values; at least one if there is no range.

    Example:
        >>> from tuning.spaces.ranges import Float
        >>> knob_axis("a", [Float(0.1, 1.0, log=True)], [0.01]).place(0.1)
        50.0
    """
    known = list(values)
    options: list[Any] = [o for r in ranges if isinstance(r, Choice) for o in r.options]
    if options or not all(_is_number(value) for value in known):
        return KnobAxis(knob, None, tuple(dict.fromkeys(map(str, [*options, *known]))))
    ends = [end for r in ranges if not isinstance(r, Choice) for end in (r.low, r.high)]
    numbers = [float(value) for value in (*ends, *known)]
    low, high = min(numbers), max(numbers)
    if low == high:
        return KnobAxis(knob, scale_of(numbers))
    is_log = bool(ranges) and low > 0 and math.log(low) < math.log(high)
    is_log = is_log and all(not isinstance(r, Choice) and r.log for r in ranges)
    return KnobAxis(knob, Scale(low, high, is_log))


def _is_number(value: KnobValue) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
