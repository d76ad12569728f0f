"""One sweep with one kill, of a trial's process or of the driver, and its outcome."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.faults.processes import DriverProcess
from ssmrl.checkpoint import Checkpoint
from ssmrl.config import TrainConfig
from ssmrl.files import replace_file
from ssmrl.run import checkpoint_path
from tuning.plan import SweepPlan
from tuning.pulse import Sign
from tuning.table.trial import Trial, TrialState, TrialTable

WORKER, DRIVER = "kill -9 a trial", "kill -9 the driver"
_TIMES = ("seconds", "peak_bytes")
_LONGEST_S = 600.0


@dataclass(frozen=True)
class Moment:
    """What is killed, and when.

    Attributes:
        what: ``WORKER`` or ``DRIVER``.
        rows: Number of rows in the table at which to kill; -1 while Ray starts.
        delay_s: Delay after that; for a trial, after it was seen alive [s].
    """

    what: str
    rows: int
    delay_s: float


@dataclass(frozen=True)
class Killed:
    """Outcome of a kill.

    Attributes:
        struck: Whether the kill was in time.
        rows_then: Rows in the table at the kill.
        num_equal: Rows equal to those of the undisturbed sweep, times and memory apart.
        num_rows: All rows.
        weights_equal: Whether the weights of all complete trials are equal, too.
        num_rerun: Finished trials that were restarted.
        acknowledged_kept: Whether the rows at the kill are still there, byte for byte.
        gone_s: Time that the processes the driver started outlived it [s].
        left: Names of the processes that had to be killed.
        code: Exit code of the last driver.
    """

    struck: bool
    rows_then: int
    num_equal: int
    num_rows: int
    weights_equal: bool
    num_rerun: int
    acknowledged_kept: bool
    gone_s: float
    left: str
    code: int


def make(plan: SweepPlan, folder: Path) -> None:
    """Write the plan of a new sweep; unlike a real start, this does not measure the machine."""
    folder.mkdir(parents=True)
    replace_file(folder / "config.json", plan.begun().to_json())


def start(plan: SweepPlan, folder: Path) -> DriverProcess:
    """Start a sweep, or resume it."""
    command = [sys.executable, "-m", "tuning.sweep", "--task", plan.task, "--resume"]
    command += ["--storage", str(folder.parent), "--name", folder.name]
    command += ["--max-concurrent", str(plan.max_concurrent), "--time-budget-s", "3600"]
    return DriverProcess(command, folder.parent / f"{folder.name}.log")


def finish(driver: DriverProcess) -> tuple[int, list[str], float]:
    """Wait for the end; return exit code, killed processes, and time until the others ended [s].

    Raises:
        TimeoutError: If the sweep does not end.
    """
    began = time.monotonic()
    while (code := driver.code()) is None:
        driver.look()
        if time.monotonic() - began > _LONGEST_S:
            driver.end(signal.SIGKILL)
            driver.wait_until_gone()
            raise TimeoutError(f"a short sweep took more than {_LONGEST_S:.0f} s")
        time.sleep(0.2)
    return code, *driver.wait_until_gone()


def ended_sweep(plan: SweepPlan, folder: Path) -> Path:
    """Run a sweep to its end, unless its folder holds it already; return the folder."""
    if not (folder / "report.html").exists():
        shutil.rmtree(folder, ignore_errors=True)
        make(plan, folder)
        finish(start(plan, folder))
    return folder


def killed(plan: SweepPlan, undisturbed: Path, folder: Path, moment: Moment) -> Killed:
    """Run a sweep with a kill, and compare it with an undisturbed one.

    Args:
        plan: Plan of both sweeps.
        undisturbed: Folder of the undisturbed sweep, which has ended.
        folder: New folder for the sweep.
        moment: Moment of the kill.
    """
    make(plan, folder)
    driver = start(plan, folder)
    try:
        struck = _wait(driver, folder, moment)
        then = _complete_lines(folder)
        log = folder.parent / f"{folder.name}.log"
        said = log.stat().st_size
        gone, left = 0.0, list[str]()
        if moment.what == DRIVER and struck:
            driver.end(signal.SIGKILL)
            then = _complete_lines(folder)
            left, gone = driver.wait_until_gone()
            said = log.stat().st_size
            driver = start(plan, folder)
        code, left_at_end, _ = finish(driver)
    finally:
        if driver.code() is None:
            driver.end(signal.SIGKILL)
            driver.wait_until_gone()
    rows, others = _by_number(folder), _by_number(undisturbed)
    finished = {Trial.from_json(line).trial_id for line in then.decode().splitlines()}
    later = log.read_bytes()[said:].decode(errors="replace").splitlines()
    rerun = {line.split()[0] for line in later if " started: " in line} & finished
    return Killed(
        struck,
        len(finished),
        sum(_timeless(one) == _timeless(other) for one, other in zip(rows, others, strict=False)),
        len(rows),
        _weights_equal(folder, undisturbed, rows, others),
        len(rerun),
        (folder / "trials.jsonl").read_bytes().startswith(then),
        round(gone, 2),
        ", ".join([*left, *left_at_end]),
        code,
    )


def _wait(driver: DriverProcess, folder: Path, moment: Moment) -> bool:
    """Wait for the moment, and kill the trial if one is meant; return whether it came."""
    began, due, looked = time.monotonic(), None, 0.0
    while driver.code() is None:
        now = time.monotonic()
        if now - looked > 0.3:
            driver.look()
            looked = now
        if due is None and _complete_lines(folder).count(b"\n") >= moment.rows:
            signs = [Sign.read(path) for path in (folder / "tune" / "pulses").glob("t*")]
            alive = [sign for sign in signs if sign is not None]
            if moment.rows < 0:
                due = began + moment.delay_s
            elif alive or moment.what == DRIVER:
                due = now + moment.delay_s
        if due is not None and now >= due:
            if moment.what == DRIVER:
                return True
            signs = [Sign.read(path) for path in (folder / "tune" / "pulses").glob("t*")]
            for sign in signs:
                if sign is not None and driver.has_started(sign.pid):
                    with suppress(ProcessLookupError):
                        os.kill(sign.pid, signal.SIGKILL)
                        return True
        time.sleep(0.01)
    return False


def _complete_lines(folder: Path) -> bytes:
    path = folder / "trials.jsonl"
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1]


def _by_number(folder: Path) -> list[Trial]:
    """The rows of a sweep by number: concurrent trials end in any order."""
    return sorted(TrialTable(folder / "trials.jsonl").rows, key=lambda row: row.number)


def _timeless(row: Trial) -> dict[str, Any]:
    return {name: value for name, value in asdict(row).items() if name not in _TIMES}


def _weights_equal(
    folder: Path, other: Path, rows: Sequence[Trial], others: Sequence[Trial]
) -> bool:
    complete = [row for row in rows if row.state is TrialState.COMPLETE]
    if len(complete) != sum(row.state is TrialState.COMPLETE for row in others):
        return False
    return all(_same_weights(folder, other, row) for row in complete)


def _same_weights(folder: Path, other: Path, row: Trial) -> bool:
    config = TrainConfig.of_knobs(row.config)
    paths = [checkpoint_path(each / "checkpoints", config) for each in (folder, other)]
    if not all(path.exists() for path in paths):
        return False
    own, theirs = (Checkpoint.load(path).tensors for path in paths)
    return own.keys() == theirs.keys() and all(torch.equal(own[k], theirs[k]) for k in own)
