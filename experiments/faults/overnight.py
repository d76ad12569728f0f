"""Run a sweep under a list of faults, from its first start to its end; ``verdicts`` judges it."""

import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from experiments.faults.clock import VARIABLE
from experiments.faults.damage import damage, tear
from experiments.faults.driver import IMPATIENT
from experiments.faults.fault_list import (
    DAMAGES,
    KILLED,
    SLEEPS,
    SPINS,
    FaultList,
    Stop,
    TrialFault,
)
from experiments.faults.injection import LIST
from experiments.faults.processes import DriverProcess
from ssmrl.config import TrainConfig
from ssmrl.run import checkpoint_path
from ssmrl.strict_json import json_object, json_text
from tuning.pulse import Sign
from tuning.table.durable import append_line, recover_lines
from tuning.table.trial import Trial, TrialState

NAME = "night"
"""Name of the sweep in the storage folder."""

_SHORTEST_S = 60.0  # least time budget of a start
_CLOCK_BACK_AFTER_S = 20.0  # in the middle of its trials
_SECONDS_BETWEEN_LOOKS = 0.05


class Overnight:
    """A sweep into which faults are injected.

    Each fault is recorded before the sweep continues: this run can itself be stopped and resumed.

    Args:
        faults: Faults to inject.
        storage: Folder of the sweep and of the records.
        flags: Flags of the sweep, without its folder and time budget.
        seconds: Time budget of the sweep [s].
        say: Prints a line.

    Attributes:
        folder: Folder of the sweep.
        events: Records of what was done, in order.
    """

    def __init__(
        self,
        faults: FaultList,
        storage: Path,
        flags: Sequence[str],
        *,
        seconds: float,
        say: Callable[[str], None],
    ) -> None:
        self._seconds = seconds
        self._faults, self._storage, self._flags, self._say = faults, storage, flags, say
        self.folder = storage / NAME
        self._rows = self.folder / "trials.jsonl"
        storage.mkdir(parents=True, exist_ok=True)
        faults.write(storage / LIST)
        lines = recover_lines(storage / "events.jsonl")
        self.events: list[dict[str, Any]] = [json_object(line, "an event") for line in lines]
        self._began = time.monotonic()
        self._counted = 0, 0  # size of the table in bytes, and its rows

    def run(self) -> None:
        """Start the sweep, inject the faults, and resume it until it ends."""
        while not self._of("end"):
            number = len(self._of("stop"))
            stops = self._faults.stops
            stop = stops[number] if number < len(stops) else None
            was = stops[number - 1] if number else None
            driver = self._start(is_clock_back=bool(was and was.is_clock_back))
            try:
                is_stopped = self._watch(driver, stop)
                if is_stopped and stop is not None:
                    self._stop(driver, stop)
                else:
                    left, seconds = driver.wait_until_gone()
                    told = {"code": driver.code(), "left": left, "gone_s": round(seconds, 2)}
                    self._tell("end", **told, rows=self._num_rows())
            finally:
                if driver.code() is None:  # this process itself was stopped
                    driver.end(signal.SIGKILL)
                    driver.wait_until_gone()

    def _start(self, *, is_clock_back: bool) -> DriverProcess:
        resumes = ["--resume"] if (self.folder / "config.json").exists() else []
        left_s = max(_SHORTEST_S, self._seconds - (time.monotonic() - self._began))
        place = ["--storage", str(self._storage), "--name", NAME]
        place += ["--time-budget-s", f"{left_s:.0f}"]
        module = "experiments.faults.driver"
        command = [sys.executable, "-m", module, *self._flags, *place, *resumes]
        environment = {VARIABLE: str(_CLOCK_BACK_AFTER_S)} if is_clock_back else {}
        if any(fault.kind in (SLEEPS, SPINS) for fault in self._faults.trials):
            environment[IMPATIENT] = "1"
        self._tell("start", resumes=bool(resumes), clock_back=is_clock_back)
        return DriverProcess(command, self._storage / "driver.log", environment)

    def _watch(self, driver: DriverProcess, stop: Stop | None) -> bool:
        """Kill trials from outside; return True once the driver must stop, False if it ended."""
        looked, due = 0.0, None
        kills = [fault for fault in self._faults.trials if fault.kind == KILLED]
        kills = [fault for fault in kills if not self._of("kill", trial=fault.trial)]
        seen: dict[int, float] = {}
        while driver.code() is None:
            now = time.monotonic()
            if now - looked > 1.0:
                driver.look()
                looked = now
            for fault in [fault for fault in kills if self._kill(driver, fault, seen)]:
                kills.remove(fault)
            if stop is not None and due is None and self._num_rows() >= stop.rows:
                due = now + stop.delay_s
            if due is not None and now >= due:
                return True
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        return False

    def _kill(self, driver: DriverProcess, fault: TrialFault, seen: dict[int, float]) -> bool:
        """Kill the process of a trial if it is due; return whether it was."""
        sign = Sign.read(self.folder / "tune" / "pulses" / f"t{fault.trial:04d}")
        if sign is None:
            return False
        began = seen.setdefault(fault.trial, time.monotonic())
        if time.monotonic() - began < fault.delay_s or not driver.has_started(sign.pid):
            return False
        self._tell("kill", trial=fault.trial)
        with suppress(ProcessLookupError):
            os.kill(sign.pid, signal.SIGKILL)
        return True

    def _stop(self, driver: DriverProcess, stop: Stop) -> None:
        """End the driver, record the rows acknowledged before, and damage the listed files."""
        acknowledged = self._acknowledged()
        code, seconds = driver.end(signal.Signals[f"SIG{stop.signal}"])
        left, gone = driver.wait_until_gone()
        number = len(self._of("stop"))
        rng = np.random.default_rng([self._faults.seed, number])
        done = [self._damage(what, rng) for what in stop.damages]
        self._tell(
            "stop",
            **asdict(stop) | {"damages": [each for each in done if each]},
            code=code,
            seconds=round(seconds, 2),
            left=left,
            gone_s=round(gone, 2),
            rows_then=acknowledged.count(b"\n"),
            acknowledged_bytes=len(acknowledged),
            acknowledged_sha256=hashlib.sha256(acknowledged).hexdigest(),
        )

    def _damage(self, what: str, rng: np.random.Generator) -> str:
        """Damage a file of the stopped sweep; return what was damaged in words, or nothing."""
        if what == "torn":
            if not self._acknowledged():
                return ""
            return f"trials.jsonl torn by {tear(self._rows, rng)} bytes"
        if what == "zeroed":
            damage(self.folder / "optuna.journal", what, rng)
            return "optuna.journal zeroed"
        assert what in DAMAGES
        rows = [Trial.from_json(line) for line in self._acknowledged().decode().splitlines()]
        complete = [row for row in rows if row.state is TrialState.COMPLETE]
        places = {
            row.trial_id: checkpoint_path(
                self.folder / "checkpoints", TrainConfig.of_knobs(row.config)
            )
            for row in complete
        }
        earlier = " ".join(word for event in self._of("stop") for word in event["damages"])
        able = sorted(
            name
            for name, path in places.items()
            if path.exists() and path.stat().st_size and name not in earlier
        )
        if not able:
            return ""
        chosen = able[int(rng.integers(len(able)))]
        damage(places[chosen], what, rng)
        return f"checkpoint of {chosen} {what}"

    def _acknowledged(self) -> bytes:
        """The complete rows of the table, as bytes."""
        content = self._rows.read_bytes() if self._rows.exists() else b""
        return content[: content.rfind(b"\n") + 1]

    def _num_rows(self) -> int:
        size = self._rows.stat().st_size if self._rows.exists() else 0
        if size != self._counted[0]:
            self._counted = size, self._acknowledged().count(b"\n")
        return self._counted[1]

    def _of(self, what: str, **known: Any) -> list[dict[str, Any]]:
        wanted = {"what": what, **known}.items()
        return [event for event in self.events if wanted <= event.items()]

    def _tell(self, what: str, **more: Any) -> None:
        event = {"what": what, **more}
        append_line(self._storage / "events.jsonl", json_text(event))
        self.events.append(event)
        words = ", ".join(
            f"{name} {value}" for name, value in more.items() if value not in ("", [])
        )
        elapsed = time.monotonic() - self._began
        total = self._faults.num_trials
        self._say(f"{elapsed:7.0f} s  {self._num_rows():4d}/{total} rows  {what}: {words}")
