"""Reads a user's YAML file with a search space and its hard limits; it does not search."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cluster.plain_yaml import check_events, loaded
from ssmrl.config import KnobValue, TrainConfig
from ssmrl.format import FormatError, check_format
from ssmrl.unknown_name import UnknownNameError
from tuning.spaces.space import Choice, Condition, Float, Int, Range, SearchSpace

MAX_BYTES = 64 * 1024
MAX_DEPTH = 8

_SECTIONS = ("format", "knobs", "base")
_FIELDS = {
    "float": ("low", "high", "log"),
    "int": ("low", "high", "step", "log"),
    "choice": ("options",),
}
_COMMON = ("kind", "limits", "when")


@dataclass(frozen=True)
class SpaceFile:
    """The content of a space file.

    Attributes:
        space: The first space of the search.
        limits: The hard limits: the same knobs and conditions, with ranges at least as wide. A
            range without limits in the file is its own limit: it can only become narrower.

    Raises:
        ValueError: If the limits do not contain the space; the message names the knobs.
    """

    space: SearchSpace
    limits: SearchSpace

    def __post_init__(self) -> None:
        for knob, a_range in self.space.ranges.items():
            outer = self.limits.ranges.get(knob)
            if outer is None or not outer.covers(a_range):
                raise ValueError(
                    f"the limits of `{knob}` must contain its range, but {outer} does not contain "
                    f"{a_range}; widen the limits or narrow the range."
                )
        if self.limits.conditions != self.space.conditions:
            raise ValueError(
                f"limits must have the conditions of their space, {dict(self.space.conditions)}, "
                f"but have {dict(self.limits.conditions)}."
            )


def load_space_file(path: Path, base: TrainConfig) -> SpaceFile:
    """The space and its limits, checked against the configuration.

    The file has ``format: 2``, and ``knobs``, by name, each with a ``kind`` (``float`` and ``int``
    with ``low``, ``high``, ``log``, and ``step`` of an int; ``choice`` with ``options``),
    optionally ``limits`` (``[low, high]``, or all options ever allowed), and optionally ``when``
    (``{other knob: [values]}``). It may have a ``base``: knobs set differently from the task's
    defaults. Limits of an int use the coarsest step that hits both limits and all steps of its
    range.

    Args:
        path: A YAML file of at most 64 KiB, without aliases.
        base: The task's defaults.

    Raises:
        FormatError: If the file has another format.
        ValueError: If the file cannot be read, does not have this form, has values that no
            configuration accepts, or leaves the default configuration outside. The message is one
            sentence that names the file, the knob and what to do.
    """
    try:
        content = _parse(_read(path))
        check_format(content.get("format"), str(path))
        _check_keys("the file", content, _SECTIONS, required=("knobs",))
        changed = _mapping("`base`", content.get("base", {}))
        known = base.knobs()
        base = base.with_knobs({k: _like(known.get(k), v) for k, v in changed.items()})
        return _space_file(_mapping("`knobs`", content["knobs"]), base)
    except FormatError:
        raise
    except (ValueError, UnknownNameError, TypeError) as error:
        raise ValueError(f"{path}: {error.args[0]}") from error


def _space_file(knobs: Mapping[str, Any], base: TrainConfig) -> SpaceFile:
    known = base.knobs()
    ranges: dict[str, Range] = {}
    limits: dict[str, Range] = {}
    conditions: dict[str, Condition] = {}
    for knob, fields in knobs.items():
        base.check_known(knob)
        try:
            ranges[knob] = _range(_mapping("it", fields), known[knob])
            limits[knob] = _limits(ranges[knob], fields.get("limits"), known[knob])
            if "when" in fields:
                conditions[knob] = _condition(fields["when"], known)
        except (ValueError, TypeError) as error:
            raise ValueError(f"`{knob}`: {error.args[0]}") from error
    space = SearchSpace(ranges, base, conditions)
    outer = SearchSpace(limits, base, conditions)
    for knob, condition in conditions.items():
        parent = limits.get(condition.knob)
        lost = [v for v in condition.values if parent is not None and not parent.contains(v)]
        if lost:
            raise ValueError(
                f"`{knob}` must depend on values that `{condition.knob}` can have, but {lost} lie "
                f"outside of its limits, {parent}; change `when`."
            )
    try:
        space.default_point()
    except ValueError as error:
        raise ValueError(f"{error.args[0]} Or set the value under `base`.") from error
    return SpaceFile(space, outer)


def _range(fields: Mapping[str, Any], default: KnobValue) -> Range:
    kind = fields.get("kind")
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise ValueError(f"`kind` must be one of {list(_FIELDS)}, but is {_short(kind)}.")
    names = _FIELDS[kind]
    required = names if kind == "choice" else ("low", "high")
    _check_keys(f"a range of kind {kind}", fields, (*_COMMON, *names), required=required)
    if kind == "choice":
        return Choice(_values("`options`", fields["options"], default))
    for name in {"log"} & fields.keys():
        if not isinstance(fields[name], bool):
            raise ValueError(f"`log` must be true or false, but is {_short(fields[name])}.")
    numbers = {n: _number(f"`{n}`", fields[n]) for n in ("low", "high", "step") if n in fields}
    make: Any = Float if kind == "float" else Int
    a_range: Range = make(**numbers, log=fields.get("log", False))
    return a_range


def _limits(a_range: Range, values: Any, default: KnobValue) -> Range:
    if values is None:
        return a_range
    if isinstance(a_range, Choice):
        return Choice(_values("`limits`", values, default))
    if not isinstance(values, list) or len(values) != 2:
        raise ValueError(f"`limits` must be [low, high], but is {_short(values)}.")
    low, high = (_number("`limits`", value) for value in values)
    if isinstance(a_range, Float):
        return Float(low, high, log=a_range.log)
    wide = Int(low, high, log=a_range.log)  # type: ignore[arg-type]  # Int refuses floats itself
    step = math.gcd(a_range.step, a_range.low - wide.low, wide.high - wide.low)
    return wide if a_range.log else dataclasses.replace(wide, step=step)


def _condition(when: Any, known: Mapping[str, KnobValue]) -> Condition:
    if not isinstance(when, dict) or len(when) != 1:
        raise ValueError(
            f"`when` must name 1 other knob with its values, as in {{policy.method: [ssm]}}, "
            f"but is {_short(when)}."
        )
    ((knob, values),) = when.items()
    if knob not in known:
        raise ValueError(f"unknown knob {knob!r} in `when`; the knobs are: {', '.join(known)}")
    return Condition(knob, _values(f"`when` of `{knob}`", values, known[knob]))


def _values(what: str, values: Any, default: KnobValue) -> tuple[KnobValue, ...]:
    if not isinstance(values, list):
        raise ValueError(f"{what} must be a list of values, but is {_short(values)}.")
    wrong = [v for v in values if not isinstance(v, bool | int | float | str)]
    if wrong:
        raise ValueError(
            f"{what} must be numbers, texts, true or false, but one is {_short(wrong[0])}."
        )
    return tuple(_like(default, value) for value in values)


def _like(default: KnobValue | None, value: Any) -> Any:
    """The value, converted if its knob is numeric: YAML reads 1e-3, without a dot, as text."""
    if isinstance(default, bool) or not isinstance(default, int | float):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return value
    number = _number("the value of a numeric knob", value)
    return float(number) if isinstance(default, float) else number


def _number(what: str, value: Any) -> int | float:
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{what} must be a finite number, but is {_short(value)}.") from None
    if not math.isfinite(number):
        raise ValueError(f"{what} must be a finite number, but is {_short(value)}.")
    return value if isinstance(value, int) else number


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(
            f"cannot be read: {error.strerror}; give the path of a space file."
        ) from error
    if len(content) > MAX_BYTES:
        raise ValueError(f"must have at most {MAX_BYTES} bytes, but is larger; see docs/spaces.")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"must be text in UTF-8, but byte {error.start} is not; save it as UTF-8."
        ) from error


def _parse(text: str) -> Mapping[str, Any]:
    try:
        check_events(text, max_depth=MAX_DEPTH, aliases=False)
        _check_mappings(yaml.compose(text, Loader=yaml.SafeLoader))
        return _mapping("the file", loaded(yaml.safe_load, text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", "unknown")
        raise ValueError(f"is not YAML{where}: {_short(problem)}; see docs/spaces.") from error


def _check_mappings(node: yaml.Node | None) -> None:
    """Refuses duplicate keys, of which YAML would silently take the last, and non-text keys."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_mappings(item)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.tag != "tag:yaml.org,2002:str":
            raise ValueError(
                f"line {line}: a key must be text, but is {_short(key.value)}; quote it."
            )
        if key.value in lines:
            raise ValueError(
                f"line {line}: {_short(key.value)} was already given in line {lines[key.value]}; "
                "drop one of the two."
            )
        lines[key.value] = line
        _check_mappings(value)


def _mapping(what: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be a mapping, name: value, but is {_short(value)}.")
    return value


def _check_keys(
    what: str, given: Mapping[str, Any], known: tuple[str, ...], *, required: tuple[str, ...]
) -> None:
    unknown = [key for key in given if key not in known]
    if unknown:
        raise ValueError(
            f"{what} has no {_short(unknown[0])}; it may have: {', '.join(dict.fromkeys(known))}."
        )
    missing = [key for key in required if key not in given]
    if missing:
        raise ValueError(f"{what} needs `{missing[0]}`; add it.")


def _short(value: Any) -> str:
    """A value shortened to one line for a message: a file may hold anything."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
