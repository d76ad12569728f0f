"""The start of ``ssmrl train``: checks plan and memory before anything is written."""

import shlex
from dataclasses import dataclass
from pathlib import Path

import torch

from ssmrl.checkpoint import CheckpointError
from ssmrl.device import CPU
from ssmrl.device_memory import device_memory, free_bytes
from ssmrl.device_record import checked_device_of, gpu_name
from ssmrl.meta.algorithms import get_algorithm
from ssmrl.run import LocalEngine, TrainingRun
from ssmrl.saved_start import SavedStart
from ssmrl.stacked_runs import StackedRuns
from ssmrl_command.available_memory import available_memory
from ssmrl_command.train_plan import PLAN, TrainPlan, Wishes
from tuning.folder.run_folder import default_name, run_folder

START_FILE = "start.safetensors"
"""File name of a run's copy of the checkpoint that it started with, if any, in its folder."""

_CHECKPOINTS = "checkpoints"  # folder of the checkpoints, in the folder of the run
_MIB = 2**20


@dataclass(frozen=True)
class Start:
    """One run, or several at once, ready to start.

    Attributes:
        run: Run or runs to train.
        plan: Plan of the run.
        folder: Folder of the results.
        device: Training device of the networks.
        experience_bytes: Size of the full replay buffers on the device [bytes].
        going_on: Command that resumes the run.
        begun_with: Checkpoint with the initial networks; None for networks initialised by the seed.
    """

    run: TrainingRun | StackedRuns
    plan: TrainPlan
    folder: Path
    device: torch.device
    experience_bytes: int
    going_on: str
    begun_with: SavedStart | None = None

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
        """The start that a command line requests.

        Args:
            wishes: Options of the command line.
            storage: Folder of all runs.
            name: Name of the run; by default task, algorithm and time.
            resume: Whether to resume the run of that name.
            num_threads: Threads of physics and learning.
            device: Training device; None means the device of the resumed run, else the CPU.
            log: Kind of additional log, which the resuming command repeats.

        Raises:
            DeviceMemoryError: If the device has too little memory.
            KeyError: If a name is unknown.
            OSError: If the checkpoint to start with is missing or cannot be read.
            TypeError: If a value has the wrong type.
            ValueError: If another option is invalid; the message names it.
        """
        if resume and name is None:
            raise ValueError("`--resume` needs `--name`: name the run to resume")
        begun_with = None
        if resume:
            label = str(name)
            folder = run_folder(storage, label)
            plan = _kept(folder).resumed(wishes)
            begun_with = _kept_start(plan, folder)
        else:
            if wishes.checkpoint is not None:
                begun_with = SavedStart.load(wishes.checkpoint)
            plan = TrainPlan.of(wishes, begun_with)
            label = name or default_name(plan.config.env.task, plan.config.algorithm)
            folder = run_folder(storage, label)
        if not resume and folder.exists() and any(folder.iterdir()):
            raise ValueError(f"{folder} is not empty; add --resume, or choose another --name")
        where = checked_device_of(device, folder, resume=resume)
        needed = _checked_experience(plan, where)
        run = _run(plan, folder, num_threads, where, begun_with)
        going_on = ["ssmrl", "train", "--storage", str(folder.parent), "--name", label, "--resume"]
        going_on += ["--num-threads", str(num_threads)] if num_threads > 1 else []
        going_on += ["--device", str(where)] if where != CPU else []
        going_on += ["--log", log] if log is not None else []
        return cls(run, plan, folder, where, needed, shlex.join(going_on), begun_with)

    @property
    def plans(self) -> dict[Path, TrainPlan]:
        """Folder -> plan: of the run and, if there are several seeds, of each seed."""
        return {self.folder: self.plan} | _plans_of_seeds(self.plan, self.folder)

    def announcement(self) -> list[str]:
        """The lines to print at the start."""
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
        rows = self.run.rows if isinstance(self.run, StackedRuns) else [self.run.row]
        goes_on = any(row.iterations for row in rows)
        lines += [] if goes_on else self._origin_lines()
        if self.experience_bytes:
            what = "the replay takes" if plan.num_seeds == 1 else "the replays take"
            lines.append(f"{what} up to {self.experience_bytes / _MIB:,.1f} MiB of memory")
        if self.device != CPU:
            lines.append(f"networks learn on {self.device}, {gpu_name(str(self.device))}")
        if config.policy.method == "mlp" and get_algorithm(config.algorithm).kind == "memory":
            lines.append("mlp sees one transition and has no memory: this run is the control")
        if goes_on:
            lines.append(f"resumed after {min(row.env_steps for row in rows):,} env steps")
        return lines

    def _origin_lines(self) -> list[str]:
        """Lines about the initial networks, and which parts of them the checkpoint lacks."""
        origin, begun_with = self.plan.origin, self.begun_with
        if origin is None or begun_with is None:
            return []
        lines = [f"starts with the networks of {origin.path} (SHA-256 {origin.sha256[:12]})"]
        if not begun_with.is_whole:
            lines.append(
                "critics and optimizer start fresh: the file holds the acting networks only"
            )
        return lines


def _run(
    plan: TrainPlan,
    folder: Path,
    num_threads: int,
    device: torch.device,
    begun_with: SavedStart | None,
) -> TrainingRun | StackedRuns:
    if plan.num_seeds == 1:
        return TrainingRun(
            plan.config,
            max_env_steps=plan.max_env_steps,
            max_cpu_seconds=plan.max_cpu_seconds,
            folder=folder / _CHECKPOINTS,
            engine=LocalEngine(plan.config, num_threads, device=device),
            num_evaluations=plan.num_evaluations,
            start=begun_with,
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
    """Folder -> plan of each seed; empty if there is only one seed."""
    if plan.num_seeds == 1:
        return {}
    return {folder / f"seed-{own.config.seed}": own for own in plan.of_seeds()}


def _kept(folder: Path) -> TrainPlan:
    path = folder / PLAN
    if not path.is_file():
        raise ValueError(f"there is no run to resume in {folder}: it has no {PLAN}")
    return TrainPlan.from_json(path.read_text(), str(path))


def _kept_start(plan: TrainPlan, folder: Path) -> SavedStart | None:
    """The resumed run's initial networks, from its own copy of the checkpoint."""
    if plan.origin is None:
        return None
    path, wanted = folder / START_FILE, plan.origin.sha256
    try:
        kept = SavedStart.load(path)
    except (OSError, CheckpointError) as error:
        why = str(error)
    else:
        if kept.sha256 == wanted:
            return kept
        why = f"{path} has SHA-256 {kept.sha256}"
    raise ValueError(
        f"{path} must be the checkpoint that the run started with, but {why}; copy the version of "
        f"{plan.origin.path} with SHA-256 {wanted} there"
    )


def _checked_experience(plan: TrainPlan, device: torch.device) -> int:
    """The size of all seeds' replay buffers [bytes], checked against the device's free memory."""
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
