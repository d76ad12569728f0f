"""One part of the GPU script, in its own process, which prints each row as it comes.

``gpu`` starts ``python -m experiments.benchmarks.gpu_part``; it is not meant to be called by hand.
"""

import dataclasses
import importlib
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from experiments.benchmarks.gpu_rows import Row
from ssmrl.strict_json import json_text, json_value

PREFIX = "gpu-row "
"""Start of each output line that carries a row; other lines are ordinary output."""

MODULES = {
    "check": "experiments.benchmarks.gpu_check",
    "updates": "experiments.benchmarks.gpu_updates",
    "ant-vel": "experiments.benchmarks.gpu_learning",
    "halfcheetah-vel": "experiments.benchmarks.gpu_learning",
    "shares": "experiments.benchmarks.gpu_shares",
    "promp": "experiments.benchmarks.gpu_promp",
    "ant-vel-halves": "experiments.benchmarks.gpu_learning",
    "ant-vel-tf32": "experiments.benchmarks.gpu_learning",
    "ant-vel-bfloat16": "experiments.benchmarks.gpu_learning",
}
"""Module of each part, in order of importance; each has ``measure(job, tell)``."""


@dataclass(frozen=True)
class Job:
    """The job of one part.

    Attributes:
        part: One of ``MODULES``.
        device: Name of an available device.
        quick: Whether only to check that everything works; the numbers are then worthless.
        share: Time share of the part, from ``started`` [s].
        started: Start of its process [s since the epoch].
    """

    part: str
    device: str
    quick: bool
    share: float
    started: float

    @property
    def has_goals(self) -> bool:
        """Whether the goals apply: they are for a GPU and full sizes."""
        return not self.quick and torch.device(self.device).type == "cuda"

    @property
    def elapsed(self) -> float:
        """Time since the process was started [s]."""
        return time.time() - self.started

    @property
    def left(self) -> float:
        """Time left of its share [s]; negative once that is spent."""
        return self.share - self.elapsed

    def to_json(self) -> str:
        """The job as one line of JSON."""
        return json_text(dataclasses.asdict(self))


Tell = Callable[[Row], None]


def run(job: Job, tell: Tell) -> None:
    """Measure a part; an error becomes a row, and its traceback goes to stderr.

    Args:
        job: Part to measure, and its size.
        tell: Receives each row as soon as it is measured.
    """
    torch.set_num_threads(1)  # the CPU has little to do beside the device
    device = torch.device(job.device)
    tell(Row(job.part, "device", note=device_name(device)))
    try:
        module: Any = importlib.import_module(MODULES[job.part])
        module.measure(job, tell)
    except torch.OutOfMemoryError as error:
        traceback.print_exc()
        what = "the device's memory was not enough; lower `meta.batch_size` or give it more room"
        tell(Row(job.part, what, trouble="failed", note=str(error).partition("\n")[0]))
    except Exception as error:
        traceback.print_exc()
        note = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        tell(Row(job.part, "ended by an error", trouble="failed", note=note))


def device_name(device: torch.device) -> str:
    """Name of the device, with the versions of the software that drives it."""
    versions = f"torch {torch.__version__}, Python {sys.version.split()[0]}"
    if device.type != "cuda":
        return f"{device.type}, {os.cpu_count()} cores, {versions}"
    about = torch.cuda.get_device_properties(device)
    return (
        f"{about.name}, {about.total_memory / 2**30:.0f} GiB, {about.multi_processor_count} "
        f"multiprocessors, {os.cpu_count()} cores, CUDA {torch.version.cuda}, {versions}"
    )


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished its work; a CPU works synchronously."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Do the job that the first argument describes."""
    job = Job(**json_value(sys.argv[1], "the job"))
    run(job, lambda row: print(f"{PREFIX}{row.to_json()}", flush=True))


if __name__ == "__main__":
    main()
