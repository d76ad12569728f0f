"""Updates per second of several stacked seeds; not what they learn."""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from experiments.benchmarks.gpu_floors import count_launches, median_seconds
from experiments.benchmarks.gpu_part import Job, Tell
from experiments.benchmarks.gpu_rows import Row
from ssmrl.config import TrainConfig
from ssmrl.context.graph import NUM_REHEARSALS
from ssmrl.context.stacked_learner import StackedLearner

NUM_SEEDS = (1, 4, 16)

SEED_UPDATES_PER_SECOND = 50_000.0
"""Wanted of the most seeds."""


def stacked_rows(
    job: Job, tell: Tell, config: TrainConfig, drawn: tuple[Tensor, ...], goal: float | None
) -> None:
    """The rate of updates of actor and critics, times the seeds that each is an update of.

    Every seed makes the updates of the same transitions, on weights of its own: what they are does
    not count.

    Args:
        job: Where.
        tell: Takes each row.
        config: Of context-sac.
        drawn: Arguments of a single seed's updates, on the device.
        goal: Of the most seeds [seed-updates/s], where there is one.
    """
    device = torch.device(job.device)
    num_updates = len(drawn[0])
    kept = config.with_knobs({"meta.replay_env_steps": int(drawn[0].max()) + _iteration(config)})
    for num_seeds in NUM_SEEDS:
        configs = [replace(kept, seed=seed) for seed in range(num_seeds)]
        stack = StackedLearner(configs, device).stack
        places, parameters, codes, noise = drawn
        of_all = (
            *(torch.stack([value] * num_seeds, 1) for value in (places, parameters, codes)),
            torch.stack([noise] * num_seeds, 2),
        )
        work = partial(stack.actor_critic.updates, *of_all)
        called = count_launches(work, device) / num_updates
        unit = "launches" if device.type == "cuda" else "operators"
        note = f"{num_updates} updates a call, {called:.1f} {unit} an update"
        captured = stack.actor_critic.captured
        if captured is not None:
            work = partial(captured, *of_all)
            for _ in range(NUM_REHEARSALS + 1):
                work()
        what = f"updates of {num_seeds} stacked seeds"
        if captured is not None and not captured.num_replays:
            tell(Row(job.part, what, trouble="failed", note="its graph was not replayed"))
            continue
        once = median_seconds(work, device, 1)
        most = 3 if job.quick else 100
        seconds = median_seconds(work, device, max(3, min(most, int(1.0 / once))))
        rate = num_seeds * num_updates / seconds
        wanted = goal if num_seeds == max(NUM_SEEDS) else None
        tell(Row(job.part, what, rate, "seed-updates/s", goal=wanted, note=note))


def _iteration(config: TrainConfig) -> int:
    meta = config.meta
    return int(meta.num_lanes * meta.episodes_per_task * config.env.horizon)
