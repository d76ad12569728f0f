"""The append-only ledger of a study: replies, decisions, refusals and spending, on the disk.

Spending is written down before it happens, so that a crash cannot hide it.
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
    """The budget does not suffice for a reservation; the message gives the numbers."""


class EventKind(StrEnum):
    """The kind of a ledger line."""

    SAID = "said"  # an agent's raw reply
    FOUND = "found"  # an accepted finding
    REFUSED = "refused"  # a refused reply
    FELL_BACK = "fell back"  # a fallback to the trust box or to the offline brain
    DECIDED = "decided"  # the next space, and whether to go on
    SCORED = "scored"  # the verdict on an earlier hypothesis
    NOTED = "noted"  # anything else
    BUDGET = "budget"  # the total budget from here on
    RESERVED = "reserved"  # an amount that is about to be spent
    SETTLED = "settled"  # the amount that was spent of a reservation
    LOST = "lost"  # a placeholder for a damaged record


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
    """An amount that is about to be spent.

    Attributes:
        number: Number of its line.
        kind: One of ``KINDS``.
        amount: Largest expected amount.
    """

    number: int
    kind: str
    amount: float


@dataclass(frozen=True)
class Event:
    """One line of the ledger.

    Attributes:
        number: Line number, from 1, without gaps.
        kind: Kind of the event.
        round: Round number of the study; 0 before the first.
        who: Who said or did it.
        text: Description, or the raw reply.
        data: Details as plain data.
        time: Time of the event [s since 1970].
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
        """The content of its record."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return fields | {"data": dict(self.data)}

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> "Event":
        """The event in a record's content.

        Raises:
            ValueError: If the content is not an event.
        """
        check_fields(content, _TYPES)
        try:
            return cls(**content)
        except TypeError as error:
            raise ValueError(f"not an event: {error}") from None


class Ledger:
    """An append-only file of events, and the budget that follows from it.

    The file is read when the ledger is made, which changes nothing; an incomplete last line is left
    out with a warning. A reservation left open by a dead process counts as spent until it is
    settled. The spending of lost records is recovered from later records; doubtful amounts count
    as spent. One process writes at a time.

    Args:
        path: A file of JSON lines, made with the first event.
        budget: The total budget, including the spending of earlier processes. None for the budget
            in the file, or no limit if it has none.
        secrets: Texts that are never written: ``***`` replaces each in all events. Texts shorter
            than four characters are not secrets.
        clock: Returns the time [s since 1970].
        sweep: The id of the sweep, which every line carries; empty to read lines of any sweep.

    Raises:
        FormatError: If a line has another format.
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
        self._num_lost = self._num_open = 0  # open: damaged lines that may have been events
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
        """The total budget."""
        return self._budget

    @property
    def unsettled(self) -> tuple[Reservation, ...]:
        """Open reservations, including those of a dead process."""
        return tuple(self._open.values())

    @property
    def num_lost(self) -> int:
        """Number of damaged records."""
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
            kind: Kind of the event, except the budget's kinds, which have their own methods.
            text: Description; truncated if it is very long.
            who: Who said or did it.
            round: Round number of the study.
            data: Details as plain data; a number that is not finite becomes text.

        Raises:
            ValueError: If the kind is one of the budget's.
            RuntimeError: If another process wrote to the file.
            OSError: If the file cannot be written; the event is then not part of the ledger.
        """
        if kind in _OF_BUDGET:
            raise ValueError(f"`{kind}` must be written by `reserve` or `settle`, not by `record`.")
        redacted = self._redaction.value(data or {})
        return self._write(kind, round, self.redact(who), self.redact(text), redacted)

    def reserve(self, kind: str, amount: float) -> Reservation:
        """Reserves an amount before it is spent; the line is on the disk when this returns.

        Args:
            kind: One of ``KINDS``.
            amount: Largest expected amount. If more is spent after all, it counts in full, which
                may exceed the budget of this kind.

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
        """Replaces a reservation by the amount spent; the rest is free again.

        Args:
            reservation: An open reservation.
            actual: Amount spent; more than was reserved counts in full.
            reply: The reply that it paid for, stored whole in the same line; left out if it holds a
                secret, since redaction would alter it.

        Raises:
            ValueError: If it is settled, or unknown, or ``actual`` is negative or not finite.
        """
        check_amount("what was spent", actual)
        if self._open.get(reservation.number) != reservation:
            raise ValueError(
                f"only what is reserved can be settled, once, but got {reservation}; the open "
                f"reservations are {[entry.number for entry in self.unsettled]}."
            )
        kind = reservation.kind
        spent = self.spent(kind) - reservation.amount + actual
        data = {"reservation": reservation.number, "actual": actual, "kind": kind, "spent": spent}
        is_kept = reply is not None and not self._redaction.finds_any_in(reply)
        self._write(EventKind.SETTLED, data=data | ({"reply": reply} if is_kept else {}))

    def spent(self, kind: str) -> float:
        """The amount spent of a kind: all that was settled, and all open reservations."""
        self._budget.limit(kind)
        reserved = sum(entry.amount for entry in self._open.values() if entry.kind == kind)
        return self._settled[kind] + reserved

    def remaining(self, kind: str) -> float:
        """The amount of a kind that may still be reserved; infinite without a limit, at least 0.

        Raises:
            KeyError: If the kind is not known; the message lists the known ones.
        """
        return max(0.0, self._budget.limit(kind) - self.spent(kind))

    def redact(self, text: str) -> str:
        """The text without the secrets, in their plain and their JSON spelling."""
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
        """Add an event for each lost record, so that the others keep their numbers."""
        for _ in range(num_lost):
            self._events.append(Event(len(self._events) + 1, EventKind.LOST))
            self._num_lost += 1
        self._num_open = 0

    def _insert(self, event: Event) -> None:
        if event.number != len(self._events) + 1:
            raise ValueError(
                f"the lines must be numbered without gaps, but {event.number} follows "
                f"{len(self._events)}; another program changed the file; restore it from a copy."
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
        """Count the settlement of a reservation whose record is lost."""
        number = data["reservation"]
        lost = (event.number for event in self._events if event.kind is EventKind.LOST)
        if number not in lost:
            raise ValueError(f"only what is reserved can be settled, but {number!r} is not.")
        if "kind" not in data or "spent" not in data:
            raise ValueError(
                f"the record of reservation {number} is lost, and this one, which settles it, does "
                "not give its kind; restore the file from a copy"
            )
        self._catch_up(data["kind"], data)

    def _catch_up(self, kind: str, data: Mapping[str, Any]) -> None:
        """Count the spending of lost records that a later record reveals; never lower the sum."""
        if self._num_lost and "spent" in data:
            check_amount("what was spent", data["spent"])
            self._settled[kind] += max(0.0, data["spent"] - self.spent(kind))
