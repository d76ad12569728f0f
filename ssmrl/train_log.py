"""``--log``: exports the metrics of a run or a trial to TensorBoard or Weights & Biases.

A log is neither the checkpoint nor the curve of a run: those are in its folder, logged or not.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssmrl.knobs import KnobValue

if TYPE_CHECKING:  # a help text need not import torch
    from ssmrl.run import Row

TENSORBOARD = "tensorboard"
"""The folder of event files, in the folder of a run."""

_MAX_WAITING = 1_000_000  # events in memory
_NOT_NUMBERS = {"iteration", "env_steps", "statistics", "seconds", "cpu_seconds"}


class LogKind(StrEnum):
    """The supported kinds of logs."""

    tensorboard = "tensorboard"
    wandb = "wandb"


_NEEDS = {
    LogKind.tensorboard: ("tensorboardX", 'pip install "ssmrl[tensorboard]"'),
    LogKind.wandb: ("wandb", "pip install wandb"),
}


def checked_log(kind: str) -> LogKind:
    """The log kind of a name, after a check that its package is installed.

    Raises:
        ImportError: If the package is missing; the message says how to install it.
        ValueError: If there is no such kind.
    """
    if kind not in list(LogKind):
        raise ValueError(f"`--log` must be one of {', '.join(LogKind)}, but got {kind!r}")
    package, command = _NEEDS[LogKind(kind)]
    if find_spec(package) is None:
        raise ImportError(f"`--log {kind}` needs {package}, which is not installed; run {command}")
    return LogKind(kind)


class TrainLog(AbstractContextManager["TrainLog"], ABC):
    """Log of each iteration and each evaluation of one run.

    Args:
        row: State of the run at its start or resumption.
    """

    def __init__(self, row: "Row") -> None:
        self._iterations, self._num_judged = row.iterations, len(row.curve)

    def take(self, row: "Row") -> None:
        """Log the results of an iteration; numbers that are not finite are left out."""
        if row.metrics is not None and row.iterations > self._iterations:
            known = asdict(row.metrics)
            numbers = {name: known[name] for name in known.keys() - _NOT_NUMBERS}
            numbers |= row.metrics.statistics
            self._write({f"train/{name}": numbers[name] for name in sorted(numbers)}, row.env_steps)
        for env_steps, without, used in row.curve[self._num_judged :]:
            judged = {"held_out/return": used, "held_out/return_without_adaptation": without}
            self._write(judged, env_steps)
        self._iterations, self._num_judged = row.iterations, len(row.curve)

    def _write(self, numbers: dict[str, float], env_steps: int) -> None:
        finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
        self.write(finite, env_steps)

    @abstractmethod
    def write(self, numbers: dict[str, float], env_steps: int) -> None:
        """Write finite numbers by name, with the env steps of training so far."""

    def ended(self, knobs: Mapping[str, KnobValue], score: float | None) -> None:
        """Write the searched knobs of an ended trial beside its score, if the log shows them."""

    @abstractmethod
    def close(self) -> None:
        """Write buffered numbers, and close the log."""

    def __exit__(self, *_: object) -> None:
        self.close()


def open_log(
    kind: LogKind, folder: Path, knobs: Mapping[str, KnobValue], row: "Row", *, trial: str = ""
) -> TrainLog:
    """Open the log of a run, or of a trial of a sweep.

    Args:
        kind: Kind of log.
        folder: Folder of the run or of the sweep.
        knobs: All settings.
        row: State of the run at its start or resumption.
        trial: Name of the trial, such as ``t0003``; empty for a run.
    """
    if kind is LogKind.tensorboard:
        return _TensorboardLog(folder / TENSORBOARD / trial, row)
    return _WandbLog(folder, knobs, row, trial)


class _TensorboardLog(TrainLog):
    """Event files in the run's folder; a resumed run adds another one."""

    def __init__(self, folder: Path, row: "Row") -> None:
        from tensorboardX import SummaryWriter

        super().__init__(row)
        # What was logged after the checkpoint is logged again; a trial logs all of it again.
        earlier = sum(path.is_file() for path in folder.iterdir()) if folder.exists() else 0
        purge_step = row.env_steps + 1 if row.iterations else 0 if earlier else None
        # On a full disk its thread dies; then a short queue would fill, and stop the training.
        self._writer: Any = SummaryWriter(
            str(folder),
            purge_step=purge_step,
            max_queue=_MAX_WAITING,
            filename_suffix=f".{earlier}",  # files are named by the second
        )

    def write(self, numbers: dict[str, float], env_steps: int) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, env_steps)

    def ended(self, knobs: Mapping[str, KnobValue], score: float | None) -> None:
        if score is not None:  # a row of the HParams tab
            self._writer.add_hparams(dict(knobs), {"score": score}, name="hparams")

    def close(self) -> None:
        self._writer.close()


class _WandbLog(TrainLog):
    """A run of Weights & Biases, with the settings of the logged-in user."""

    def __init__(
        self, folder: Path, knobs: Mapping[str, KnobValue], row: "Row", trial: str
    ) -> None:
        import wandb

        super().__init__(row)
        known = folder / (f"wandb-{trial}.id" if trial else "wandb.id")
        own: dict[str, Any] = (
            {"id": known.read_text(), "resume": "allow"} if known.is_file() else {}
        )
        if trial:  # several trials may log from one process
            own |= {"group": folder.name, "reinit": "create_new"}
        self._run: Any = wandb.init(
            project="ssmrl", name=trial or folder.name, dir=str(folder), config=dict(knobs), **own
        )
        known.write_text(str(self._run.id))

    def write(self, numbers: dict[str, float], env_steps: int) -> None:
        self._run.log(numbers | {"env_steps": env_steps})

    def ended(self, knobs: Mapping[str, KnobValue], score: float | None) -> None:
        if score is not None:  # its settings are there already
            self._run.summary["score"] = score

    def close(self) -> None:
        self._run.finish()
