"""Which space each round of a sweep searched, and how it came to be; not which trials it made."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssmrl.config import TrainConfig
from ssmrl.files import replace_file
from ssmrl.format import FormatError
from ssmrl.strict_json import json_text, json_value
from tuning.durable import append_line
from tuning.field_types import COUNT, TEXT, check_fields
from tuning.move import Move
from tuning.record import opened, sealed
from tuning.space import SearchSpace

_MOVE, _SPACE = "move", "space"


@dataclass(frozen=True)
class Round:
    """One round of trials: where it searched, and what had changed since the round before.

    Attributes:
        number: Its place; later rounds have larger numbers.
        author: Who set the space, such as ``"trust box"``.
        space: Where it searched.
        moves: The changes, each with its reason; none in a first round.
        num_trials: How many trials it was to make.

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
                f"round {self.number}: only searched knobs can have moved, but {sorted(strange)} "
                f"are none; those are: {', '.join(self.space.ranges)}."
            )


class RoundLog:
    """All rounds of a sweep in one file, to which rounds are only ever added.

    A round is one line for each move and a closing one for the space, added together. What a
    killed process left without the closing line is no round: it is left out with a warning.
    Reading changes nothing, so that a running sweep can be looked at; the first ``append`` moves
    what was left out to ``<path>.torn``.

    Args:
        path: A file of JSON lines, made with the first round.
        base: The configuration that the spaces vary.
        sweep: The id of the sweep, which every line carries; without one, lines of any are read.

    Raises:
        FormatError: If a line is of another format.
        ValueError: If a line cannot be read; the message gives its number.
    """

    def __init__(self, path: Path, base: TrainConfig, sweep: str = "") -> None:
        self._path, self._sweep = path, sweep
        self._rounds: list[Round] = []
        data = path.read_bytes() if path.exists() else b""
        self._size = len(data)
        self._kept, self._left_out = self._read(data, base)
        if self._left_out:
            warnings.warn(
                f"the last round of {path} was not written to its end (probably a killed process); "
                f"{len(self._left_out)} bytes are left out",
                stacklevel=2,
            )

    @property
    def rounds(self) -> tuple[Round, ...]:
        """The rounds in the order in which they were added."""
        return tuple(self._rounds)

    def append(self, this: Round) -> None:
        """Adds a round; when this returns, all of it is on the disk.

        Raises:
            ValueError: If its number is not larger than all before.
            RuntimeError: If another process wrote to the file.
            OSError: If the file cannot be written; the round is then not part of the log.
        """
        self._check_number(this)
        if (size := self._current_size()) != self._size:
            raise RuntimeError(
                f"only one process may write to {self._path}, but it changed from {self._size} to "
                f"{size} bytes meanwhile; run the two sweeps under different names."
            )
        if self._left_out:
            torn = self._path.with_name(f"{self._path.name}.torn")
            append_line(torn, self._left_out.decode(errors="replace").rstrip("\n"))
            replace_file(self._path, self._kept.decode())
            self._left_out, self._size = b"", self._current_size()
        text = "\n".join(_lines(this, self._sweep))
        append_line(self._path, text)
        self._rounds.append(this)
        self._kept += f"{text}\n".encode()
        self._size = self._current_size()

    def _read(self, data: bytes, base: TrainConfig) -> tuple[bytes, bytes]:
        """Takes in the complete rounds; returns their bytes, and those of what follows."""
        *lines, tail = data.split(b"\n")
        moves: list[Move] = []
        size = kept = 0
        for number, line in enumerate(lines, start=1):
            size += len(line) + 1
            try:
                json_value(line)
            except ValueError as error:
                if number == len(lines) and not tail:
                    break  # torn in another way: the end of the line came to the disk first
                raise ValueError(f"line {number} of {self._path}: {error}") from error
            try:
                event = opened(line.decode(), f"line {number} of {self._path}", self._sweep)
                if (this := _taken_in(event, moves, base)) is not None:
                    self._check_number(this)
                    self._rounds.append(this)
                    moves, kept = [], size
            except FormatError:
                raise
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                reason = error.args[0] if error.args else error
                raise ValueError(f"line {number} of {self._path}: {reason}") from error
        return data[:kept], data[kept:]

    def _check_number(self, this: Round) -> None:
        if self._rounds and this.number <= self._rounds[-1].number:
            raise ValueError(
                f"`number` must be larger than those before, but got {this.number} after "
                f"{self._rounds[-1].number}; a round that is written is never rewritten."
            )

    def _current_size(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0


def _lines(this: Round, sweep: str) -> list[str]:
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
    return [sealed(event, sweep) for event in (*moves, closing)]


def _taken_in(event: dict[str, Any], moves: list[Move], base: TrainConfig) -> Round | None:
    """The round that the event closes; a move waits among ``moves`` for the round to close."""
    check_fields(event, {"event": TEXT, "round": COUNT, "author": TEXT, "num_trials": COUNT})
    kind = event["event"]
    if kind == _MOVE:
        fields = {name: value for name, value in event.items() if name not in ("event", "round")}
        moves.append(Move.from_json(json_text(fields)))
        return None
    if kind != _SPACE:
        raise ValueError(f"an event must be {_MOVE!r} or {_SPACE!r}, but got {kind!r}")
    return Round(
        number=event["round"],
        author=event["author"],
        space=SearchSpace.from_json(json_text(event["space"]), base),
        moves=tuple(moves),
        num_trials=event["num_trials"],
    )
