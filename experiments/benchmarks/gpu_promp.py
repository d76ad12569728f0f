"""Time of a ProMP iteration, its update on a device, extrapolated to 20 million env steps."""

import os
import statistics
import time

import torch

from experiments.benchmarks.gpu_part import Job, Tell, synchronise
from experiments.benchmarks.gpu_rows import Row
from ssmrl.config import TrainConfig
from ssmrl.rollout.play import LocalCollector, Play
from ssmrl.run import LocalEngine
from ssmrl.types import Params, Trajectory

NUM_ENV_STEPS = 20_000_000
SECONDS = 150.0
MLP = {"policy.method": "mlp", "policy.hidden_dim": 64}
QUICK = {"env.horizon": 20, "meta.num_tasks": 4, "meta.num_episodes": 4}


def measure(job: Job, tell: Tell) -> None:
    """Time iterations of ProMP's defaults on halfcheetah-dir, split into their stages.

    Args:
        job: Job, for its device and size.
        tell: Receives each row.
    """
    torch.set_num_threads(os.cpu_count() or 1)  # hundreds of lanes act at once
    device = torch.device(job.device)
    config = TrainConfig.for_task("halfcheetah-dir", "promp")
    config = config.with_knobs(MLP | (QUICK if job.quick else {}))
    collect, played = LocalCollector(config), list[list[Trajectory]]()

    def kept(params: Params, play: Play) -> list[Trajectory]:
        played[:] = [collect(params, play)]
        return played[0]

    engine = LocalEngine(config, collect=kept, device=device)
    parts: list[tuple[float, float, float]] = []
    for number in range(2 if job.quick else 4):
        metrics = engine.iterate()
        transfer = _transfer_seconds(played[0], device)
        if number:  # the first one also loads what the device needs
            parts.append((metrics.sample_seconds, transfer, metrics.update_seconds - transfer))
        if job.left < 0.0:
            break
    if not parts:
        what = "one iteration and no more fitted into its time"
        tell(Row(job.part, what, metrics.sample_seconds + metrics.update_seconds, "s"))
        return
    medians = [statistics.median(values) for values in zip(*parts, strict=True)]
    num_env_steps = engine.learner.env_steps_per_iteration
    note = f"{num_env_steps:,} env steps, MLP 64 x 64, median of {len(parts)}"
    names = ("sampling on the CPU", "transfer to the device", "update on the device")
    for name, seconds in zip(names, medians, strict=True):
        tell(Row(job.part, f"an iteration: {name}", seconds, "s", note=note))
    num_iterations = -(-NUM_ENV_STEPS // num_env_steps)
    what = f"{NUM_ENV_STEPS // 1_000_000} M env steps, extrapolated and not run"
    note = f"{num_iterations} iterations of {sum(medians):.3g} s; without evaluations"
    goal = SECONDS if job.has_goals else None
    tell(Row(job.part, what, num_iterations * sum(medians), "s", goal, at_most=True, note=note))


def _transfer_seconds(trajectories: list[Trajectory], device: torch.device) -> float:
    """Time to copy all trajectories to the device [s]."""
    synchronise(device)
    started = time.perf_counter()
    for trajectory in trajectories:
        for value in trajectory:
            value.to(device)
    synchronise(device)
    return time.perf_counter() - started
