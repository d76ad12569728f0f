"""Rollouts of a family in a few lanes, which the rules of families compare bit for bit."""

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
    """An environment whose lanes start a new episode when the last one ends.

    Args:
        family: Family of the environment.
        parameters: The hidden variables of each lane.
        generators: Generator of each lane; by default those of ``streams(0)``.
        num_threads: Threads of the physics.

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
        """Make a step for each action, ``(T, B, A)``."""
        steps = []
        for action in actions:
            steps.append(self.env.step(action))
            ended = np.logical_or(steps[-1].terminated, steps[-1].truncated)
            if ended.any():
                self.env.reset(ended, self._generators)
        return steps


class Played(NamedTuple):
    """The observation of a reset, and the steps after it."""

    first: np.ndarray
    steps: Sequence[Step]


def played(family: TaskFamily, task_seed: int = 0) -> Played:
    """The usual rollout, cached for all rules that only read it."""
    return _played(_Itself(family), task_seed)


class _Itself:
    """Cache key that identifies a family by its object, since its parts may not be hashable."""

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
    """Length of the episodes in the rules' rollouts [env steps]."""
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
    """All numbers of a step for each lane, ``(B, K)``."""
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
    """Whether two rollouts are equal bit for bit, in some of their lanes or in all."""
    chosen = EVERYWHERE if lanes is None else lanes
    return all(
        np.array_equal(numbers(one)[chosen], numbers(other)[chosen], equal_nan=True)
        for one, other in zip(ours, theirs, strict=True)
    )
