"""A trial: one tried point of a search space with its outcome; and the table that stores trials."""

import csv
import dataclasses
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, Self

from ssmrl.config import KnobValue
from ssmrl.files import replace_file
from tuning.table.append_only import AppendOnlyFile
from tuning.table.field_types import (
    COUNT,
    KNOB,
    NUMBER,
    TEXT,
    WHOLE,
    check_fields,
    list_of,
    map_of,
    none_or,
)
from tuning.table.record import read_record, sealed

if TYPE_CHECKING:
    import pandas as pd


class TrialState(StrEnum):
    """How a trial ended."""

    COMPLETE = "COMPLETE"  # spent its whole budget of env steps
    PRUNED = "PRUNED"  # stopped early by the scheduler or the time budget
    DIVERGED = "DIVERGED"  # a number was not finite
    FAILED = "FAILED"  # raised an error, or its process died
    OOM = "OOM"  # ran out of memory
    HUNG = "HUNG"  # showed no sign of life


LOST = (TrialState.FAILED, TrialState.OOM, TrialState.HUNG)
"""End states without a result: they say nothing about the tried point."""

FAILURES = (TrialState.DIVERGED, *LOST)
"""End states without a score."""


@dataclass(frozen=True)
class Trial:
    """One row: the tried knobs, the knobs that training received, and the outcome.

    Attributes:
        trial_id: The name of the row, such as ``t0003``.
        number: Row number, the number in ``trial_id``.
        state: How it ended.
        score: Return after adaptation on held-out tasks; the last one if it was pruned. None if
            there is none, and always None for the states after ``PRUNED``.
        knobs: The searched knobs, as suggested.
        config: All knobs, as training reported to have received them; empty if it never began.
        env_steps: Env steps of all its runs together.
        seconds: Wall-clock time of all its runs together [s].
        iterations: Training iterations of its first run.
        returns: Mean held-out return by number of adaptation steps, or of earlier episodes with the
            task; the keys are text: ``"0"``.
        interval: 95 % interval of the score, low and high.
        curve: At each evaluation, the env steps so far, and the return before and after adaptation.
        reason: Why it did not complete, in a sentence; empty if it did.
        round: The round of the sweep that made it.
        seeds: The seeds of its runs, which differ in nothing else.
        seed_scores: The score of each run, in the same order; their mean is ``score``.
        judged_at: Part of the budget at which the score is compared; 0 without a score [env steps].
        peak_bytes: Peak memory of its process; 0 if that is not known [bytes].

    Raises:
        ValueError: If the fields contradict each other, for example if training received another
            value of a searched knob than was suggested.
    """

    trial_id: str
    number: int
    state: TrialState
    score: float | None
    knobs: Mapping[str, KnobValue]
    config: Mapping[str, KnobValue] = field(default_factory=dict)
    env_steps: int = 0
    seconds: float = 0.0
    iterations: int = 0
    returns: Mapping[str, float] = field(default_factory=dict)
    interval: tuple[float, float] | None = None
    curve: tuple[tuple[int, float, float], ...] = ()
    reason: str = ""
    round: int = 0
    seeds: tuple[int, ...] = ()
    seed_scores: tuple[float, ...] = ()
    judged_at: int = 0
    peak_bytes: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", TrialState(self.state))
        for name in ("seeds", "seed_scores"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("knobs", "config", "returns"):
            object.__setattr__(self, name, dict(getattr(self, name)))
        if self.interval is not None:
            object.__setattr__(self, "interval", tuple(self.interval))
        object.__setattr__(self, "curve", tuple(tuple(row) for row in self.curve))
        _check_outcome(self)
        _check_measures(self)
        _check_seeds(self)
        _check_provenance(self)

    def to_json(self, sweep: str = "") -> str:
        """The row as one line of JSON, every float exact, with its format and a checksum.

        Args:
            sweep: The id of the sweep that it belongs to.
        """
        return sealed(dataclasses.asdict(self), sweep)

    @classmethod
    def from_json(cls, text: str, what: str = "a trial", sweep: str = "") -> Self:
        """The inverse of ``to_json``.

        Args:
            text: One line of JSON.
            what: Name of the line, for the message.
            sweep: The sweep that it must belong to; empty for any.

        Raises:
            FormatError: If it has another format.
            ValueError: If the text is not a row, was changed, or belongs to another sweep.
        """
        return cls.from_content(read_record(text, what, sweep).content)

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> Self:
        """The row in a record's content.

        Raises:
            ValueError: If the content is not a row.
        """
        check_fields(content, _TYPES)
        try:
            return cls(**content)
        except TypeError as error:
            raise ValueError(f"not a trial: {error}") from None


class TrialTable:
    """All rows of a sweep in one append-only file.

    The file is read when the table is made, which changes nothing; an incomplete last line is left
    out with a warning. One process writes at a time.

    Args:
        path: A file of JSON lines, made with the first row.
        sweep: The id of the sweep, which every row carries; empty to read rows of any sweep.
        check: Raises an error if the reader cannot use a row.

    Raises:
        FormatError: If a row has another format.
        ValueError: If a line cannot be read; the message gives its number.
    """

    def __init__(
        self, path: Path, sweep: str = "", *, check: Callable[[Trial], None] = lambda row: None
    ) -> None:
        self._rows: dict[str, Trial] = {}
        self._check = check
        self._file = AppendOnlyFile(path, sweep)
        self._file.read(self._take)

    @property
    def rows(self) -> tuple[Trial, ...]:
        """The rows in the order in which they were added."""
        return tuple(self._rows.values())

    def append(self, trial: Trial) -> None:
        """Appends a row; when this returns, the row is on the disk.

        Raises:
            ValueError: If the table already has that id: written rows are never rewritten.
            RuntimeError: If another process wrote to the file.
            OSError: If the file cannot be written; the row is then not part of the table.
        """
        if trial.trial_id in self._rows:
            raise ValueError(_duplicate(trial))
        self._file.append(dataclasses.asdict(trial))
        self._insert(trial)

    def best(self, num_rounds: int | None = None) -> Trial | None:
        """The complete trial with the highest score, the earlier on a tie; None if there is none.

        Args:
            num_rounds: Number of first rounds to consider, those that search; later rounds only
                judge. None for all.
        """
        scored = [
            (-t.score, t.number, t)
            for t in self.rows
            if _competes(t) and t.score is not None
            if num_rounds is None or t.round < num_rounds
        ]
        return min(scored, key=lambda entry: entry[:2])[2] if scored else None

    def to_pandas(self) -> "pd.DataFrame":
        """The rows in the order of their numbers; each searched knob is a column."""
        import pandas as pd

        columns, records = _records(self.rows)
        return pd.DataFrame(records, columns=columns)

    def write_csv(self, path: Path) -> None:
        """Replaces ``path`` by the rows as CSV, as in ``to_pandas``; floats read back exactly."""
        replace_file(path, csv_text(self.rows))

    def _take(self, content: Mapping[str, Any]) -> bool:
        row = Trial.from_content(content)
        self._check(row)
        self._insert(row)
        return True

    def _insert(self, trial: Trial) -> None:
        if trial.trial_id in self._rows:
            raise ValueError(_duplicate(trial))
        self._rows[trial.trial_id] = trial


_TYPES = {
    "trial_id": TEXT,
    "number": COUNT,
    "state": TEXT,
    "score": none_or(NUMBER),
    "knobs": map_of(KNOB),
    "config": map_of(KNOB),
    "env_steps": COUNT,
    "seconds": NUMBER,
    "iterations": COUNT,
    "returns": map_of(NUMBER),
    "interval": none_or(list_of(NUMBER, 2)),
    "curve": list_of(list_of(NUMBER, 3)),
    "reason": TEXT,
    "round": COUNT,
    "seeds": list_of(WHOLE),
    "seed_scores": list_of(NUMBER),
    "judged_at": COUNT,
    "peak_bytes": COUNT,
}

_FIRST = ("trial_id", "number", "round", "state", "score", "interval_low", "interval_high")
_SEEDS = ("score_std", "seeds")
_LAST = ("env_steps", "seconds", "iterations", "peak_bytes", "reason")


def csv_text(trials: Sequence[Trial]) -> str:
    """Rows as CSV, in the order of their numbers; every float reads back exactly."""
    columns, records = _records(trials)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _records(trials: Sequence[Trial]) -> tuple[list[str], list[dict[str, Any]]]:
    rows = sorted(trials, key=lambda trial: trial.number)
    records = [_record(trial) for trial in rows]
    columns = dict.fromkeys((*_FIRST, *_SEEDS))
    columns |= dict.fromkeys(knob for trial in rows for knob in trial.knobs)
    returns = {column for record in records for column in record if column.startswith("return_")}
    columns |= dict.fromkeys(sorted(returns, key=lambda column: int(column[7:])))
    columns |= dict.fromkeys(_LAST)
    return list(columns), records


def _record(trial: Trial) -> dict[str, Any]:
    low, high = trial.interval or (None, None)
    return {
        "trial_id": trial.trial_id,
        "number": trial.number,
        "round": trial.round,
        "state": trial.state.value,
        "score": trial.score,
        "interval_low": low,
        "interval_high": high,
        "score_std": stdev(trial.seed_scores) if len(trial.seed_scores) > 1 else None,
        "seeds": " ".join(map(str, trial.seeds)),
        **trial.knobs,
        **{f"return_{steps}": value for steps, value in trial.returns.items()},
        "env_steps": trial.env_steps,
        "seconds": trial.seconds,
        "iterations": trial.iterations,
        "peak_bytes": trial.peak_bytes,
        "reason": trial.reason,
    }


def _competes(trial: Trial) -> bool:
    return trial.state is TrialState.COMPLETE


def _duplicate(trial: Trial) -> str:
    return (
        f"`trial_id` must be new, but the table has a row {trial.trial_id!r}; "
        "a row that is written is never rewritten."
    )


def _check_outcome(trial: Trial) -> None:
    state, score = trial.state, trial.score
    if state is TrialState.COMPLETE and (score is None or trial.reason):
        raise ValueError(
            f"{trial.trial_id}: a COMPLETE trial has a score and no reason, "
            f"but got {score=}, reason={trial.reason!r}."
        )
    if state not in (TrialState.COMPLETE, TrialState.PRUNED) and score is not None:
        raise ValueError(f"{trial.trial_id}: a {state} trial has no score, but got {score=}.")
    if state in FAILURES and not trial.reason:
        raise ValueError(f"{trial.trial_id}: a {state} trial must say why; give a `reason`.")
    if score is not None and not math.isfinite(score):
        raise ValueError(
            f"{trial.trial_id}: `score` must be finite, but got {score}; the trial DIVERGED."
        )


def _check_measures(trial: Trial) -> None:
    if not trial.trial_id or trial.number < 0:
        raise ValueError(f"got trial_id={trial.trial_id!r}, number={trial.number}; both are needed")
    for name in ("env_steps", "seconds", "iterations"):
        if not 0 <= (value := getattr(trial, name)) < math.inf:
            raise ValueError(f"{trial.trial_id}: `{name}` must be at least 0, but got {value}.")
    if not all(steps.isdecimal() for steps in trial.returns):
        raise ValueError(
            f"{trial.trial_id}: the keys of `returns` must be counts as text, such as '0', "
            f"but got {list(trial.returns)}."
        )
    if trial.interval is not None and not trial.interval[0] <= trial.interval[1]:
        raise ValueError(f"{trial.trial_id}: `interval` must be low, high; got {trial.interval}.")
    numbers = (*trial.returns.values(), *(trial.interval or ()), *sum(trial.curve, ()))
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError(
            f"{trial.trial_id}: `returns`, `interval` and `curve` must be finite; "
            "leave out evaluations that are not."
        )


def _check_seeds(trial: Trial) -> None:
    if trial.round < 0:
        raise ValueError(f"{trial.trial_id}: `round` must be at least 0, but got {trial.round}")
    scores = trial.seed_scores
    if not scores:
        return
    if len(scores) != len(trial.seeds) or trial.score is None:
        raise ValueError(
            f"{trial.trial_id}: each of {len(trial.seeds)} seeds must have its score, and the "
            f"trial their mean, but got seed_scores={scores}, score={trial.score}."
        )
    if not math.isclose(fmean(scores), trial.score, rel_tol=1e-9, abs_tol=1e-9):
        raise ValueError(
            f"{trial.trial_id}: `score` must be the mean of {scores}, but got {trial.score}."
        )


def _check_provenance(trial: Trial) -> None:
    if not trial.config:
        return
    other = {
        k: (v, trial.config.get(k)) for k, v in trial.knobs.items() if trial.config.get(k) != v
    }
    if other:
        raise ValueError(
            f"{trial.trial_id}: training must receive what was suggested, but it did not; values "
            f"as (suggested, received): {other}."
        )
