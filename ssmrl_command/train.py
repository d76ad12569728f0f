"""``ssmrl train``: trains one run in this process, from its plan to its result folder."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch

from ssmrl.device_memory import DeviceMemoryError
from ssmrl.device_record import record_device
from ssmrl.files import replace_file
from ssmrl.run import TrainingRun
from ssmrl.stacked_runs import StackedRuns
from ssmrl.train_log import LogKind, TrainLog, checked_log, open_log
from ssmrl_command.stop_request import StopRequest
from ssmrl_command.train_plan import PLAN, Wishes
from ssmrl_command.train_progress import TrainProgress
from ssmrl_command.train_results import Outcome, conclusion, leave, summary_of
from ssmrl_command.train_seeds import train_seeds
from ssmrl_command.train_start import START_FILE, Start
from tuning.folder.interruption import BusyError, FolderError, exclusive

Say = Callable[[str], None]


class RefusedError(ValueError):
    """The requested training is not possible; the message says why."""


def train(
    wishes: Wishes,
    storage: Path,
    name: str | None,
    *,
    resume: bool,
    num_threads: int,
    device: str | None,
    log: str | None = None,
    say: Say,
) -> Outcome:
    """Train as a command line requests.

    Args:
        wishes: Options of the command line.
        storage: Folder of all runs.
        name: Name of the run; by default task, algorithm and time.
        resume: Whether to resume the run of that name.
        num_threads: Threads of physics and learning.
        device: Training device; None means the device of the resumed run, else the CPU.
        log: Kind of additional log of iterations and evaluations; None for no log.
        say: Prints a line.

    Raises:
        RefusedError: If the training is not possible; nothing was started.
    """
    torch.set_num_threads(num_threads)
    try:
        kind = None if log is None else checked_log(log)
        start = Start.of(
            wishes,
            storage,
            name,
            resume=resume,
            num_threads=num_threads,
            device=device,
            log=log,
        )
        for folder in start.plans:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RefusedError(str(error)) from error
    except (DeviceMemoryError, ImportError, KeyError, TypeError, ValueError) as error:
        raise RefusedError(str(error.args[0])) from error
    try:
        with ExitStack() as held:
            for folder in start.plans:
                held.enter_context(exclusive(folder))
            return _carried_out(start, kind, held, say)
    except BusyError as error:
        raise RefusedError(f"another process is working on the run in {start.folder}") from error
    except FolderError as error:
        raise RefusedError(str(error)) from error


def _carried_out(start: Start, log: LogKind | None, held: ExitStack, say: Say) -> Outcome:
    if start.begun_with is not None:  # before the plan, which refers to it
        replace_file(start.folder / START_FILE, start.begun_with.content)
    for folder, plan in start.plans.items():
        replace_file(folder / PLAN, plan.to_json())
        record_device(folder, str(start.device))
    for line in start.announcement():
        say(line)
    logs = [] if log is None else _logs(start, log, held)
    stop = held.enter_context(StopRequest())
    try:
        if isinstance(start.run, StackedRuns):
            return train_seeds(start, start.run, stop, logs, say)
        return _train_seed(start, start.run, stop, logs, say)
    except DeviceMemoryError as error:
        start.run.abandon()
        say(f"{error}; the last checkpoint is in {start.folder}. Resume on another device with")
        say(f"  {start.going_on} --device cpu")
        return Outcome(1, None)


def _logs(start: Start, kind: LogKind, held: ExitStack) -> list[TrainLog]:
    """One log for each seed, in the seed's folder."""
    rows = start.run.rows if isinstance(start.run, StackedRuns) else [start.run.row]
    own = [(folder, plan) for folder, plan in start.plans.items() if plan.num_seeds == 1]
    return [
        held.enter_context(open_log(kind, folder, plan.config.knobs(), row))
        for (folder, plan), row in zip(own, rows, strict=True)
    ]


def _train_seed(
    start: Start, run: TrainingRun, stop: StopRequest, logs: list[TrainLog], say: Say
) -> Outcome:
    config = start.plan.config
    progress = TrainProgress(start.plan, run.row, say)
    while True:
        num_judged = len(run.row.curve)
        row = run.advance()
        progress.show(row)
        for log in logs:
            log.take(row)
        if len(row.curve) > num_judged:
            leave(run, start.folder)
        if row.finished or row.diverged or stop.exit_code:
            break
    if row.diverged:
        say(f"DIVERGED: {row.reason}")
    elif not row.finished:
        run.close()
        say(f"stopped; the last checkpoint is in {start.folder}. Resume with:\n  {start.going_on}")
        return Outcome(stop.exit_code, None)
    else:
        run.close()
        leave(run, start.folder)
    summary = summary_of(row, config, start.folder, start.device, start.experience_bytes)
    if row.score is not None:
        for line in conclusion(summary, row, config):
            say(line)
    return Outcome(1 if row.diverged else 0, summary)
