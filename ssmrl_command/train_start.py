"""``ssmrl train`` before it begins: what it will do and take, checked while nothing is written."""

import shlex
from dataclasses import dataclass
from pathlib import Path

import torch

from ssmrl.device import CPU
from ssmrl.device_memory import device_memory, free_bytes
from ssmrl.device_record import checked_device_of, gpu_name
from ssmrl.meta.algorithms import get_algorithm
from ssmrl.run import LocalEngine, TrainingRun
from ssmrl.stacked_runs import StackedRuns
from ssmrl_command.available_memory import available_memory
from ssmrl_command.train_plan import PLAN, TrainPlan, Wishes
from tuning.folder.run_folder import default_name, run_folder

_CHECKPOINTS = "checkpoints"  # the folder of a run's state, in that of the run
_MIB = 2**20


@dataclass(frozen=True)
class Start:
    """A run that can begin, or several at once, with what it will take.

    Attributes:
        run: What is trained.
        plan: Its plan.
        folder: Where it leaves what it leaves.
        device: Where networks learn.
        experience_bytes: What kept experience takes there [bytes].
        going_on: The command that goes on with it.
    """

    run: TrainingRun | StackedRuns
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
        log: str | None = None,
    ) -> "Start":
        """What a command line asks for.

        Args:
            wishes: What it asks for.
            storage: Folder of all runs.
            name: Of the run; by default task, algorithm and time.
            resume: Whether to go on with the run of that name.
            num_threads: Of physics and learning.
            device: Where networks learn; None is where the run to go on with did, else the CPU.
            log: Who else is told; the command that goes on tells them too.

        Raises:
            DeviceMemoryError: If the device has no room for it.
            KeyError: If a name is unknown.
            TypeError: If a value has another type.
            ValueError: If anything else cannot be; the message names it.
        """
        if resume and name is None:
            raise ValueError("`--resume` needs `--name`: which run shall go on?")
        plan = None if resume else TrainPlan.of(wishes)
        label = name or default_name(str(wishes.task), _algorithm(plan))
        folder = run_folder(storage, label)
        if plan is None:
            plan = _kept(folder).resumed(wishes)
        elif folder.exists() and any(folder.iterdir()):
            raise ValueError(f"{folder} is not empty; add --resume, or take another --name")
        where = checked_device_of(device, folder, resume=resume)
        needed = _checked_experience(plan, where)
        run = _run(plan, folder, num_threads, where)
        going_on = ["ssmrl", "train", "--storage", str(folder.parent), "--name", label, "--resume"]
        going_on += ["--num-threads", str(num_threads)] if num_threads > 1 else []
        going_on += ["--device", str(where)] if where != CPU else []
        going_on += ["--log", log] if log is not None else []
        return cls(run, plan, folder, where, needed, shlex.join(going_on))

    @property
    def plans(self) -> dict[Path, TrainPlan]:
        """The plan of each folder: of the run's, and of that of each seed where there are some."""
        return {self.folder: self.plan} | _plans_of_seeds(self.plan, self.folder)

    def announcement(self) -> list[str]:
        """Lines to begin with."""
        plan, config = self.plan, self.plan.config
        budget = (
            f"{plan.max_env_steps:,} env steps"
            if plan.max_env_steps is not None
            else f"{plan.max_cpu_seconds:g} CPU seconds of training"
        )
        who = f"seed {config.seed}"
        if plan.num_seeds > 1:
            who = f"seeds {config.seed} to {config.seed + plan.num_seeds - 1} at once, each"
        lines = [
            f"{config.env.task}, {config.algorithm}, {config.policy.method}, {who}: "
            f"{budget}, {plan.num_evaluations} evaluations, in {self.folder}"
        ]
        if self.experience_bytes:
            what = "the replay takes" if plan.num_seeds == 1 else "the replays take"
            lines.append(f"{what} up to {self.experience_bytes / _MIB:,.1f} MiB of memory")
        if self.device != CPU:
            lines.append(f"networks learn on {self.device}, {gpu_name(str(self.device))}")
        if config.policy.method == "mlp" and get_algorithm(config.algorithm).kind == "memory":
            lines.append("mlp sees one transition and remembers none: this run is the control")
        rows = self.run.rows if isinstance(self.run, StackedRuns) else [self.run.row]
        if any(row.iterations for row in rows):
            lines.append(f"going on after {min(row.env_steps for row in rows):,} env steps")
        return lines


def _run(
    plan: TrainPlan, folder: Path, num_threads: int, device: torch.device
) -> TrainingRun | StackedRuns:
    if plan.num_seeds == 1:
        return TrainingRun(
            plan.config,
            max_env_steps=plan.max_env_steps,
            max_cpu_seconds=plan.max_cpu_seconds,
            folder=folder / _CHECKPOINTS,
            engine=LocalEngine(plan.config, num_threads, device=device),
            num_evaluations=plan.num_evaluations,
        )
    assert plan.max_env_steps is not None, "the plan of several seeds refuses another budget"
    of_seeds = _plans_of_seeds(plan, folder)
    return StackedRuns(
        [own.config for own in of_seeds.values()],
        max_env_steps=plan.max_env_steps,
        folders=[of_own / _CHECKPOINTS for of_own in of_seeds],
        num_threads=num_threads,
        num_evaluations=plan.num_evaluations,
        device=device,
    )


def _plans_of_seeds(plan: TrainPlan, folder: Path) -> dict[Path, TrainPlan]:
    """By folder the plan of each of several seeds; none of a single one."""
    if plan.num_seeds == 1:
        return {}
    return {folder / f"seed-{own.config.seed}": own for own in plan.of_seeds()}


def _algorithm(plan: TrainPlan | None) -> str:
    return "" if plan is None else plan.config.algorithm


def _kept(folder: Path) -> TrainPlan:
    path = folder / PLAN
    if not path.is_file():
        raise ValueError(f"there is no run to go on with in {folder}: it has no {PLAN}")
    return TrainPlan.from_json(path.read_text(), str(path))


def _checked_experience(plan: TrainPlan, device: torch.device) -> int:
    """What kept experience of all seeds takes where networks learn [bytes], if it is there."""
    config = plan.config
    needed = plan.num_seeds * get_algorithm(config.algorithm).experience_bytes(config)
    with device_memory(config):
        available = available_memory() if device == CPU else free_bytes(device)
    if available is not None and needed > available:
        kept = plan.num_seeds * config.meta.replay_env_steps
        raise ValueError(
            f"the replay must fit the memory, but takes {kept:,} env steps x {needed / kept:,.0f} "
            f"bytes = {needed / _MIB:,.0f} MiB, and {available / _MIB:,.0f} MiB are available; "
            "lower `meta.replay_env_steps`" + (" or --num-seeds" if plan.num_seeds > 1 else "")
        )
    return needed
