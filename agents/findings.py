"""Findings of agents: typed changes of the search space, with evidence.

A finding comes from the raw reply of a model (``parse_finding``) and becomes the next space only
through the same checks (``check_finding``) as a move of the trust box, the statistical rules of
``tuning.box``.
"""

import dataclasses
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from agents.board import TRIAL_ID, Board
from agents.strict_json import (
    RefusedError,
    check_keys,
    count_of,
    find_object,
    one_of,
    quote,
    text_of,
)
from ssmrl.strict_json import json_text, json_value
from tuning.box.trust_box import check_space
from tuning.spaces.ranges import range_fields, range_from
from tuning.spaces.space import Choice, Float, Int, Range, SearchSpace

__all__ = [
    "Author",
    "Change",
    "Decision",
    "Direction",
    "Expectation",
    "Finding",
    "RefusedError",
    "check_finding",
    "may_change",
    "next_space",
    "parse_changes",
    "parse_finding",
]

MAX_TEXT_LENGTH = 600
MAX_TRIAL_IDS = 64
_SIDES = ("low", "high")


class Author(StrEnum):
    """The agents."""

    STATE_MODELING = "state modeling"
    META_LEARNING = "meta-learning"
    COORDINATOR = "coordinator"


# Knob prefixes that the other two may change; the coordinator may change every knob.
_SECTIONS = {
    Author.STATE_MODELING: ("policy.",),
    Author.META_LEARNING: ("meta.",),
}


class Direction(StrEnum):
    """Expected comparison of the trials on one side of a knob with the others."""

    BETTER = "better"
    SAME = "same"
    WORSE = "worse"


class Decision(StrEnum):
    """Whether another round is made."""

    GO_ON = "go on"
    STOP = "stop"


@dataclass(frozen=True)
class Change:
    """A new range for one knob.

    Attributes:
        knob: The knob.
        range: Its whole new range.
    """

    knob: str
    range: Range


@dataclass(frozen=True)
class Expectation:
    """The expected result of the next round if the hypothesis holds.

    Attributes:
        knob: The knob.
        side: The trials in question: those with a value below (``"low"``) or above (``"high"``)
            that of the best trial so far; for a Choice, those with this option, as text.
        direction: How their scores compare with those of the other trials of that round.
    """

    knob: str
    side: str
    direction: Direction


@dataclass(frozen=True)
class Finding:
    """An agent's conclusion from the table, and its proposal for the next space.

    Attributes:
        author: The agent.
        hypothesis: The hypothesis, in words.
        expected_effect: The expected effect if it is true, in words.
        expectation: The expected effect in a form that code can check.
        changes: Changes to the current space; empty to leave it as it is.
        trial_ids: The trials that are the evidence.
        decision: Whether to go on; only from the coordinator.
        num_trials: Number of trials of the next round; only from the coordinator.
    """

    author: Author
    hypothesis: str
    expected_effect: str
    expectation: Expectation
    changes: tuple[Change, ...]
    trial_ids: tuple[str, ...]
    decision: Decision | None = None
    num_trials: int | None = None

    def fingerprint(self) -> str:
        """A key that is equal for findings with the same proposal and evidence, in any words."""
        fields = self._fields()
        for name in ("hypothesis", "expected_effect", "expectation"):
            del fields[name]
        fields["changes"] = sorted(fields["changes"], key=lambda change: str(change["knob"]))
        fields["trial_ids"] = sorted(self.trial_ids)
        return json_text(fields)

    def to_json(self) -> str:
        """The finding as one line of JSON."""
        return json_text(self._fields())

    @classmethod
    def from_json(cls, text: str) -> "Finding":
        """The inverse of ``to_json``, for a file that this project wrote; not for a reply.

        Raises:
            ValueError: If the text is not a finding.
        """
        try:
            fields = json_value(text)
            decision = fields["decision"]
            expectation = fields["expectation"]
            return cls(
                author=Author(fields["author"]),
                hypothesis=fields["hypothesis"],
                expected_effect=fields["expected_effect"],
                expectation=Expectation(
                    expectation["knob"], expectation["side"], Direction(expectation["direction"])
                ),
                changes=tuple(
                    Change(change["knob"], range_from(change["knob"], change["range"]))
                    for change in fields["changes"]
                ),
                trial_ids=tuple(fields["trial_ids"]),
                decision=None if decision is None else Decision(decision),
                num_trials=fields["num_trials"],
            )
        except (TypeError, KeyError) as error:
            raise ValueError(f"not a finding: {error!r} in {text[:80]!r}") from None

    def _fields(self) -> dict[str, Any]:
        fields = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        fields["expectation"] = dataclasses.asdict(self.expectation)
        fields["changes"] = [
            {"knob": change.knob, "range": range_fields(change.range)} for change in self.changes
        ]
        fields["trial_ids"] = list(self.trial_ids)
        return fields


def parse_finding(raw: object, *, author: str, space: SearchSpace) -> Finding:
    """The finding in a raw reply.

    A change names a knob of the space with ``low`` and ``high``, or with ``options``. A range keeps
    the scale of the space, and its step, unless an end needs a finer one.

    Args:
        raw: The raw reply: at most 64 kB with one JSON object, in a fence, in prose, or bare.
        author: The agent that was asked; never taken from the reply.
        space: The space that the changes refer to.

    Raises:
        RefusedError: If the reply is anything else. The message quotes very little of it.
    """
    author = Author(author)
    fields = find_object(raw)
    names = ["hypothesis", "expected_effect", "expectation", "changes", "trial_ids"]
    if author is Author.COORDINATOR:
        names += ["decision", "num_trials"]
    check_keys(fields, names, "the reply")
    is_coordinator = author is Author.COORDINATOR
    return Finding(
        author=author,
        hypothesis=text_of(fields, "hypothesis", MAX_TEXT_LENGTH),
        expected_effect=text_of(fields, "expected_effect", MAX_TEXT_LENGTH),
        expectation=_expectation(fields["expectation"], space),
        changes=parse_changes(fields["changes"], space),
        trial_ids=_trial_ids(fields["trial_ids"]),
        decision=one_of(fields, "decision", Decision) if is_coordinator else None,
        num_trials=count_of(fields, "num_trials") if is_coordinator else None,
    )


def parse_changes(value: object, space: SearchSpace) -> tuple[Change, ...]:
    """The changes in a list of JSON objects.

    Raises:
        RefusedError: If it is not such a list, or a range is invalid.
    """
    if not isinstance(value, list):
        raise RefusedError(f"`changes` must be a list, but is {quote(value)}")
    if len(value) > len(space.ranges):
        raise RefusedError(f"`changes` must name each knob once, but has {len(value)} entries")
    changes = tuple(_change(entry, space) for entry in value)
    if len({change.knob for change in changes}) < len(changes):
        raise RefusedError("`changes` must name each knob once, but one occurs twice")
    return changes


def check_finding(finding: Finding, board: Board) -> SearchSpace:
    """The next space, if the finding is allowed.

    Args:
        finding: The proposal.
        board: The board it refers to. The caller adds the fingerprints of refused findings to it.

    Raises:
        RefusedError: If the author may not change a knob, a trial of the evidence does not exist,
            the budget does not allow it, the same was refused before, or the trust box forbids
            the space.
    """
    if finding.fingerprint() in board.refused:
        raise RefusedError("the same proposal was refused before; change it")
    foreign = [c.knob for c in finding.changes if not may_change(finding.author, c.knob)]
    if foreign:
        raise RefusedError(
            f"the {finding.author} agent may not change {quote(foreign[0])}, "
            f"only what begins with {' or '.join(_SECTIONS[finding.author])}"
        )
    if not finding.trial_ids:
        raise RefusedError("`trial_ids` must name at least 1 trial as evidence")
    known = board.trials()
    if missing := [name for name in finding.trial_ids if name not in known]:
        raise RefusedError(
            f"every trial of the evidence must exist, but {quote(missing[0])} does not"
        )
    _check_budget(finding, board.budget_trials_left)
    return next_space(finding.changes, board)


def next_space(changes: tuple[Change, ...], board: Board) -> SearchSpace:
    """The space after the changes, if the rules of the trust box allow it.

    Raises:
        RefusedError: If they do not.
    """
    for change in changes:
        limit = board.limits.ranges.get(change.knob)
        # Checked first, since making a space checks every option, and a reply may hold many.
        if limit is None or not limit.covers(change.range):
            raise RefusedError(
                f"the range of `{change.knob}` must lie inside of its limits and on their steps, "
                f"but {quote(str(change.range))} does not fit {limit}"
            )
    try:
        space = board.space.replace_ranges({change.knob: change.range for change in changes})
        check_space(
            space, current=board.space, first=board.first, limits=board.limits, rows=board.rows
        )
    except (ValueError, TypeError, KeyError) as error:
        raise RefusedError(str(error.args[0])) from None
    return space


def may_change(author: Author, knob: str) -> bool:
    """Whether an agent may change a knob."""
    return author not in _SECTIONS or knob.startswith(_SECTIONS[author])


def _check_budget(finding: Finding, num_left: int) -> None:
    if finding.num_trials is None:
        return
    if finding.decision is Decision.STOP and finding.num_trials != 0:
        raise RefusedError(f"`num_trials` must be 0 to stop, but is {finding.num_trials}")
    if finding.decision is Decision.GO_ON and not 1 <= finding.num_trials <= num_left:
        raise RefusedError(
            f"`num_trials` must be from 1 to the {num_left} trials that are left, "
            f"but is {finding.num_trials}"
        )


def _trial_ids(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_TRIAL_IDS:
        raise RefusedError(
            f"`trial_ids` must be a list of 1 to {MAX_TRIAL_IDS} trials, but is {quote(value)}"
        )
    for name in value:
        if not isinstance(name, str) or not TRIAL_ID.fullmatch(name):
            raise RefusedError(f"`trial_ids` must be names of trials, but one is {quote(name)}")
    return tuple(dict.fromkeys(value))


def _known_knob(value: object, space: SearchSpace) -> str:
    if not isinstance(value, str) or value not in space.ranges:
        raise RefusedError(f"unknown knob {quote(value)}; the knobs are: {', '.join(space.ranges)}")
    return value


def _expectation(value: object, space: SearchSpace) -> Expectation:
    if not isinstance(value, dict):
        raise RefusedError(f"`expectation` must be an object, but is {quote(value)}")
    check_keys(value, ["knob", "side", "direction"], "`expectation`")
    knob = _known_knob(value["knob"], space)
    a_range = space.ranges[knob]
    sides = tuple(map(str, a_range.options)) if isinstance(a_range, Choice) else _SIDES
    side = value["side"]
    if not isinstance(side, str) or side not in sides:
        raise RefusedError(f"the side of `{knob}` must be one of {sides}, but is {quote(side)}")
    return Expectation(knob, side, one_of(value, "direction", Direction))


def _change(entry: object, space: SearchSpace) -> Change:
    if not isinstance(entry, dict):
        raise RefusedError(f"every change must be an object, but one is {quote(entry)}")
    knob = _known_knob(entry.get("knob"), space)
    old = space.ranges[knob]
    try:
        if isinstance(old, Choice):
            check_keys(entry, ["knob", "options"], f"the change of `{knob}`")
            return Change(knob, _options(entry["options"], old))
        check_keys(entry, ["knob", "low", "high"], f"the change of `{knob}`")
        return Change(knob, _between(knob, entry["low"], entry["high"], old))
    except (ValueError, TypeError) as error:
        raise RefusedError(f"`{knob}`: {error.args[0]}") from None


def _options(value: object, old: Choice) -> Choice:
    if not isinstance(value, list) or len(value) > 64:
        raise RefusedError(f"`options` must be a list, but is {quote(value)}")
    for option in value:
        if not isinstance(option, int | float | str):  # for example a list, which has no hash
            raise RefusedError(f"an option must be a number or a text, but is {quote(option)}")
    return Choice(tuple(value))


def _between(knob: str, low: object, high: object, old: Float | Int) -> Float | Int:
    if isinstance(old, Float):
        return dataclasses.replace(old, low=_number(knob, low), high=_number(knob, high))
    first, last = _integer(knob, low), _integer(knob, high)
    # The coarsest step that hits both ends and keeps every step of the current range.
    step = math.gcd(old.step, first - old.low, last - old.low)
    return dataclasses.replace(old, low=first, high=last, step=step)


def _number(knob: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise RefusedError(f"the ends of `{knob}` must be numbers, but one is {quote(value)}")
    return float(value)


def _integer(knob: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise RefusedError(f"the ends of `{knob}` must be integers, but one is {quote(value)}")
    return value
