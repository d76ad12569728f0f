"""The search space of a sweep: ranges keyed by knob, checked when made; not the search itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

from ssmrl.config import KnobValue, TrainConfig
from ssmrl.meta.algorithms import get_algorithm
from ssmrl.strict_json import json_object, json_text
from ssmrl.unknown_name import UnknownNameError
from tuning.spaces.ranges import Choice, Float, Int, Range, range_fields, range_from

__all__ = [
    "Choice",
    "Condition",
    "Float",
    "Int",
    "Range",
    "SearchSpace",
    "default_limits",
    "default_space",
]

_KNOB_TYPES: dict[type, tuple[type, ...]] = {
    float: (Float, Choice),
    int: (Int, Choice),
    bool: (Choice,),
    str: (Choice,),
}


@dataclass(frozen=True)
class Condition:
    """Makes a knob active only while another knob has one of some values.

    Attributes:
        knob: The other knob; searched, or fixed in the base configuration.
        values: The values of the other knob, all different.

    Raises:
        ValueError: If there are no values, or two are equal.
    """

    knob: str
    values: tuple[KnobValue, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        if not self.values or any(_same(a, b) for a, b in _pairs(self.values)):
            raise ValueError(
                f"a condition on `{self.knob}` must name at least 1 value, each only once, but got "
                f"{self.values!r}; a knob that is always searched needs no condition."
            )

    def holds(self, value: KnobValue) -> bool:
        """Whether ``value`` is one of the values; ``1`` is not ``True``."""
        return any(_same(value, other) for other in self.values)


@dataclass(frozen=True)
class SearchSpace:
    """The searched knobs, their ranges, and the base configuration with all other knobs.

    A *point* of the space is a mapping with a value for every active knob, and nothing else. A knob
    is inactive if its condition does not hold, or if it depends on an inactive knob.

    Attributes:
        ranges: The range of each searched knob, read-only.
        base: The configuration with the fixed knobs.
        conditions: The conditions of searched knobs, read-only. They may name values that the other
            knob's range has lost, since ranges move and conditions stay.

    Raises:
        KeyError: If a name is not a knob; the message lists the known ones.
        ValueError: If there is no range, one has an end that no configuration accepts, no knob can
            be active, or a knob depends on itself, on a Float, or on an impossible value.
        TypeError: If a range or a value does not fit the type of its knob.

    Example:
        >>> base = TrainConfig(algorithm="promp")
        >>> space = SearchSpace({"meta.inner_lr": Float(0.01, 1.0, log=True)}, base)
        >>> space.default_point()
        {'meta.inner_lr': 0.1}
        >>> space.configure({"meta.inner_lr": 0.5}).meta.inner_lr
        0.5
    """

    ranges: Mapping[str, Range]
    base: TrainConfig
    conditions: Mapping[str, Condition] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ranges", MappingProxyType(dict(self.ranges)))
        object.__setattr__(self, "conditions", MappingProxyType(dict(self.conditions)))
        if not self.ranges:
            raise ValueError("a search space must hold at least 1 range, but got none.")
        known = self.base.knobs()
        for knob, a_range in self.ranges.items():
            self.base.check_known(knob)
            _check_searchable(knob, self.base)
            _check_fit(knob, a_range, type(known[knob]))
            _check_ends(knob, a_range, self.base)
        for knob, condition in self.conditions.items():
            _check_condition(knob, condition, self.ranges, self.base)
        _check_no_cycle(self.conditions)
        if not self.active_knobs({}):
            raise ValueError(
                "a search space must have a knob that is active, but none of the conditions holds "
                f"for the base configuration: {dict(self.conditions)}; remove a condition."
            )

    def __reduce__(
        self,
    ) -> tuple[type[Self], tuple[dict[str, Range], TrainConfig, dict[str, Condition]]]:
        # A read-only view cannot be pickled.
        return type(self), (dict(self.ranges), self.base, dict(self.conditions))

    def active_knobs(self, point: Mapping[str, KnobValue]) -> tuple[str, ...]:
        """The active knobs of a point with these values, in the order of the ranges.

        Args:
            point: Values of some knobs. A knob that depends on a searched knob without a value is
                inactive. So a point is built from ``{}`` by setting active knobs until all are set.
        """
        known = self.base.knobs()

        def is_active(knob: str) -> bool:
            if (condition := self.conditions.get(knob)) is None:
                return True
            if condition.knob not in self.ranges:
                return condition.holds(known[condition.knob])
            return (
                condition.knob in point
                and condition.holds(point[condition.knob])
                and is_active(condition.knob)
            )

        return tuple(knob for knob in self.ranges if is_active(knob))

    def contains(self, knobs: Mapping[str, KnobValue]) -> bool:
        """Whether ``knobs`` is a point of the space."""
        return knobs.keys() == set(self.active_knobs(knobs)) and all(
            self.ranges[knob].contains(value) for knob, value in knobs.items()
        )

    def covers(self, other: "SearchSpace") -> bool:
        """Whether ``other`` has the same knobs and conditions, and its ranges lie in these."""
        return (
            self.ranges.keys() == other.ranges.keys()
            and self.conditions == other.conditions
            and all(self.ranges[knob].covers(inner) for knob, inner in other.ranges.items())
        )

    def default_point(self) -> dict[str, KnobValue]:
        """The base configuration's values of the knobs that are active in it.

        Raises:
            ValueError: If the base lies outside of the space; the message names the knobs.
        """
        known = self.base.knobs()
        point = {knob: known[knob] for knob in self.active_knobs(known)}
        self._check_point(point, "the base configuration")
        return point

    def configure(self, point: Mapping[str, KnobValue]) -> TrainConfig:
        """The configuration of a point.

        Raises:
            ValueError: If an active knob is missing, an extra one is given, or a value is outside.
        """
        self._check_point(point, "the point")
        return self.base.with_knobs(point)

    def replace_ranges(self, ranges: Mapping[str, Range]) -> "SearchSpace":
        """The same space with some of its ranges replaced; base and conditions stay.

        Raises:
            KeyError: If a name is not a searched knob; the message lists those that are.
            ValueError: As the class raises it.
            TypeError: As the class raises it.
        """
        for knob in ranges.keys() - self.ranges.keys():
            raise UnknownNameError(
                f"`{knob}` is not a searched knob; the searched knobs are: {', '.join(self.ranges)}"
            )
        return SearchSpace({**self.ranges, **ranges}, self.base, self.conditions)

    def to_json(self) -> str:
        """The ranges and their conditions as one line of JSON; the base is not part of it."""
        data = {knob: range_fields(a_range) for knob, a_range in self.ranges.items()}
        for knob, condition in self.conditions.items():
            data[knob][_WHEN] = {"knob": condition.knob, "values": list(condition.values)}
        return json_text(data)

    @classmethod
    def from_json(cls, text: str, base: TrainConfig) -> Self:
        """The inverse of ``to_json``.

        Raises:
            ValueError: If the text does not describe ranges; also all errors of the class.
        """
        data = json_object(text, "a search space")
        conditions = {
            knob: _condition_from(knob, fields.pop(_WHEN))
            for knob, fields in data.items()
            if isinstance(fields, dict) and _WHEN in fields
        }
        ranges = {knob: range_from(knob, fields) for knob, fields in data.items()}
        return cls(ranges, base, conditions)

    def _check_point(self, point: Mapping[str, KnobValue], whose: str) -> None:
        active = self.active_knobs(point)
        if point.keys() != set(active):
            missing = sorted(set(active) - point.keys())
            extra = sorted(point.keys() - set(active))
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


_WHEN = "when"

_MOST_STEPS = 5
_MOST_STEPS_OF_A_MEMORY = 1  # one episode reveals most tasks, so more steps only take time

_STEPS = "meta.num_inner_steps"

_NOT_SEARCHED = {
    "algorithm": "each algorithm has knobs of its own; make one sweep for each.",
    "env.task": "returns on two tasks cannot be compared; make one sweep for each.",
    "env.horizon": "a return is a sum over it, so the score grows with it; set it in the base.",
    "env.action_scale": "the cost of an action depends on it, and so does the score; set it in the "
    "base.",
    "meta.episodes_per_task": "only the last episode scores, so more of them buy "
    "experience with a task before it counts; set it in the base.",
    "evaluation.*": "it decides how the score is measured, not how good it is; set it in the base.",
    "seed": "it is luck, not a setting; average over seeds with `--seeds-per-trial`.",
}
"""Knobs that define the score, each with the reason."""

_NOT_SEARCHED_BY_GRADIENT = {
    _STEPS: "each step collects more episodes with a task before the one that scores, so more of "
    "them buy experience; set it in the base.",
}
"""Such knobs of gradient-based algorithms only; a memory adapts in the episode that scores."""


def default_space(base: TrainConfig) -> SearchSpace:
    """The knobs that matter most for adaptation, with ranges around the published values.

    Args:
        base: The base configuration. ``policy.state_dim`` is searched only for the method ``ssm``.
            A knob that its algorithm does not have is left out.
    """
    ranges: dict[str, Range] = {
        "policy.state_dim": Int(8, 128, step=8),
        "policy.hidden_dim": Int(16, 128, step=16),
        "meta.inner_lr": Float(0.01, 1.0, log=True),
        "meta.outer_lr": Float(3e-4, 1e-2, log=True),
        "meta.max_kl": Float(1e-3, 1e-1, log=True),
        _STEPS: Int(1, 3),
    }
    if _adapts_by_gradient(base):
        del ranges[_STEPS]
    if base.policy.method != "ssm":
        del ranges["policy.state_dim"]
    return _of_base(ranges, base)


def default_limits(base: TrainConfig) -> SearchSpace:
    """The hard limits of ``default_space``'s ranges: the widest that are still sensible."""
    ranges: dict[str, Range] = {
        "policy.state_dim": Int(2, 512, step=2),
        "policy.hidden_dim": Int(8, 512, step=8),
        "meta.inner_lr": Float(1e-4, 10.0, log=True),
        "meta.outer_lr": Float(1e-5, 1e-1, log=True),
        "meta.max_kl": Float(1e-4, 1.0, log=True),
        _STEPS: Int(1, _MOST_STEPS),
    }
    return _of_base({knob: ranges[knob] for knob in default_space(base).ranges}, base)


def _of_base(ranges: Mapping[str, Range], base: TrainConfig) -> SearchSpace:
    """The space with those ranges whose knob the base has.

    If the base makes no adaptation steps, 0 steps are allowed, and then there is no step size.
    """
    size = "meta.inner_lr"
    known = base.knobs()
    kept = {knob: a_range for knob, a_range in ranges.items() if knob in known}
    conditions: dict[str, Condition] = {}
    if known.get(_STEPS) == 0:
        kept[_STEPS] = Int(0, _MOST_STEPS_OF_A_MEMORY)
        conditions[size] = Condition(_STEPS, tuple(range(1, _MOST_STEPS_OF_A_MEMORY + 1)))
    return SearchSpace(kept, base, conditions)


def _adapts_by_gradient(base: TrainConfig) -> bool:
    return get_algorithm(base.algorithm).kind == "gradient"


def why_not_searched(knob: str, base: TrainConfig) -> str | None:
    """Why a knob must not be searched: it defines the score. None if it may be searched."""
    reason = _NOT_SEARCHED.get(knob) or _NOT_SEARCHED.get(f"{knob.partition('.')[0]}.*")
    if _adapts_by_gradient(base):
        reason = reason or _NOT_SEARCHED_BY_GRADIENT.get(knob)
    return reason


def _check_searchable(knob: str, base: TrainConfig) -> None:
    if (reason := why_not_searched(knob, base)) is not None:
        raise ValueError(f"`{knob}` must not be searched: {reason}")


def _check_fit(knob: str, a_range: Range, kind: type) -> None:
    if not isinstance(a_range, _KNOB_TYPES[kind]):
        fitting = " or ".join(fit.__name__ for fit in _KNOB_TYPES[kind])
        raise TypeError(
            f"the range of `{knob}`, of type {kind.__name__}, must be {fitting}, but got {a_range}."
        )


def _check_ends(knob: str, a_range: Range, base: TrainConfig) -> None:
    """Checks the values that can be invalid: each option, or the ends and the first step."""
    if isinstance(a_range, Choice):
        values = a_range.options
    elif isinstance(a_range, Int):
        values = (a_range.low, a_range.low + a_range.step, a_range.high)
    else:
        values = (a_range.low, a_range.high)
    for value in values:
        try:
            base.with_knobs({knob: value})
        except (ValueError, UnknownNameError, TypeError) as error:
            raise ValueError(
                f"every value of the range of `{knob}` must make a valid configuration, but "
                f"{a_range} reaches {value!r}: {error.args[0]}; choose other ends, step or options."
            ) from error


def _check_condition(
    knob: str, condition: Condition, ranges: Mapping[str, Range], base: TrainConfig
) -> None:
    if knob not in ranges:
        raise UnknownNameError(
            f"only a searched knob can have a condition, but `{knob}` is not searched; "
            f"the searched knobs are: {', '.join(ranges)}"
        )
    base.check_known(condition.knob)
    if isinstance(ranges.get(condition.knob), Float):
        raise ValueError(
            f"`{knob}` must depend on a knob with separate values, but `{condition.knob}` varies "
            "continuously; make it a Choice."
        )
    for value in condition.values:
        try:
            base.with_knobs({condition.knob: value})
        except (ValueError, UnknownNameError, TypeError) as error:
            raise ValueError(
                f"`{knob}` must depend on values that `{condition.knob}` can have, but not on "
                f"{value!r}: {error.args[0]}"
            ) from error


def _check_no_cycle(conditions: Mapping[str, Condition]) -> None:
    for start in conditions:
        path = [start]
        while (condition := conditions.get(path[-1])) is not None:
            path.append(condition.knob)
            if condition.knob in path[:-1]:
                raise ValueError(
                    f"no knob may depend on itself, but {' depends on '.join(path)}; "
                    "drop one of the conditions."
                )


def _condition_from(knob: str, fields: Any) -> Condition:
    try:
        return Condition(fields["knob"], tuple(fields["values"]))
    except (TypeError, KeyError):
        raise ValueError(
            f"the condition of `{knob}` must have a knob and a list of values, but got {fields!r}"
        ) from None


def _pairs(values: tuple[KnobValue, ...]) -> list[tuple[KnobValue, KnobValue]]:
    return [(a, b) for i, a in enumerate(values) for b in values[:i]]


def _same(a: KnobValue, b: KnobValue) -> bool:
    return a == b and isinstance(a, bool) == isinstance(b, bool)
