"""Watches each trial while it runs, and writes one row for it, however it ends."""

import os
import re
import signal
import socket
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import OutOfMemoryError

from cluster.metrics import SweepMetrics
from ssmrl.disk_room import PATIENCE_S, free_room, no_room
from tuning.memory_monitor import MonitorKill
from tuning.memory_use import num_memory_kills
from tuning.progress import Progress
from tuning.pulse import Sign
from tuning.scheduler import trains_again
from tuning.search.searcher import StudySearcher, row_name
from tuning.table.trial import Trial, TrialState, TrialTable
from tuning.trial_log import TrialLog
from tuning.watch import Watch

METRIC = "score"

ENOUGH_ROOM = 8 * 2**20
"""Free disk space below which the user is warned that trials may have to wait [bytes]."""

_FAILURE = re.compile(r"^Failure # .*$", re.MULTILINE)  # first line of each in a trial's file

_SECONDS_BETWEEN_LOOKS = 1.0
_RETRIES_OF_A_HANG = 1
_BUSY = 0.1  # share of one CPU above which a silent process computes; it may have to share


class KilledInStartError(RuntimeError):
    """Ray's memory monitor killed a trial while its process was being started.

    Attributes:
        trial: Tune's trial.
        kill: What the monitor says.
    """

    def __init__(self, trial: Any, kill: MonitorKill) -> None:
        super().__init__(kill.sentence)
        self.trial, self.kill = trial, kill


class RowKeeper(tune.Callback):
    """Turns Tune's events into progress, and the end of each trial into a row of the table.

    Tune restarts a trial whose process dies, from its last checkpoint, up to ``retries`` times
    without progress in between. A trial that shows no sign of life is killed here, and restarted
    once.

    Args:
        number: Round number.
        table: Table the rows are appended to.
        searcher: Searcher that knows the trials' numbers.
        progress: Receives progress events.
        metrics: Receives the number of trials in each state.
        time_budget_s: Time budget [s].
        num_rounds: Number of rounds of the plan.
        retries: Number of restarts of a trial.
        pulses: Folder of the trials' pulse files.
        watch: Decides which silence is too long.
        num_spared: Restarts of each trial that was killed beside a larger one, by name; counted
            across all calls of Tune in a round.
        log: Additional log, which receives the rows.
    """

    def __init__(
        self,
        number: int,
        table: TrialTable,
        searcher: StudySearcher,
        progress: Progress,
        metrics: SweepMetrics,
        *,
        time_budget_s: float,
        num_rounds: int,
        retries: int,
        pulses: Path,
        watch: Watch,
        num_spared: Counter[str],
        log: TrialLog | None = None,
    ) -> None:
        self._round, self._time_budget_s, self._num_rounds = number, time_budget_s, num_rounds
        self._table, self._searcher, self._progress = table, searcher, progress
        self._metrics, self._retries = metrics, retries
        self._pulses, self._watch = pulses, watch
        self._started = self._looked = time.monotonic()
        self._evaluations: dict[str, int] = {}
        self._open: dict[str, Any] = {}
        self._num_spared, self._log = num_spared, log
        self._killed_in_start: KilledInStartError | None = None
        self._trials: list[Any] = []
        self._running: set[str] = set()
        self._ended: set[str] = set()
        self._failed_at: dict[str, int] = {}
        self._hung: dict[str, str] = {}
        self._num_hangs: Counter[str] = Counter()
        self._cpu_seconds: dict[str, float | None] = {}
        self._memory_kills = num_memory_kills()
        self._is_full = False

    def __getstate__(self) -> dict[str, Any]:
        """No state: Tune pickles its callbacks for its own resume, which is not used here."""
        return {}

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Tune finished a step of its loop.

        Raises:
            KilledInStartError: If Ray's memory monitor killed a trial for the last time while its
                process was being started; ``lost_to_memory_monitor`` handles that. Only from here
                does Tune pass an error on as it is.
        """
        self._trials = trials  # Tune's own list, to which it adds
        if self._killed_in_start is not None:
            raise self._killed_in_start
        ended = Counter(row.state for row in self._table.rows)
        self._metrics.trials(
            {"RUNNING": len(self._open), **{state.value: ended[state] for state in TrialState}}
        )
        if time.monotonic() - self._looked >= _SECONDS_BETWEEN_LOOKS:
            self._looked = time.monotonic()
            self._look_at_the_disk()
            for trial in trials:
                if trial.trial_id not in self._ended:
                    self._look_after(trial)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial started or restarted."""
        self._running.add(trial.trial_id)
        if trial.trial_id not in self._open:
            self._open[trial.trial_id] = trial
            self._progress.started(self._name(trial), _searched(trial))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial finished an iteration."""
        evaluations = len(result["curve"])
        is_new = evaluations > self._evaluations.get(trial.trial_id, 0)
        self._evaluations[trial.trial_id] = evaluations
        score = result.get(METRIC) if is_new else None
        self._progress.reported(self._name(trial), result["all_env_steps"], score)
        self._watch.report(self._name(trial))
        if result["all_env_steps"] > self._failed_at.get(trial.trial_id, result["all_env_steps"]):
            del self._failed_at[trial.trial_id]
            self._num_hangs.pop(trial.trial_id, None)
            trial.run_metadata.num_failures = 0

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial failed, and will be restarted."""
        result = trial.last_result or {}
        self._running.discard(trial.trial_id)
        if MonitorKill.read(_last_failure(trial.error_file)) is not None:
            self._num_spared[self._name(trial)] += 1
        state, reason = self._loss(trial)
        self._failed_at[trial.trial_id] = result.get("all_env_steps", 0)
        self._forget_pulse(trial)
        self._progress.note(f"{self._name(trial)} is restarted: {state}, {reason}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial ended by itself, or was stopped."""
        if trial.trial_id in self._open:
            self._end(trial, *self._outcome(trial))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial failed for the last time, perhaps before it started."""
        kill = MonitorKill.read(_last_failure(trial.error_file))
        if kill is not None and trial.trial_id not in self._running:
            self._killed_in_start = KilledInStartError(trial, kill)
            return
        self._end(trial, *self._loss(trial))

    def lost_to_memory_monitor(self, error: BaseException) -> bool:
        """Handle an error with which Tune ended because Ray's memory monitor killed trials.

        The largest of them gets its row, as OOM. The others have none yet, so they are restarted
        from their checkpoints with the rest of the round. If a larger trial lives, all of them are
        restarted, up to ``retries`` times: the monitor kills the youngest process first.

        Args:
            error: Error that Tune raised.

        Returns:
            Whether the monitor killed a trial of this round.
        """
        starting = error if isinstance(error, KilledInStartError) else None
        kill = starting.kill if starting else _monitors(error)
        if kill is None:
            return False
        pids = self._pids()
        killed = {each: kill.killed[pid] for each, pid in pids.items() if pid in kill.killed}
        if starting is not None and not killed:  # it gave no sign of life yet
            killed = {starting.trial.trial_id: 0.0}
        if not killed:
            return False
        blamed = max(killed, key=lambda trial_id: killed[trial_id])
        trial = self._living()[blamed] if starting is None or blamed in pids else starting.trial
        others = [pid for each, pid in pids.items() if each not in killed]
        largest = max((kill.living.get(pid, 0.0) for pid in others), default=0.0)
        if largest > killed[blamed] and self._num_spared[self._name(trial)] < self._retries:
            self._num_spared[self._name(trial)] += 1
            self._progress.note(f"{self._name(trial)} is restarted: OOM beside a larger trial")
            return True
        if starting is None or starting.trial is not trial:  # else Tune has told the searcher
            self._searcher.on_trial_complete(blamed, error=True)
        peak = {"peak_bytes": int(killed[blamed] * 2**30)} if killed[blamed] else {}
        self._end(trial, TrialState.OOM, kill.sentence, **peak)
        return True

    def close(self) -> None:
        """Close the trials that Tune stopped without an event, as at the end of the time budget.

        Those that were evaluated get a row; the others stay without one, to be resumed. So do those
        that judge: the score of a part of their training says nothing about the point.
        """
        for trial_id, trial in list(self._open.items()):
            self._searcher.on_trial_complete(trial_id, trial.last_result)
            if METRIC in (trial.last_result or {}) and not trains_again(trial):
                self._end(trial, *self._outcome(trial))

    def _living(self) -> dict[str, Any]:
        """Tune's trials without a row, by id, whether or not their processes have started."""
        trials = (*self._trials, *self._open.values())
        return {each.trial_id: each for each in trials if each.trial_id not in self._ended}

    def _pids(self) -> dict[str, int]:
        """Process ids of the trials that have shown a sign of life, by trial id."""
        signs = {
            trial_id: Sign.read(self._pulses / self._name(trial))
            for trial_id, trial in self._living().items()
        }
        return {trial_id: sign.pid for trial_id, sign in signs.items() if sign is not None}

    def _name(self, trial: Any) -> str:
        return row_name(self._searcher.number(trial.trial_id))

    def _end(self, trial: Any, state: TrialState, reason: str, **known: Any) -> None:
        """Write the row; ``known`` replaces values of the trial's last result."""
        self._open.pop(trial.trial_id, None)
        if trial.trial_id in self._ended:
            return
        self._ended.add(trial.trial_id)
        self._forget_pulse(trial)
        try:
            row = self._row(trial, {**(trial.last_result or {}), **known}, state, reason)
        except ValueError as error:  # what it reported contradicts itself
            reason = f"its report is not valid: {error}"
            kept = {"peak_bytes": (trial.last_result or {}).get("peak_bytes", 0)}
            row = self._row(trial, kept, TrialState.FAILED, reason)
        self._table.append(row)
        if self._log is not None:
            self._log.ended(row)
        self._progress.finished(row, self._table.best(self._num_rounds))

    def _row(self, trial: Any, result: Mapping[str, Any], state: TrialState, reason: str) -> Trial:
        has_score = state in (TrialState.COMPLETE, TrialState.PRUNED)
        interval = result.get("interval") if has_score else None
        return Trial(
            trial_id=self._name(trial),
            number=self._searcher.number(trial.trial_id),
            state=state,
            score=result.get(METRIC) if has_score else None,
            knobs=_searched(trial),
            config=result.get("received", {}),
            env_steps=result.get("all_env_steps", 0),
            seconds=result.get("seconds", 0.0),
            iterations=result.get("iterations", 0),
            returns=result.get("returns", {}),
            interval=None if interval is None else tuple(interval),
            curve=tuple(tuple(point) for point in result.get("curve", ())),
            reason=reason,
            round=self._round,
            seeds=tuple(result.get("seeds", ())),
            seed_scores=tuple(result.get("seed_scores", ())) if has_score else (),
            judged_at=result.get("judged_at", 0) if has_score else 0,
            peak_bytes=result.get("peak_bytes", 0),
        )

    def _outcome(self, trial: Any) -> tuple[TrialState, str]:
        """State and reason of a trial that ended without an error."""
        result: Mapping[str, Any] = trial.last_result or {}
        if result.get("out_of_memory"):
            return TrialState.OOM, result["reason"]
        if result.get("diverged"):
            return TrialState.DIVERGED, result["reason"]
        if result.get("finished"):
            return TrialState.COMPLETE, ""
        if time.monotonic() - self._started >= self._time_budget_s:
            return TrialState.PRUNED, "the time budget ended"
        return TrialState.PRUNED, "stopped by the scheduler"

    def _loss(self, trial: Any) -> tuple[TrialState, str]:
        """State and reason of a trial that failed."""
        if (silence := self._hung.pop(trial.trial_id, None)) is not None:
            return TrialState.HUNG, silence
        failure = _last_failure(trial.error_file)
        if (kill := MonitorKill.read(failure)) is not None:
            return TrialState.OOM, kill.sentence
        words = _last_line(failure)
        kills, self._memory_kills = self._memory_kills, num_memory_kills()
        if self._memory_kills > kills:
            return TrialState.OOM, f"the kernel killed a process because memory ran out; {words}"
        return TrialState.FAILED, words

    def _look_at_the_disk(self) -> None:
        """Warn once that the disk is full: a trial that waits for room cannot tell the user."""
        is_full = free_room(self._pulses) < ENOUGH_ROOM
        if is_full and not self._is_full:
            self._progress.note(no_room(self._pulses.parent.parent, PATIENCE_S))
        self._is_full = is_full

    def _look_after(self, trial: Any) -> None:
        """Kill a trial that has been silent for too long."""
        name = self._name(trial)
        sign = Sign.read(self._pulses / name)
        if sign is None and trial.status != tune.experiment.Trial.RUNNING:
            return  # it waits for its turn, or for a new process
        is_heard = self._watch.hear(name, 0 if sign is None else sign.beats)
        if is_heard or self._cpu_seconds[name] is None:  # a process may hang before its first beat
            self._cpu_seconds[name] = None if sign is None else sign.cpu_seconds()
        silence = self._watch.silence(name)
        if silence is None:
            return
        self._hung[trial.trial_id] = f"no sign of life for {silence:.0f} s" + _doing(
            sign, self._cpu_seconds[name], silence
        )
        self._num_hangs[trial.trial_id] += 1
        if self._num_hangs[trial.trial_id] > min(_RETRIES_OF_A_HANG, self._retries):
            trial.max_failures = trial.run_metadata.num_failures  # the next failure is the last one
        self._forget_pulse(trial)
        _kill(trial, sign)

    def _forget_pulse(self, trial: Any) -> None:
        name = self._name(trial)
        self._watch.forget(name)
        (self._pulses / name).unlink(missing_ok=True)


def _searched(trial: Any) -> dict[str, Any]:
    """The searched knobs of one of Tune's trials; a seed of its own is not one of them."""
    return {knob: value for knob, value in trial.config.items() if knob != "seed"}


def _last_failure(error_file: str | None) -> str:
    """Tune's text about the last failure of a trial; empty if there is none."""
    return _FAILURE.split(Path(error_file).read_text())[-1] if error_file else ""


def _last_line(failure: str) -> str:
    """The last line of a traceback, which says what went wrong."""
    lines = failure.strip().splitlines()
    return lines[-1] if lines else "the worker died"


def _monitors(error: BaseException) -> MonitorKill | None:
    """The kill of Ray's memory monitor from which an error of Tune's comes."""
    is_monitor = isinstance(error.__cause__, OutOfMemoryError)
    return MonitorKill.read(str(error.__cause__)) if is_monitor else None


def _doing(sign: Sign | None, before: float | None, silence: float) -> str:
    """A clause on whether a silent process computes or sleeps; empty if unknown."""
    now = None if sign is None else sign.cpu_seconds()
    if now is None or before is None:
        return ""
    return ", though it computes" if now - before > _BUSY * silence else ", it sleeps"


def _kill(trial: Any, sign: Sign | None) -> None:
    """Kill the process of a trial, whatever it is doing."""
    if (actor := trial.temporary_state.ray_actor) is not None:
        ray.kill(actor)
    elif sign is not None and sign.host == socket.gethostname():  # it is still ending
        with suppress(ProcessLookupError):
            os.kill(sign.pid, signal.SIGKILL)
