"""Tasks and their random streams: the part of a worker's input that is not the policy."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ssmrl.config import TrainConfig
from ssmrl.envs.families import get_family
from ssmrl.envs.task import Task
from ssmrl.seeding import Purpose, stream


@dataclass(frozen=True)
class Assignment:
    """``N`` tasks, each with its own stream of randomness.

    Attributes:
        tasks: Tasks to collect rollouts on.
        streams: Random stream of each task.
    """

    tasks: tuple[Task, ...]
    streams: tuple[np.random.SeedSequence, ...]

    def split(self, num_parts: int) -> list["Assignment"]:
        """At most ``num_parts`` contiguous parts of nearly equal size, none empty."""
        bounds = np.linspace(0, len(self.tasks), min(num_parts, len(self.tasks)) + 1).astype(int)
        return [
            Assignment(self.tasks[low:high], self.streams[low:high])
            for low, high in pairwise(bounds)
        ]


def train_assignment(
    config: TrainConfig, iteration: int, num_tasks: int | None = None
) -> Assignment:
    """The meta-batch of an iteration, a function of the arguments alone.

    Args:
        config: Configuration with family and seed.
        iteration: Index of the meta-batch.
        num_tasks: Number of tasks; ``meta.num_tasks`` by default.
    """
    rng = np.random.default_rng(stream(config.seed, Purpose.TRAIN_TASKS, iteration))
    wanted = config.meta.num_tasks if num_tasks is None else num_tasks
    tasks = get_family(config.env.task).sample_train(rng, wanted)
    return _assignment(tasks, config.seed, Purpose.TRAIN_ROLLOUTS, iteration)


def held_out_assignment(config: TrainConfig, draw: int = 0) -> Assignment:
    """Held-out tasks; equal draws give equal tasks for any policy and seed.

    Args:
        config: Configuration with family and number of tasks.
        draw: Index of the set of held-out tasks. A search uses 0, a final comparison another one.
    """
    rng = np.random.default_rng(stream(draw, Purpose.TEST_TASKS))
    tasks = get_family(config.env.task).sample_test(rng, config.evaluation.num_tasks)
    return _assignment(tasks, draw, Purpose.TEST_ROLLOUTS)


def one_task_assignment(task: Task, draw: int = 0) -> Assignment:
    """One task, with the randomness of the first task of a draw.

    Args:
        task: Task to collect rollouts on.
        draw: Index of the randomness, as in ``held_out_assignment``.
    """
    return _assignment([task], draw, Purpose.TEST_ROLLOUTS)


def drawn_task(config: TrainConfig, draw: int = 0) -> Task:
    """One held-out task; equal draws give equal tasks."""
    return held_out_assignment(config.with_knobs({"evaluation.num_tasks": 1}), draw).tasks[0]


def _assignment(tasks: list[Task], seed: int, purpose: Purpose, *address: int) -> Assignment:
    streams = (stream(seed, purpose, *address, index) for index in range(len(tasks)))
    return Assignment(tuple(tasks), tuple(streams))
