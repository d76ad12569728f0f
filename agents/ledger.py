"""All that was said, decided, refused and spent, line by line on the disk; it decides nothing.

What is to be spent is written down before it is, so that no crash gives anything back.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ssmrl.format import FormatError
from ssmrl.unknown_name import UnknownNameError
from tuning.durable import append_line, recover_lines
from tuning.record import opened, sealed

KINDS = ("trials", "minutes", "tokens", "calls")
MAX_TEXT_LENGTH = 8192
MIN_SECRET_LENGTH = 4  # what is shorter stands in half of all words


class BudgetError(RuntimeError):
    """There is not enough left for what was to be done; the message does the sum."""


class EventKind(StrEnum):
    """What a line of the ledger is about."""

    SAID = "said"  # by an agent, raw
    FOUND = "found"  # a finding that was accepted
    REFUSED = "refused"  # a reply or a call that was not
    FELL_BACK = "fell back"  # on the trust box, or on the offline brain
    DECIDED = "decided"  # the next space, and whether to go on
    SCORED = "scored"  # an earlier hypothesis
    NOTED = "noted"  # anything else
    BUDGET = "budget"  # what may be spent from here on
    RESERVED = "reserved"  # is about to be spent
    SETTLED = "settled"  # was spent


_OF_BUDGET = (EventKind.BUDGET, EventKind.RESERVED, EventKind.SETTLED)


@dataclass(frozen=True)
class Budget:
    """What may be spent in all; None for no limit.

    Attributes:
        trials: Trials.
        minutes: Wall-clock time [min].
        tokens: Tokens of a language model, questions and answers together.
        calls: Calls of a language model.

    Raises:
        ValueError: If one is negative or not finite.
    """

    trials: float | None = None
    minutes: float | None = None
    tokens: float | None = None
    calls: float | None = None

    def __post_init__(self) -> None:
        for kind in KINDS:
            if (limit := getattr(self, kind)) is not None:
                _check_amount(f"the budget of {kind}", limit)

    def limit(self, kind: str) -> float:
        """How much of a kind; infinite without a limit.

        Raises:
            KeyError: If the kind is not known; the message lists those that are.
        """
        if kind not in KINDS:
            raise UnknownNameError(
                f"unknown kind {kind!r} of budget; the kinds are: {', '.join(KINDS)}"
            )
        limit = getattr(self, kind)
        return math.inf if limit is None else float(limit)


@dataclass(frozen=True)
class Reservation:
    """Something that is about to be spent.

    Attributes:
        number: Of its line.
        kind: One of ``KINDS``.
        amount: At most this, as far as is known beforehand.
    """

    number: int
    kind: str
    amount: float


@dataclass(frozen=True)
class Event:
    """One line.

    Attributes:
        number: From 1, without gaps.
        kind: What it is about.
        round: Of the study; 0 before the first.
        who: Who said or did it.
        text: In words, or the raw reply.
        data: The same in numbers.
        time: When [s since 1970].
    """

    number: int
    kind: EventKind
    round: int = 0
    who: str = ""
    text: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    time: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", EventKind(self.kind))
        object.__setattr__(self, "data", MappingProxyType(dict(self.data)))

    def to_json(self, sweep: str = "") -> str:
        """The event as one line of JSON, with its format, the sweep's id and a checksum."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return sealed(fields | {"data": dict(self.data)}, sweep)

    @classmethod
    def from_json(cls, text: str, what: str = "an event", sweep: str = "") -> "Event":
        """The inverse of ``to_json``.

        Args:
            text: One line of JSON.
            what: What was read, for the message.
            sweep: The sweep that it must belong to; empty for any.

        Raises:
            FormatError: If it is of another format.
            ValueError: If the text is not an event, was changed, or belongs to another sweep.
        """
        try:
            return cls(**opened(text, what, sweep))
        except TypeError as error:
            raise ValueError(f"not an event: {error}") from None


class Ledger:
    """An append-only file of events, and the budget that follows from it.

    The file is read when the ledger is made; a torn last line is set aside with a warning. What was
    reserved and not settled when a process died counts as spent, until it is settled. One process
    writes at a time.

    Args:
        path: A file of JSON lines, made with the first event.
        budget: What may be spent in all, what earlier processes spent included. None for the
            budget that the file names, or without one no limit.
        secrets: Texts that are never written: each becomes ``***`` wherever it occurs in what is
            said. Those shorter than ``MIN_SECRET_LENGTH`` are no secrets.
        clock: The time [s since 1970].
        sweep: The id of the sweep, which every line carries; without one, lines of any are read.

    Raises:
        FormatError: If a line is of another format.
        ValueError: If a line cannot be read; the message gives its number.
    """

    def __init__(
        self,
        path: Path,
        budget: Budget | None = None,
        *,
        secrets: tuple[str, ...] = (),
        clock: Callable[[], float] = time.time,
        sweep: str = "",
    ) -> None:
        self._path, self._clock, self._sweep = path, clock, sweep
        self._secrets = _spellings(secrets)
        self._events: list[Event] = []
        self._budget = Budget()
        self._open: dict[int, Reservation] = {}
        self._settled = dict.fromkeys(KINDS, 0.0)
        for number, line in enumerate(recover_lines(path), start=1):
            try:
                self._insert(Event.from_json(line, f"line {number} of {path}", sweep))
            except FormatError:
                raise
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"line {number} of {path}: {error.args[0]}") from error
        self._size = self._current_size()
        if budget is not None and budget != self._budget:
            self._write(EventKind.BUDGET, data=asdict(budget))

    @property
    def events(self) -> tuple[Event, ...]:
        """All lines, in the order in which they were written."""
        return tuple(self._events)

    @property
    def budget(self) -> Budget:
        """What may be spent in all."""
        return self._budget

    @property
    def unsettled(self) -> tuple[Reservation, ...]:
        """What was reserved and not settled, also by a process that died."""
        return tuple(self._open.values())

    def record(
        self,
        kind: EventKind,
        text: str = "",
        *,
        who: str = "",
        round: int = 0,
        data: Mapping[str, Any] | None = None,
    ) -> Event:
        """Writes a line; when this returns, it is on the disk.

        Args:
            kind: What it is about; what concerns the budget has methods of its own.
            text: In words; without its end if it is very long.
            who: Who said or did it.
            round: Of the study.
            data: The same in numbers; a number that is not finite becomes text.

        Raises:
            ValueError: If the kind is one of the budget's.
            RuntimeError: If another process wrote to the file.
            OSError: If the file cannot be written; the event is then not part of the ledger.
        """
        if kind in _OF_BUDGET:
            raise ValueError(f"`{kind}` is written by `reserve` and `settle`, not recorded.")
        redacted = self._redacted(data or {})
        return self._write(kind, round, self.redact(who), self.redact(text), redacted)

    def reserve(self, kind: str, amount: float) -> Reservation:
        """Takes something from the budget before it is spent; it is on the disk when this returns.

        Args:
            kind: One of ``KINDS``.
            amount: As much as it may take. If it takes more after all, that is the last that is
                spent of this kind.

        Raises:
            BudgetError: If less is left. Nothing is reserved then.
            KeyError: If the kind is not known.
            ValueError: If the amount is not positive and finite.
        """
        left = self.remaining(kind)
        _check_amount("a reserved amount", amount)
        if amount == 0:
            raise ValueError("a reserved amount must be positive, but got 0.")
        if amount > left:
            raise BudgetError(
                f"the budget of {kind} is {self._budget.limit(kind):g}, of which {left:g} are "
                f"left: too few for {amount:g} more."
            )
        event = self._write(EventKind.RESERVED, data={"kind": kind, "amount": amount})
        return self._open[event.number]

    def settle(self, reservation: Reservation, actual: float) -> None:
        """Replaces what was reserved by what it took; the rest is free again.

        Args:
            reservation: Which has not been settled yet.
            actual: What it took; more than was reserved is counted in full.

        Raises:
            ValueError: If it is settled, or unknown, or ``actual`` is negative or not finite.
        """
        _check_amount("what was spent", actual)
        if self._open.get(reservation.number) != reservation:
            raise ValueError(
                f"only what is reserved can be settled, once, but got {reservation}; "
                f"open are {[entry.number for entry in self.unsettled]}."
            )
        self._write(EventKind.SETTLED, data={"reservation": reservation.number, "actual": actual})

    def spent(self, kind: str) -> float:
        """How much of a kind is gone: what was settled, and all that is reserved."""
        self._budget.limit(kind)
        reserved = sum(entry.amount for entry in self._open.values() if entry.kind == kind)
        return self._settled[kind] + reserved

    def remaining(self, kind: str) -> float:
        """How much of a kind may still be reserved; infinite without a limit, never negative.

        Raises:
            KeyError: If the kind is not known; the message lists those that are.
        """
        return max(0.0, self._budget.limit(kind) - self.spent(kind))

    def redact(self, text: str) -> str:
        """The text without the secrets, also where they are spelled as JSON spells them."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        if len(text) > MAX_TEXT_LENGTH:
            text = f"{text[:MAX_TEXT_LENGTH]}... ({len(text) - MAX_TEXT_LENGTH} characters more)"
        return text

    def _redacted(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {self.redact(str(key)): self._redacted(item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._redacted(item) for item in value]
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
        return self.redact(str(value))

    def _write(
        self,
        kind: EventKind,
        round: int = 0,
        who: str = "",
        text: str = "",
        data: Mapping[str, Any] | None = None,
    ) -> Event:
        if self._current_size() != self._size:
            raise RuntimeError(
                f"only one process may write to {self._path}, but it changed from {self._size} to "
                f"{self._current_size()} bytes meanwhile; run the two studies under other names."
            )
        event = Event(len(self._events) + 1, kind, round, who, text, data or {}, self._clock())
        append_line(self._path, event.to_json(self._sweep))
        self._insert(event)
        self._size = self._current_size()
        return event

    def _insert(self, event: Event) -> None:
        if event.number != len(self._events) + 1:
            raise ValueError(
                f"the lines must be numbered without gaps, but {event.number} follows "
                f"{len(self._events)}; the file was changed by something else."
            )
        data = event.data
        match event.kind:
            case EventKind.BUDGET:
                self._budget = Budget(**data)
            case EventKind.RESERVED:
                self._budget.limit(data["kind"])
                _check_amount("a reserved amount", data["amount"])
                reservation = Reservation(event.number, data["kind"], data["amount"])
                self._open[event.number] = reservation
            case EventKind.SETTLED:
                _check_amount("what was spent", data["actual"])
                settled = self._open.pop(data["reservation"])
                self._settled[settled.kind] += data["actual"]
        self._events.append(event)

    def _current_size(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0


def _check_amount(what: str, amount: object) -> None:
    if (
        not isinstance(amount, int | float)
        or isinstance(amount, bool)
        or not (math.isfinite(amount) and amount >= 0)
    ):
        raise ValueError(f"{what} must be finite and at least 0, but got {amount!r}.")


def _spellings(secrets: tuple[str, ...]) -> tuple[str, ...]:
    """The secrets as they are, in JSON, and in JSON that is quoted in JSON as a reply may be.

    Longest first, since one may hold another.
    """
    found = {secret for secret in secrets if len(secret) >= MIN_SECRET_LENGTH}
    for _ in range(2):
        dumps = json.dumps  # noqa: TID251  # of texts alone, in both spellings
        found |= {dumps(text, ensure_ascii=a)[1:-1] for text in found for a in (True, False)}
    return tuple(sorted(found, key=lambda spelling: (-len(spelling), spelling)))
