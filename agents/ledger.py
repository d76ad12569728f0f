"""All that was said, decided, refused and spent, line by line on the disk; it decides nothing.

What is to be spent is written down before it is, so that no crash gives anything back.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from agents.budget import KINDS, Budget, check_amount
from agents.redaction import Redaction
from tuning.table.append_only import AppendOnlyFile
from tuning.table.field_types import (
    ANYTHING,
    COUNT,
    NUMBER,
    TEXT,
    check_fields,
    check_present,
    map_of,
)


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
    LOST = "lost"  # something that was damaged and is set aside


_OF_BUDGET = (EventKind.BUDGET, EventKind.RESERVED, EventKind.SETTLED)
_TYPES = {
    "number": COUNT,
    "kind": TEXT,
    "round": COUNT,
    "who": TEXT,
    "text": TEXT,
    "data": map_of(ANYTHING),
    "time": NUMBER,
}


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

    def content(self) -> dict[str, Any]:
        """What a record of it holds."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return fields | {"data": dict(self.data)}

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> "Event":
        """The event that a record holds.

        Raises:
            ValueError: If it is none.
        """
        check_fields(content, _TYPES)
        try:
            return cls(**content)
        except TypeError as error:
            raise ValueError(f"not an event: {error}") from None


class Ledger:
    """An append-only file of events, and the budget that follows from it.

    The file is read when the ledger is made, which changes nothing; a last line that was not
    written to its end is left out with a warning. What was reserved and not settled when a process
    died counts as spent, until it is settled. Where records are lost, what they spent is known as
    far as later ones tell; what is in doubt counts as spent. One process writes at a time.

    Args:
        path: A file of JSON lines, made with the first event.
        budget: What may be spent in all, what earlier processes spent included. None for the
            budget that the file names, or without one no limit.
        secrets: Texts that are never written: each becomes ``***`` wherever it occurs in what is
            said. Those of fewer than four characters are no secrets.
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
        self._clock = clock
        self._redaction = Redaction(secrets)
        self._events: list[Event] = []
        self._budget = Budget()
        self._open: dict[int, Reservation] = {}
        self._settled = dict.fromkeys(KINDS, 0.0)
        self._num_lost = self._num_open = 0  # of those in doubt: it may have been no record
        self._file = AppendOnlyFile(path, sweep)
        self._file.read(self._take, self._lose)
        self._fill_in(self._num_open)
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

    @property
    def num_lost(self) -> int:
        """How many records were damaged and are set aside."""
        return self._num_lost

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
        redacted = self._redaction.value(data or {})
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
        check_amount("a reserved amount", amount)
        if amount == 0:
            raise ValueError("a reserved amount must be positive, but got 0.")
        if amount > left:
            raise BudgetError(
                f"the budget of {kind} is {self._budget.limit(kind):g}, of which {left:g} are "
                f"left: too few for {amount:g} more."
            )
        data = {"kind": kind, "amount": amount, "spent": self.spent(kind) + amount}
        event = self._write(EventKind.RESERVED, data=data)
        return self._open[event.number]

    def settle(
        self, reservation: Reservation, actual: float, reply: Mapping[str, Any] | None = None
    ) -> None:
        """Replaces what was reserved by what it took; the rest is free again.

        Args:
            reservation: Which has not been settled yet.
            actual: What it took; more than was reserved is counted in full.
            reply: What was got for it, kept whole in the same line; left out if it holds a secret,
                since without it it would be another one.

        Raises:
            ValueError: If it is settled, or unknown, or ``actual`` is negative or not finite.
        """
        check_amount("what was spent", actual)
        if self._open.get(reservation.number) != reservation:
            raise ValueError(
                f"only what is reserved can be settled, once, but got {reservation}; "
                f"open are {[entry.number for entry in self.unsettled]}."
            )
        kind = reservation.kind
        spent = self.spent(kind) - reservation.amount + actual
        data = {"reservation": reservation.number, "actual": actual, "kind": kind, "spent": spent}
        is_kept = reply is not None and not self._redaction.finds_any_in(reply)
        self._write(EventKind.SETTLED, data=data | ({"reply": reply} if is_kept else {}))

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
        return self._redaction.text(text)

    def _write(
        self,
        kind: EventKind,
        round: int = 0,
        who: str = "",
        text: str = "",
        data: Mapping[str, Any] | None = None,
    ) -> Event:
        event = Event(len(self._events) + 1, kind, round, who, text, data or {}, self._clock())
        self._file.append(event.content())
        self._insert(event)
        return event

    def _take(self, content: Mapping[str, Any]) -> bool:
        event = Event.from_content(content)
        self._fill_in(min(self._num_open, event.number - len(self._events) - 1))
        self._insert(event)
        return True

    def _lose(self) -> None:
        self._num_open += 1

    def _fill_in(self, num_lost: int) -> None:
        """Have an event for each record that is lost, so that the others keep their numbers."""
        for _ in range(num_lost):
            self._events.append(Event(len(self._events) + 1, EventKind.LOST))
            self._num_lost += 1
        self._num_open = 0

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
                check_present(data, "kind", "amount")
                self._budget.limit(data["kind"])
                check_amount("a reserved amount", data["amount"])
                reservation = Reservation(event.number, data["kind"], data["amount"])
                self._open[event.number] = reservation
                self._catch_up(reservation.kind, data)
            case EventKind.SETTLED:
                check_present(data, "actual", "reservation")
                check_amount("what was spent", data["actual"])
                if (settled := self._open.pop(data["reservation"], None)) is not None:
                    self._settled[settled.kind] += data["actual"]
                    self._catch_up(settled.kind, data)
                else:
                    self._settle_lost(data)
        self._events.append(event)

    def _settle_lost(self, data: Mapping[str, Any]) -> None:
        """Count what was settled of a reservation whose record is lost."""
        number = data["reservation"]
        lost = (event.number for event in self._events if event.kind is EventKind.LOST)
        if number not in lost:
            raise ValueError(f"only what is reserved can be settled, but {number!r} is not.")
        if "kind" not in data or "spent" not in data:
            raise ValueError(
                f"the record of reservation {number} is lost, and this one, which settles it, does "
                "not say of what kind it was; restore the file from a copy"
            )
        self._catch_up(data["kind"], data)

    def _catch_up(self, kind: str, data: Mapping[str, Any]) -> None:
        """Count what lost records spent, as far as a later one tells; never less than is known."""
        if self._num_lost and "spent" in data:
            check_amount("what was spent", data["spent"])
            self._settled[kind] += max(0.0, data["spent"] - self.spent(kind))
