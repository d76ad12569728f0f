"""Rates of calls on a device, replayed from a graph if they are captured."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from experiments.benchmarks.gpu_floors import median_seconds
from experiments.benchmarks.gpu_part import Job
from experiments.benchmarks.gpu_rows import Row
from ssmrl.context.graph import NUM_REHEARSALS, Captured


def replayed_row(
    job: Job,
    what: str,
    captured: Captured | None,
    arguments: tuple[Tensor, ...],
    num_updates: int,
    *,
    goal: float | None,
    note: str,
    unit: str = "updates/s",
) -> Row:
    """Row of a captured call's rate; a failure if its graph was not replayed.

    Args:
        job: Job, for its device.
        what: Name of the row.
        captured: Captured call; None if the device captures nothing.
        arguments: Arguments of a call.
        num_updates: Updates of a call, in the unit of the rate.
        goal: Goal of the rate, or None.
        note: Circumstances of the measurement.
        unit: Unit of the rate.
    """
    if captured is None:
        why = "nothing is captured on it"
        return Row(job.part, what, trouble="not on this device", note=why)
    for _ in range(NUM_REHEARSALS + 1):
        captured(*arguments)
    if not captured.num_replays:
        return Row(job.part, what, trouble="failed", note="its graph was not replayed")
    seconds = seconds_of(partial(captured, *arguments), job)
    return Row(job.part, what, num_updates / seconds, unit, goal=goal, note=note)


def seconds_of(work: Callable[[], object], job: Job) -> float:
    """Median duration of a call, over as many as fit into a second, but 3 to 100 calls [s]."""
    device = torch.device(job.device)
    once = median_seconds(work, device, 1)
    most = 3 if job.quick else 100
    return median_seconds(work, device, max(3, min(most, int(1.0 / once))))
