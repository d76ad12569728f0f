"""The space of each round of a sweep, and its origin; the trials are in the table."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssmrl.config import TrainConfig
from ssmrl.strict_json import json_text, json_value
from tuning.spaces.space import SearchSpace
from tuning.table.append_only import AppendOnlyFile
from tuning.table.field_types import COUNT, TEXT, check_fields, check_present
from tuning.table.move import Move

PLAN, _MOVE, _SPACE = "plan", "move", "space"


@dataclass(frozen=True)
class Round:
    """One round of trials: its space, and the changes since the round before.

    Attributes:
        number: Round number; later rounds have larger numbers.
        author: Who set the space, such as ``"trust box"``.
        space: The space it searched.
        moves: The changes, each with its reason; empty in a first round.
        num_trials: Planned number of trials.

    Raises:
        ValueError: If a number is negative, there is no author, or a moved knob is not searched.
    """

    number: int
    author: str
    space: SearchSpace
    moves: tuple[Move, ...]
    num_trials: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "moves", tuple(self.moves))
        if self.number < 0 or self.num_trials < 0 or not self.author:
            raise ValueError(
                "a round must have a number and a count of trials of at least 0 and an author, but "
                f"got number={self.number}, num_trials={self.num_trials}, author={self.author!r}."
            )
        strange = {move.knob for move in self.moves} - self.space.ranges.keys()
        if strange:
            raise ValueError(
                f"round {self.number}: only searched knobs can move, but {sorted(strange)} are not "
                f"searched; the searched knobs are: {', '.join(self.space.ranges)}."
            )


class RoundLog:
    """All rounds of a sweep in one append-only file.

    A round is one line for each move and a closing line for the space, appended together. Lines
    that a killed process left without the closing line do not count as a round. They are left out
    with a warning, and moved to ``<path>.torn`` before the next append. The first round comes with
    a copy of the plan, in a line of its own.

    Args:
        path: A file of JSON lines, made with the first round.
        base: The base configuration of the spaces.
        sweep: The id of the sweep, which every line carries; empty to read lines of any sweep.
        plan: The plan of the sweep, as JSON; if empty, no copy is written.
        what: Kind of the plan: a sweep, or a study.

    Raises:
        FormatError: If a line has another format.
        ValueError: If a line cannot be read; the message gives its number.
    """

    def __init__(
        self,
        path: Path,
        base: TrainConfig,
        sweep: str = "",
        *,
        plan: str = "",
        what: str = "sweep",
    ) -> None:
        self._base, self._plan, self._what = base, plan, what
        self._rounds: list[Round] = []
        self._moves: list[tuple[int, Move]] = []
        self._file = AppendOnlyFile(path, sweep)
        self._file.read(self._take)

    @property
    def rounds(self) -> tuple[Round, ...]:
        """The rounds in the order in which they were added."""
        return tuple(self._rounds)

    def append(self, this: Round) -> None:
        """Appends a round; when this returns, all of it is on the disk.

        Raises:
            ValueError: If its number is not larger than all before.
            RuntimeError: If another process wrote to the file.
            OSError: If the file cannot be written; the round is then not part of the log.
        """
        self._check_number(this)
        contents = _contents(this)
        if self._plan:
            plan = json_value(self._plan)
            contents = [{"event": PLAN, "what": self._what, "plan": plan}, *contents]
        self._file.append(*contents)
        self._rounds.append(this)
        self._plan = ""

    def _take(self, content: dict[str, Any]) -> bool:
        if content.get("event") == PLAN:
            self._plan = ""
            return not self._moves
        try:
            this = _taken_in(content, self._moves, self._base)
        except AttributeError as error:  # from another value where an object is expected
            raise ValueError(*error.args) from error
        if this is None:
            return False
        self._check_number(this)
        self._rounds.append(this)
        self._moves = []
        return True

    def _check_number(self, this: Round) -> None:
        if self._rounds and this.number <= self._rounds[-1].number:
            raise ValueError(
                f"`number` must be larger than those before, but got {this.number} after "
                f"{self._rounds[-1].number}; a round that is written is never rewritten."
            )


def _contents(this: Round) -> list[dict[str, Any]]:
    moves = [
        {"event": _MOVE, "round": this.number, **json_value(move.to_json())} for move in this.moves
    ]
    closing = {
        "event": _SPACE,
        "round": this.number,
        "author": this.author,
        "space": json_value(this.space.to_json()),
        "num_trials": this.num_trials,
    }
    return [*moves, closing]


def _taken_in(
    event: dict[str, Any], moves: list[tuple[int, Move]], base: TrainConfig
) -> Round | None:
    """The round that the event closes; None for a move, which waits in ``moves`` until then."""
    check_fields(event, {"event": TEXT, "round": COUNT, "author": TEXT, "num_trials": COUNT})
    check_present(event, "event", "round")
    kind = event["event"]
    if kind == _MOVE:
        fields = {name: value for name, value in event.items() if name not in ("event", "round")}
        moves.append((event["round"], Move.from_json(json_text(fields))))
        return None
    if kind != _SPACE:
        raise ValueError(f"an event must be {_MOVE!r} or {_SPACE!r}, but got {kind!r}")
    check_present(event, "author", "space", "num_trials")
    return Round(
        number=event["round"],
        author=event["author"],
        space=SearchSpace.from_json(json_text(event["space"]), base),
        moves=tuple(move for number, move in moves if number == event["round"]),
        num_trials=event["num_trials"],
    )
