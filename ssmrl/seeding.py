"""Independent random streams, each addressed by its purpose.

Every stream is a child of one seed, addressed by purpose, iteration and task. No stream depends
on how the work is split, so a seed gives the same result for any number of workers.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np

from ssmrl.knobs import whole

Seed: TypeAlias = Any
"""A whole number of at least 0, of any integer type; ``whole_seed`` refuses anything else."""


class Purpose(IntEnum):
    """Purpose of a stream; the values affect every result and must never change."""

    INITIAL_WEIGHTS = 0
    TRAIN_TASKS = 1
    TRAIN_ROLLOUTS = 2
    TEST_TASKS = 3
    TEST_ROLLOUTS = 4
    UPDATES = 5


def whole_seed(seed: Seed, name: str = "seed") -> int:
    """The seed as a plain int; it has no upper limit.

    Args:
        seed: Seed as given; a bool counts as 0 or 1, as in Gymnasium.
        name: Name of the field, for the message.

    Raises:
        ValueError: If the seed is not a whole number of at least 0.

    Example:
        >>> whole_seed(np.int64(3))
        3
    """
    return whole(name, int(seed) if isinstance(seed, bool) else seed, least=0)


def lane_seeds(seed: Seed | Sequence[Seed | None] | None, num_lanes: int) -> list[int | None]:
    """The seed of each of ``num_lanes`` simulations, as in Gymnasium's vector environments.

    Args:
        seed: Seed of lane 0, so that lane ``i`` has ``seed + i``; or a list with the seed of each
            lane; None leaves a lane without a seed.
        num_lanes: Number of simulations.

    Raises:
        ValueError: If ``seed`` is neither; the message names the entry.

    Example:
        >>> lane_seeds(7, 3), lane_seeds([7, None], 2), lane_seeds(None, 2)
        ([7, 8, 9], [7, None], [None, None])
    """
    if seed is None:
        return [None] * num_lanes
    seed = seed.tolist() if isinstance(seed, np.ndarray) else seed
    if not isinstance(seed, Sequence) or isinstance(seed, str | bytes):
        first = whole_seed(seed)
        return [first + lane for lane in range(num_lanes)]
    if len(seed) != num_lanes:
        raise ValueError(
            f"`seed` must have one entry for each of {num_lanes} simulations, but got {len(seed)}"
        )
    return [
        None if each is None else whole_seed(each, f"seed[{lane}]")
        for lane, each in enumerate(seed)
    ]


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
        phase: Number of the collection on these tasks, counted from 0.
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
