"""A few lanes of a family at play: what the rules of families compare, bit for bit."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.random import Generator, default_rng

from ssmrl.envs.batched_env import BatchedEnv, Step
from ssmrl.envs.task import TaskFamily

NUM_LANES = 4
EVERYWHERE = np.ones(NUM_LANES, dtype=np.bool_)
_LONGEST = 12


class Lanes:
    """An environment at play; a lane whose episode ended begins the next one.

    Args:
        family: What is played.
        parameters: The hidden variables of each lane.
        generators: One for each lane, by default those of ``generators(0)``.
        num_threads: Of the physics.

    Attributes:
        env: The environment.
        first: The observation of the first reset.
    """

    def __init__(
        self,
        family: TaskFamily,
        parameters: Sequence[tuple[float, ...]],
        generators: Sequence[Generator] | None = None,
        num_threads: int = 1,
    ) -> None:
        self._generators = streams(0) if generators is None else generators
        self.env: BatchedEnv = family.make_env(NUM_LANES, horizon(family), 1.0, num_threads)
        self.env.set_tasks(parameters)
        self.first = self.env.reset(EVERYWHERE, self._generators)

    def play(self, actions: np.ndarray) -> list[Step]:
        """A step for each action ``(T, B, A)``."""
        steps = []
        for action in actions:
            steps.append(self.env.step(action))
            ended = np.logical_or(steps[-1].terminated, steps[-1].truncated)
            if ended.any():
                self.env.reset(ended, self._generators)
        return steps


class Played(NamedTuple):
    """An observation of a reset, and the steps after it."""

    first: np.ndarray
    steps: Sequence[Step]


def played(family: TaskFamily, task_seed: int = 0) -> Played:
    """The usual play, made once for all the rules that only look at it."""
    return _played(_Itself(family), task_seed)


class _Itself:
    """A family as the object that it is: one of its parts may have no hash."""

    def __init__(self, family: TaskFamily) -> None:
        self.family = family

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.family is other.family

    def __hash__(self) -> int:
        return id(self.family)


@lru_cache(maxsize=256)
def _played(itself: _Itself, task_seed: int) -> Played:
    lanes = Lanes(itself.family, tasks(itself.family, task_seed))
    return Played(lanes.first.copy(), tuple(lanes.play(actions(itself.family))))


def horizon(family: TaskFamily) -> int:
    """Length of the episodes that the rules play [env steps]."""
    return min(_LONGEST, family.horizon)


def streams(seed: int) -> list[Generator]:
    """A generator for each lane."""
    return [default_rng([seed, lane]) for lane in range(NUM_LANES)]


def tasks(family: TaskFamily, seed: int = 0) -> list[tuple[float, ...]]:
    """The hidden variables of a training task for each lane."""
    return family.train.sample(default_rng(seed), NUM_LANES)


def actions(family: TaskFamily) -> np.ndarray:
    """Random actions ``(T, B, A)`` within [-1, 1] for an episode."""
    shape = (horizon(family), NUM_LANES, family.spec.action_dim)
    return default_rng(1).uniform(-1.0, 1.0, shape)


def numbers(step: Step) -> np.ndarray:
    """All that a step says of each lane, ``(B, K)``."""
    return np.column_stack(
        [
            step.observation,
            step.reward,
            step.terminated,
            step.truncated,
            *step.terms.values(),
            step.motion.columns(),
        ]
    )


def same(ours: Sequence[Step], theirs: Sequence[Step], lanes: np.ndarray | None = None) -> bool:
    """Whether two plays are equal bit for bit, in some of their lanes or in all."""
    chosen = EVERYWHERE if lanes is None else lanes
    return all(
        np.array_equal(numbers(one)[chosen], numbers(other)[chosen], equal_nan=True)
        for one, other in zip(ours, theirs, strict=True)
    )
