"""What a sweep shows while it runs: a live table on a terminal, plain lines elsewhere."""

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ssmrl.config import KnobValue
from ssmrl.printable import printable
from tuning.table.trial import FAILURES, Trial, TrialState

MAX_ROWS = 20
_STYLES: dict[str, str] = {
    "RUNNING": "cyan",
    TrialState.COMPLETE: "green",
    TrialState.PRUNED: "yellow",
    **{state.value: "red" for state in FAILURES},
}


@dataclass
class _Row:
    trial_id: str
    knobs: Mapping[str, KnobValue]
    state: str = "RUNNING"
    env_steps: int = 0
    score: float | None = None


class Progress:
    """Shows how far a sweep is and what it found; it decides nothing.

    Args:
        num_trials: Number of trials of the whole sweep.
        max_env_steps: Budget of a trial [env steps].
        earlier: Rows of the resumed sweep; they count as finished, but not for the speed.
        best: The best searched trial among them.
        time_budget_s: Time budget, the most that is shown as time left [s].
        quiet_stdout: Whether to leave stdout to the result and show everything on stderr.
        stream: Output stream; by default stdout or, with ``quiet_stdout``, stderr.
        clock: Monotonic clock [s].

    Example:
        >>> with Progress(num_trials=2, max_env_steps=1000) as progress:
        ...     progress.started("t0000", {"meta.inner_lr": 0.1})
        t0000 started: inner_lr=0.1
    """

    def __init__(
        self,
        *,
        num_trials: int,
        max_env_steps: int,
        earlier: Sequence[Trial] = (),
        best: Trial | None = None,
        time_budget_s: float | None = None,
        quiet_stdout: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._num_trials = num_trials
        self._max_env_steps = max_env_steps
        self._time_budget_s = time_budget_s
        self._clock = clock
        self._start = clock()
        self._lock = threading.RLock()  # the live table is drawn by a thread of its own
        self._rows: dict[str, _Row] = {}
        for trial in earlier:
            self._rows[trial.trial_id] = _finished_row(trial)
        self._earlier_steps = sum(trial.env_steps for trial in earlier)
        self._best = best
        self._stream = stream or (sys.stderr if quiet_stdout else sys.stdout)
        self._live: Live | None = None
        console = Console(file=self._stream)
        if self._stream.isatty() and not console.is_dumb_terminal:
            self._live = Live(
                console=console,
                get_renderable=self._draw,
                refresh_per_second=4,
                redirect_stdout=not quiet_stdout,  # else Rich sends a result on stdout to stderr
            )
            self._live.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def started(self, trial_id: str, knobs: Mapping[str, KnobValue]) -> None:
        """A trial began to train with these searched knobs."""
        with self._lock:
            self._rows[trial_id] = _Row(trial_id, knobs)
        self._say(f"{trial_id} started: {short(knobs)}")

    def reported(self, trial_id: str, env_steps: int, score: float | None) -> None:
        """A trial has taken ``env_steps`` so far; it has a score if it was just evaluated."""
        with self._lock:
            row = self._rows.setdefault(trial_id, _Row(trial_id, {}))
            row.env_steps = env_steps
            row.score = row.score if score is None else score
        if score is not None:
            self._say(f"{trial_id} evaluated: {self._steps(row)} env steps, score {score:.4g}")

    def finished(self, trial: Trial, best: Trial | None) -> None:
        """A trial ended; ``best`` is the best searched trial so far."""
        with self._lock:
            self._rows[trial.trial_id] = _finished_row(trial)
            self._best = best
        score = "no score" if trial.score is None else f"score {trial.score:.4g}"
        reason = f" ({trial.reason})" if trial.reason else ""
        self._say(f"{trial.trial_id} {trial.state}: {score}{reason} | {self._headline()}")

    def note(self, line: str) -> None:
        """Print a line about anything but the end of a trial."""
        if self._live is None:
            print(printable(line), file=self._stream, flush=True)
        else:
            self._live.console.print(printable(line), markup=False, highlight=False)

    def close(self) -> None:
        """Leave the last view on the screen and release the terminal; may be called twice."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _say(self, line: str) -> None:
        if self._live is None:
            print(printable(line), file=self._stream, flush=True)

    def _headline(self) -> str:
        rows = list(self._rows.values())
        num_finished = sum(row.state != "RUNNING" for row in rows)
        best = "none yet"
        if self._best is not None and self._best.score is not None:
            best = f"{self._best.score:.4g} ({self._best.trial_id})"
        elapsed = self._clock() - self._start
        steps = sum(row.env_steps for row in rows) - self._earlier_steps
        speed = steps / elapsed if elapsed > 0 else 0.0
        return (
            f"{num_finished}/{self._num_trials} finished, best searched {best}, "
            f"{speed:,.0f} env steps/s, elapsed {_duration(elapsed)}, "
            f"left {self._time_left(rows, speed, elapsed)}"
        )

    def _time_left(self, rows: Sequence[_Row], speed: float, elapsed: float) -> str:
        """Time left at the speed so far; a trial to come counts as the mean of ended ones."""
        ended = [row.env_steps for row in rows if row.state != "RUNNING"]
        typical = sum(ended) / len(ended) if any(ended) else self._max_env_steps
        to_come = max(0, self._num_trials - len(rows)) * typical
        running = [max(0, self._max_env_steps - r.env_steps) for r in rows if r.state == "RUNNING"]
        steps = to_come + sum(running)
        cap = None if self._time_budget_s is None else max(0.0, self._time_budget_s - elapsed)
        if steps and not speed:
            return "unknown" if cap is None else f"at most {_duration(cap)}"
        left = steps / speed if steps else 0.0
        return _duration(left if cap is None else min(left, cap))

    def _steps(self, row: _Row) -> str:
        return f"{row.env_steps:,}/{self._max_env_steps:,}"

    def _draw(self) -> Group:
        with self._lock:
            rows = sorted(self._rows.values(), key=_prominence)
            headline = self._headline()
        table = Table("trial", "state", "env steps", "score", "knobs", expand=False)
        for row in rows[:MAX_ROWS]:
            is_best = self._best is not None and row.trial_id == self._best.trial_id
            table.add_row(
                Text(printable(row.trial_id) + (" *" if is_best else "")),
                Text(row.state, style=_STYLES.get(row.state, "")),
                self._steps(row),
                "" if row.score is None else f"{row.score:.4g}",
                Text(short(row.knobs), overflow="ellipsis", no_wrap=True),
                style="bold" if is_best else "",
            )
        hidden = len(rows) - MAX_ROWS
        note = f"and {hidden} more" if hidden > 0 else ""
        return Group(Text(headline), table, Text(note))


def short(knobs: Mapping[str, KnobValue]) -> str:
    """Knobs for a narrow column: last part of the name, three digits.

    Example:
        >>> short({"policy.state_dim": 32, "meta.inner_lr": 0.123456})
        'state_dim=32 inner_lr=0.123'
    """
    return " ".join(
        f"{knob.rpartition('.')[2]}={f'{value:.3g}' if isinstance(value, float) else value}"
        for knob, value in knobs.items()
    )


def _finished_row(trial: Trial) -> _Row:
    return _Row(trial.trial_id, trial.knobs, trial.state, trial.env_steps, trial.score)


def _prominence(row: _Row) -> tuple[bool, bool, float, str]:
    """Sort key: running trials first, then by score, then those without a score."""
    return (row.state != "RUNNING", row.score is None, -(row.score or 0.0), row.trial_id)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
