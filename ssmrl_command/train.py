"""``ssmrl train``: one run in this process, from its plan to the folder that it leaves."""

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssmrl.config import TrainConfig
from ssmrl.device import CPU
from ssmrl.device_memory import DeviceMemoryError, device_memory, free_bytes
from ssmrl.device_record import checked_device_of, gpu_name, record_device
from ssmrl.envs.families import get_family
from ssmrl.files import replace_file
from ssmrl.meta.algorithms import ALGORITHMS
from ssmrl.rollout.assignment import held_out_assignment
from ssmrl.run import LocalEngine, Row, TrainingRun
from ssmrl.saved_policy import POLICY_FILE
from ssmrl_command.available_memory import available_memory
from ssmrl_command.stop_request import StopRequest
from ssmrl_command.train_plan import TrainPlan, Wishes
from ssmrl_command.train_progress import TrainProgress
from tuning.interruption import BusyError, FolderError, exclusive
from tuning.run_folder import run_folder

_PLAN = "config.json"
_CURVE = "curve.csv"
_MIB = 2**20

Say = Callable[[str], None]


class RefusedError(ValueError):
    """What was asked for cannot be done; the message says why."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        exit_code: 0 at the end of the budget, 1 where training diverged or the device had no room
            for it, 130 or 143 if stopped.
        summary: Plain data; None if it was stopped, or had no room.
    """

    exit_code: int
    summary: dict[str, Any] | None


def train(
    wishes: Wishes,
    storage: Path,
    name: str | None,
    *,
    resume: bool,
    num_threads: int,
    device: str | None,
    say: Say,
) -> Outcome:
    """Train what a command line asks for.

    Args:
        wishes: What it asks for.
        storage: Folder of all runs.
        name: Of the run; by default task, algorithm and time.
        resume: Whether to go on with the run of that name.
        num_threads: Of physics and learning.
        device: Where networks learn; None is where the run to go on with did, else the CPU.
        say: Prints a line.

    Raises:
        RefusedError: If it cannot be done; nothing was begun then.
    """
    torch.set_num_threads(num_threads)
    try:
        start = _Start.of(
            wishes,
            storage,
            name,
            resume=resume,
            num_threads=num_threads,
            device=device,
        )
        start.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RefusedError(str(error)) from error
    except (DeviceMemoryError, ImportError, KeyError, TypeError, ValueError) as error:
        raise RefusedError(str(error.args[0])) from error
    try:
        with exclusive(start.folder), StopRequest() as stop:
            replace_file(start.folder / _PLAN, start.plan.to_json())
            record_device(start.folder, str(start.device))
            return _carried_out(start, stop, say)
    except BusyError as error:
        raise RefusedError(f"another process is working on the run in {start.folder}") from error
    except FolderError as error:
        raise RefusedError(str(error)) from error


@dataclass(frozen=True)
class _Start:
    """A run that can begin, with what it will take."""

    run: TrainingRun
    plan: TrainPlan
    folder: Path
    device: torch.device
    experience_bytes: int
    going_on: str

    @classmethod
    def of(
        cls,
        wishes: Wishes,
        storage: Path,
        name: str | None,
        *,
        resume: bool,
        num_threads: int,
        device: str | None,
    ) -> "_Start":
        if resume and name is None:
            raise ValueError("`--resume` needs `--name`: which run shall go on?")
        plan = None if resume else TrainPlan.of(wishes)
        label = name or f"{wishes.task}-{_algorithm(plan)}-{time.strftime('%Y%m%d-%H%M%S')}"
        folder = run_folder(storage, label)
        if plan is None:
            plan = _kept(folder).resumed(wishes)
        elif folder.exists() and any(folder.iterdir()):
            raise ValueError(f"{folder} is not empty; add --resume, or take another --name")
        where = checked_device_of(device, folder, resume=resume)
        needed = _checked_experience(plan.config, where)
        run = TrainingRun(
            plan.config,
            max_env_steps=plan.max_env_steps,
            max_cpu_seconds=plan.max_cpu_seconds,
            folder=folder / "checkpoints",
            engine=LocalEngine(plan.config, num_threads, device=where),
            num_evaluations=plan.num_evaluations,
        )
        going_on = ["ssmrl", "train", "--storage", str(folder.parent), "--name", label, "--resume"]
        going_on += ["--num-threads", str(num_threads)] if num_threads > 1 else []
        going_on += ["--device", str(where)] if where != CPU else []
        return cls(run, plan, folder, where, needed, shlex.join(going_on))


def _carried_out(start: _Start, stop: StopRequest, say: Say) -> Outcome:
    run, config = start.run, start.plan.config
    for line in _announcement(start):
        say(line)
    progress = TrainProgress(start.plan, run.row, say)
    while True:
        num_judged = len(run.row.curve)
        try:
            row = run.advance()
        except DeviceMemoryError as error:
            run.abandon()
            say(f"{error}; {start.folder} keeps the last checkpoint, and goes on elsewhere by")
            say(f"  {start.going_on} --device cpu")
            return Outcome(1, None)
        progress.show(row)
        if len(row.curve) > num_judged:
            _leave(run, start.folder)
        if row.finished or row.diverged or stop.exit_code:
            break
    if row.diverged:
        say(f"DIVERGED: {row.reason}")
    elif not row.finished:
        run.close()
        say(f"stopped; what was learnt is kept in {start.folder}. Go on with:\n  {start.going_on}")
        return Outcome(stop.exit_code, None)
    else:
        run.close()
        _leave(run, start.folder)
    summary = _summary(row, config, start)
    if row.score is not None:
        for line in _conclusion(summary, row, config):
            say(line)
    return Outcome(1 if row.diverged else 0, summary)


def _announcement(start: _Start) -> list[str]:
    plan, config, row = start.plan, start.plan.config, start.run.row
    budget = (
        f"{plan.max_env_steps:,} env steps"
        if plan.max_env_steps is not None
        else f"{plan.max_cpu_seconds:g} CPU seconds of training"
    )
    lines = [
        f"{config.env.task}, {config.algorithm}, {config.policy.method}, seed {config.seed}: "
        f"{budget}, {plan.num_evaluations} evaluations, in {start.folder}"
    ]
    if start.experience_bytes:
        lines.append(f"the replay takes up to {start.experience_bytes / _MIB:,.1f} MiB of memory")
    if start.device != CPU:
        lines.append(f"networks learn on {start.device}, {gpu_name(str(start.device))}")
    if config.policy.method == "mlp" and ALGORITHMS[config.algorithm].kind == "memory":
        lines.append("mlp sees one transition and remembers none: this run is the control")
    if row.iterations:
        lines.append(f"going on after {row.env_steps:,} env steps")
    return lines


def _conclusion(summary: dict[str, Any], row: Row, config: TrainConfig) -> list[str]:
    assert row.interval is not None
    by_memory = ALGORITHMS[config.algorithm].kind == "memory"
    low, high = row.interval
    lines = [
        f"return {row.score:.2f} [{low:.2f}, {high:.2f}] on {config.evaluation.num_tasks} held-out "
        f"tasks after {row.env_steps:,} env steps, {row.train_cpu_seconds:.1f} CPU s of training",
        f"{'memory switched off' if by_memory else 'before adaptation'}: "
        f"{summary['switched_off']:.2f}",
    ]
    if summary["blind_return"] is not None:
        lines.append(f"best without adaptation on these tasks: {summary['blind_return']:.2f}")
    if by_memory:
        lines.append("training saw the hidden variable, which a test does not")
    return [*lines, f"  ssmrl evaluate {shlex.quote(summary['folder'])}"]


def _summary(row: Row, config: TrainConfig, start: _Start) -> dict[str, Any]:
    family = get_family(config.env.task)
    parameters = np.array([task.parameters for task in held_out_assignment(config).tasks])
    points = zip(row.curve, row.curve_cpu_seconds, strict=True)
    return {
        "task": config.env.task,
        "algorithm": config.algorithm,
        "seed": config.seed,
        "folder": str(start.folder),
        "device": str(start.device),
        "env_steps": row.env_steps,
        "train_cpu_seconds": row.train_cpu_seconds,
        "seconds": row.seconds,
        "diverged": row.diverged,
        "reason": row.reason,
        "score": row.score,
        "interval": None if row.interval is None else list(row.interval),
        "switched_off": row.curve[-1][1] if row.curve else None,
        "returns": dict(row.returns),
        "curve": [[steps, seconds, *returns] for (steps, *returns), seconds in points],
        "blind_return": family.blind_return(parameters, config.env.horizon),
        "no_adaptation_bound": family.no_adaptation_bound(config.env.horizon),
        "experience_bytes": start.experience_bytes,
    }


def _leave(run: TrainingRun, folder: Path) -> None:
    """Write what the last evaluation came to, and the policy that it judged."""
    rows = zip(run.row.curve, run.row.curve_cpu_seconds, strict=True)
    lines = ["env_steps,cpu_seconds,return_off,return"]
    lines += [f"{steps},{seconds:.3f},{off},{used}" for (steps, off, used), seconds in rows]
    replace_file(folder / _CURVE, "\n".join(lines) + "\n")
    run.policy().save(folder / POLICY_FILE)


def _algorithm(plan: TrainPlan | None) -> str:
    return "" if plan is None else plan.config.algorithm


def _kept(folder: Path) -> TrainPlan:
    path = folder / _PLAN
    if not path.is_file():
        raise ValueError(f"there is no run to go on with in {folder}: it has no {_PLAN}")
    return TrainPlan.from_json(path.read_text(), str(path))


def _checked_experience(config: TrainConfig, device: torch.device) -> int:
    """What kept experience takes where networks learn [bytes], if it is there."""
    needed = ALGORITHMS[config.algorithm].experience_bytes(config)
    with device_memory(config):
        available = available_memory() if device == CPU else free_bytes(device)
    if available is not None and needed > available:
        kept = config.meta.replay_env_steps
        raise ValueError(
            f"the replay must fit the memory, but takes {kept:,} env steps x {needed / kept:,.0f} "
            f"bytes = {needed / _MIB:,.0f} MiB, and {available / _MIB:,.0f} MiB are available; "
            "lower `meta.replay_env_steps`"
        )
    return needed
