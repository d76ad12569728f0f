"""Independent streams of randomness, each named by what it is for.

Every stream is a child of one seed, addressed by purpose, iteration and task. No stream depends
on how the work was split, so one seed gives one result for any number of workers.
"""

from collections.abc import Sequence
from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a stream is for; the values are part of every result and never change."""

    INITIAL_WEIGHTS = 0
    TRAIN_TASKS = 1
    TRAIN_ROLLOUTS = 2
    TEST_TASKS = 3
    TEST_ROLLOUTS = 4
    UPDATES = 5


def stream(seed: int, purpose: Purpose, *address: int) -> np.random.SeedSequence:
    """The stream of ``seed`` at this address.

    Example:
        >>> a = stream(0, Purpose.TRAIN_TASKS, 3).generate_state(1)
        >>> b = stream(0, Purpose.TRAIN_TASKS, 3).generate_state(1)
        >>> bool(a == b)
        True
    """
    return np.random.SeedSequence(seed, spawn_key=(int(purpose), *address))


def episode_generators(
    streams: Sequence[np.random.SeedSequence], phase: int, num_episodes: int
) -> list[np.random.Generator]:
    """One generator per episode, task by task.

    Args:
        streams: One stream per task, ``N`` of them.
        phase: Which collection on these tasks this is, counted from 0.
        num_episodes: Episodes per task, ``B``.

    Returns:
        ``N * B`` generators; those of a task do not depend on the other tasks.
    """
    return [
        np.random.Generator(
            np.random.PCG64(
                np.random.SeedSequence(
                    task_stream.entropy, spawn_key=(*task_stream.spawn_key, phase, episode)
                )
            )
        )
        for task_stream in streams
        for episode in range(num_episodes)
    ]
