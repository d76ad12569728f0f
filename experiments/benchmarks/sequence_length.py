"""How the time of a forward and backward scan grows with the length of its sequence."""

import math
import resource
import sys

import numpy as np
import torch

from experiments.benchmarks.harness import Measured, Row, Settings, interleaved_seconds
from ssmrl.config import METHODS, PolicyConfig
from ssmrl.models.actor import make_actor
from ssmrl.models.policy import SequencePolicy

BATCH_SIZE, WIDTH, OBSERVATION_DIM, ACTION_DIM = 4, 32, 17, 6
LENGTHS = (256, 512, 1024, 2048, 4096, 8192, 16_384)
MAX_SECONDS = 20.0
"""Longest predicted scan, by quadratic growth; lengths beyond it are left out [s]."""
MAX_MEMORY_MIB = 2048.0
"""Largest predicted increase of the process's peak by a scan, likewise [MiB]."""
NUM_REPEATS = 3
MAX_EXPONENT = 1.05


def measure(settings: Settings) -> Measured:
    """The slope of log time over log length, by least squares, for every sequence model."""
    lengths = LENGTHS[:3] if settings.quick else LENGTHS
    rows: list[Row] = []
    lines: dict[str, dict[int, float]] = {}
    for method in METHODS:
        config = PolicyConfig(method=method, state_dim=WIDTH, hidden_dim=WIDTH)
        generator = torch.Generator().manual_seed(0)
        policy = make_actor(config, OBSERVATION_DIM, ACTION_DIM, generator).policy
        line = _seconds_by_length(policy, lengths)
        reached = f"T = {min(line)} to {max(line):,}"
        capped = "" if max(line) == lengths[-1] else f", capped: T = {lengths[-1]:,} is too much"
        is_headline = method == "ssm"
        rows.append(
            Row(
                f"{method}: exponent of time against length",
                exponent(line),
                "exponent",
                target=MAX_EXPONENT if is_headline else None,
                at_most=True,
                note=f"{reached}{capped}; B={BATCH_SIZE}, width {WIDTH}",
            )
        )
        lines[method] = line
    times = [
        Row(f"{method}: forward and backward, T = {length:,}", seconds, "s")
        for method, line in lines.items()
        for length, seconds in line.items()
    ]
    return Measured(rows + times, lines)


def exponent(seconds_by_length: dict[int, float]) -> float:
    """The ``p`` of ``seconds = c * length ** p`` that fits best on logarithmic axes.

    Example:
        >>> round(exponent({10: 3.0, 100: 300.0}), 6)
        2.0
    """
    logarithms = [(math.log(t), math.log(s)) for t, s in seconds_by_length.items()]
    lengths, seconds = np.asarray(logarithms).T
    return float(np.polyfit(lengths, seconds, 1)[0])


def _seconds_by_length(policy: SequencePolicy, lengths: tuple[int, ...]) -> dict[int, float]:
    """Medians by length, as far as time and memory allow; always the two shortest."""
    line: dict[int, float] = {}
    for length in lengths:
        peak = peak_memory_mib()
        line[length] = _scan_seconds(policy, length)
        is_affordable = (
            4.0 * line[length] <= MAX_SECONDS and 4.0 * (peak_memory_mib() - peak) <= MAX_MEMORY_MIB
        )
        if len(line) >= 2 and not is_affordable:
            break
    return line


def _scan_seconds(policy: SequencePolicy, length: int) -> float:
    x = torch.randn(BATCH_SIZE, length, OBSERVATION_DIM, generator=torch.Generator().manual_seed(0))
    first = torch.zeros(BATCH_SIZE, length, dtype=torch.bool)
    parameters = [parameter for parameter in policy.parameters() if parameter.requires_grad]

    def play() -> None:
        output, _ = policy.scan(x, policy.init_hidden(BATCH_SIZE), first)
        torch.autograd.grad(output.square().mean(), parameters, allow_unused=True)

    return interleaved_seconds({"scan": play}, NUM_REPEATS)["scan"]


def peak_memory_mib() -> float:
    """The most memory that this process ever held [MiB]."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
