"""One sweep that is asked to end: by a signal, a closed terminal, or a closed pipe."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from experiments.faults.kills import finish, make
from experiments.faults.processes import DriverProcess
from tuning.plan import SweepPlan

IMPORTS, RAY, TRIAL, CONCLUSION = "imports", "Ray starts", "a trial trains", "conclusion"
MOMENTS = (IMPORTS, RAY, TRIAL, CONCLUSION)
TERMINAL, READER = "terminal closed", "reader gone"

_IMPORTS_S = 0.3
_LONGEST_S = 300.0
_MADE_LAST = ("best", "report.html", "trials.csv")


@dataclass(frozen=True)
class Asked:
    """A request to end, and its moment.

    Attributes:
        what: Name of a signal, ``TERMINAL`` or ``READER``.
        moment: One of ``MOMENTS``; for ``READER``, the first line of output.
        again_s: Delay after which the signal is repeated; 0 for never [s].
    """

    what: str
    moment: str
    again_s: float = 0.0


@dataclass(frozen=True)
class Ended:
    """How the sweep ended.

    Attributes:
        code: Exit code, as a shell reports it.
        seconds: Time from the request, or for ``READER`` from the start, to the driver's end [s].
        gone_s: Time that the processes it started outlived it [s].
        left: Names of the processes that had to be killed.
        says_how: Whether its last line of output was the command to resume it.
        traceback: Whether a traceback was printed.
        num_parts: Files left half written.
        load: Load of the machine, mean of a minute.
    """

    code: int
    seconds: float
    gone_s: float
    left: str
    says_how: bool
    traceback: bool
    num_parts: int
    load: float


def asked_to_end(asked: Asked, plan: SweepPlan, finished: Path, folder: Path) -> Ended:
    """Ask a sweep to end, and observe how it does.

    Args:
        asked: Request to make.
        plan: Plan of the sweep.
        finished: Folder of a finished sweep of this plan.
        folder: New folder for the sweep.
    """
    if asked.moment == CONCLUSION:
        shutil.copytree(finished, folder)
        for name in _MADE_LAST:
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / name).unlink(missing_ok=True)
    else:
        make(plan, folder)
    log = folder.parent / f"{folder.name}.log"
    log.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tuning.sweep", "--task", plan.task, "--resume"]
    command += ["--storage", str(folder.parent), "--name", folder.name, "--time-budget-s", "3600"]
    with ExitStack() as held:
        master = _in_terminal(command, held) if asked.what == TERMINAL else None
        if asked.what == READER:
            command[:0] = ["bash", "-o", "pipefail", "-c", '"$@" | head -1', "bash"]
        driver = held.enter_context(_driver(command, log))
        began = time.monotonic()
        if asked.what == READER:
            finish(driver)
        elif master is None:
            _wait(asked, driver, folder)
            began = time.monotonic()
            _signal(asked, driver)
        else:
            _wait(asked, driver, folder, meanwhile=partial(_read, master, log))
            began = time.monotonic()
            os.close(master)
        seconds = _ended(driver, began)
        left, gone = driver.wait_until_gone()
    said, code = log.read_text(errors="replace"), driver.code() or 0
    return Ended(
        128 - code if code < 0 else code,
        round(seconds, 2),
        round(gone, 2),
        ", ".join(left),
        bool(said) and said.splitlines()[-1].rstrip().endswith("--resume"),
        "Traceback" in said,
        len(list(folder.rglob("*.part"))),
        round(os.getloadavg()[0], 1),
    )


@contextmanager
def _driver(command: list[str], log: Path) -> Iterator[DriverProcess]:
    """A driver that is killed if the block raises."""
    driver = DriverProcess(command, log)
    try:
        yield driver
    except BaseException:
        driver.end(signal.SIGKILL)
        driver.wait_until_gone()
        raise


def _in_terminal(command: list[str], held: ExitStack) -> int:
    """Make a command run in its own terminal; return the terminal end to close."""
    master, slave = os.openpty()
    os.set_blocking(master, False)
    # A session leader that opens a terminal is controlled by it.
    command[:0] = ["sh", "-c", 'exec "$@" <>"$0" >&0 2>&0', os.ttyname(slave)]
    held.callback(os.close, slave)
    return master


def _read(master: int, log: Path) -> None:
    """Copy the terminal's output to the log, since its buffer is small."""
    with suppress(BlockingIOError, OSError), log.open("ab") as file:
        file.write(os.read(master, 65536))


def _signal(asked: Asked, driver: DriverProcess) -> None:
    """Send the signal, and repeat it if asked."""
    number, began = signal.Signals[asked.what], time.monotonic()
    _send(driver, number)
    while asked.again_s and driver.code() is None:
        if time.monotonic() - began >= asked.again_s:
            _send(driver, number)
            break
        time.sleep(0.01)


def _send(driver: DriverProcess, number: signal.Signals) -> None:
    """Send SIGINT to the process group, as Ctrl-C does, other signals to the driver alone."""
    driver.look()
    with suppress(ProcessLookupError):
        (os.killpg if number is signal.SIGINT else os.kill)(driver.pid, number)


def _ended(driver: DriverProcess, began: float) -> float:
    while driver.code() is None and time.monotonic() - began < _LONGEST_S:
        driver.look()
        time.sleep(0.05)
    seconds = time.monotonic() - began
    if driver.code() is None:
        driver.end(signal.SIGKILL)
    return seconds


def _wait(
    asked: Asked,
    driver: DriverProcess,
    folder: Path,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Wait for the moment of the request.

    Raises:
        TimeoutError: If the moment does not come.
    """
    began = time.monotonic()
    while not _has_come(asked.moment, driver, folder, time.monotonic() - began):
        meanwhile()
        if driver.code() is not None or time.monotonic() - began > _LONGEST_S:
            raise TimeoutError(f"the moment of {asked} did not come")
        time.sleep(0.02)


def _has_come(moment: str, driver: DriverProcess, folder: Path, seconds: float) -> bool:
    if moment == IMPORTS:
        return seconds >= _IMPORTS_S
    driver.look()
    if moment == RAY:
        return "gcs_server" in driver.left().values()
    if moment == TRIAL:
        return any((folder / "tune" / "pulses").glob("t*"))
    return (folder / "trials.csv").exists()
