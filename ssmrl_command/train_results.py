"""Results of a training run: its curve and policy files, final lines, and JSON summary."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssmrl.config import TrainConfig
from ssmrl.envs.families import get_family
from ssmrl.files import replace_file
from ssmrl.meta.algorithms import get_algorithm
from ssmrl.rollout.assignment import held_out_assignment
from ssmrl.run import Row, TrainingRun
from ssmrl.saved_policy import POLICY_FILE

CURVE = "curve.csv"


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        exit_code: 0 at the end of the budget, 1 if training diverged or the device ran out of
            memory, 130 or 143 if stopped.
        summary: Plain data; None if the run was stopped or ran out of memory.
    """

    exit_code: int
    summary: dict[str, Any] | None


def conclusion(summary: dict[str, Any], row: Row, config: TrainConfig) -> list[str]:
    """The final lines about an evaluated run."""
    assert row.interval is not None
    by_memory = get_algorithm(config.algorithm).kind == "memory"
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


def summary_of(
    row: Row, config: TrainConfig, folder: Path, device: torch.device, experience_bytes: int
) -> dict[str, Any]:
    """The summary of a run, as plain data for JSON."""
    family = get_family(config.env.task)
    parameters = np.array([task.parameters for task in held_out_assignment(config).tasks])
    points = zip(row.curve, row.curve_cpu_seconds, strict=True)
    return {
        "task": config.env.task,
        "algorithm": config.algorithm,
        "seed": config.seed,
        "folder": str(folder),
        "device": str(device),
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
        "experience_bytes": experience_bytes,
    }


def leave(run: TrainingRun, folder: Path) -> None:
    """Write the curve up to the last evaluation, and the policy that it evaluated."""
    rows = zip(run.row.curve, run.row.curve_cpu_seconds, strict=True)
    lines = ["env_steps,cpu_seconds,return_off,return"]
    lines += [f"{steps},{seconds:.3f},{off},{used}" for (steps, off, used), seconds in rows]
    replace_file(folder / CURVE, "\n".join(lines) + "\n")
    run.policy().save(folder / POLICY_FILE)
