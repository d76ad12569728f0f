"""Updates per second of several stacked seeds; not what they learn."""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from experiments.benchmarks.gpu_floors import count_launches
from experiments.benchmarks.gpu_part import Job, Tell
from experiments.benchmarks.gpu_rates import replayed_row, seconds_of
from experiments.benchmarks.gpu_rows import Row
from ssmrl.config import TrainConfig
from ssmrl.context.learner import ContextLearner
from ssmrl.context.stacked_learner import StackedLearner

NUM_SEEDS = (1, 4, 16)

SEED_UPDATES_PER_SECOND = 50_000.0
"""Goal for the largest number of seeds."""


def stacked_rows(
    job: Job,
    tell: Tell,
    config: TrainConfig,
    drawn: tuple[Tensor, ...],
    learner: ContextLearner,
    goal: float | None,
) -> None:
    """Rates of stacked actor and critic updates; an update counts once for each seed.

    Every seed makes the same updates, on its own weights, from the first seed's replay.

    Args:
        job: Job, for its device.
        tell: Receives each row.
        config: Configuration of context-sac.
        drawn: Arguments of a single seed's updates, on the device.
        learner: Learner of a single seed, whose replay holds an iteration.
        goal: Goal for the largest number of seeds [seed-updates/s], or None.
    """
    device, num_updates = torch.device(job.device), len(drawn[0])
    kept = config.with_knobs({"meta.replay_env_steps": learner.replay.num_env_steps})
    for num_seeds in NUM_SEEDS:
        stacked = StackedLearner([replace(kept, seed=seed) for seed in range(num_seeds)], device)
        stacked.own[0].replay.restore(0, learner.replay.segment(0))
        for own in stacked.own:
            own.networks.set_statistics(learner.replay.observations())
        stacked.stack.take_up()
        training = stacked.stack.actor_critic
        *others, noise = drawn
        of_all = (*(torch.stack([value] * num_seeds, 1) for value in others),)
        of_all += (torch.stack([noise] * num_seeds, 2),)
        called = count_launches(partial(training.updates, *of_all), device) / num_updates
        unit = "launches" if device.type == "cuda" else "operators"
        note = f"{num_updates} updates a call, {called:.1f} {unit} an update"
        what, rate = f"updates of {num_seeds} stacked seeds", "seed-updates/s"
        wanted = goal if num_seeds == max(NUM_SEEDS) else None
        num, captured = num_seeds * num_updates, training.captured
        if captured is not None:
            tell(replayed_row(job, what, captured, of_all, num, goal=wanted, note=note, unit=rate))
            continue
        seconds = seconds_of(partial(training.updates, *of_all), job)
        tell(Row(job.part, what, num / seconds, rate, goal=wanted, note=note))
