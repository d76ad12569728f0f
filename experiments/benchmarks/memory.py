"""Peak memory of whole ProMP iterations with the 53 K state space policy."""

from collections.abc import Sequence

from cluster.session import session
from experiments.benchmarks.collecting import SSM_53K
from experiments.benchmarks.harness import Measured, Row, Settings
from experiments.benchmarks.iteration import TASK, build_algorithm, iteration_config
from experiments.benchmarks.sequence_length import peak_memory_mib

MAX_PEAK_MIB = 2048.0
MAX_GROWTH = 0.02
SETTLED_AFTER = 0.1
"""Share of the iterations after which memory is taken to have settled."""


def measure(settings: Settings) -> Measured:
    """The process's peak after the first iterations and after the last one."""
    num_iterations = 10 if settings.quick else settings.memory_iterations
    config = iteration_config(SSM_53K, settings)
    peaks: list[float] = []
    with session(num_cpus=max(2, settings.num_threads)):
        algorithm = build_algorithm(config, settings)
        for iteration in range(num_iterations):
            algorithm.train()
            peaks.append(peak_memory_mib())
            if (iteration + 1) % max(1, num_iterations // 20) == 0:
                print(f"  iteration {iteration + 1} of {num_iterations}, {peaks[-1]:,.0f} MiB")
        algorithm.stop()
    meta = config.meta
    note = (
        f"{TASK}, {meta.num_tasks} x {meta.num_episodes} x {config.env.horizon} x "
        f"{meta.num_inner_steps + 1}, {meta.num_epochs} epochs; {num_iterations} iterations run"
    )
    return Measured(
        [
            Row(
                "SSM 53 K: peak memory of ProMP iterations",
                peaks[-1],
                "MiB",
                MAX_PEAK_MIB,
                True,
                note,
            ),
            growth_row("SSM 53 K", peaks, note),
        ]
    )


def growth_row(what: str, peaks: Sequence[float], note: str) -> Row:
    """How much the peak of a process grew after memory had settled.

    Args:
        what: Name of what is measured.
        peaks: Peak after each iteration [MiB].
        note: Circumstances of the measurement.
    """
    settled = peaks[max(0, round(SETTLED_AFTER * len(peaks)) - 1)]
    return Row(
        f"{what}: growth of the peak after the first tenth",
        peaks[-1] / settled - 1.0,
        "of it",
        MAX_GROWTH,
        True,
        f"{settled:,.0f} to {peaks[-1]:,.0f} MiB; {note}",
    )
