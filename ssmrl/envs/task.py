"""Tasks, the distributions they are drawn from, and the families that own two of those."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ssmrl.envs.batched_env import BatchedEnv


@dataclass(frozen=True)
class Task:
    """One member of a family: frozen, hashable, and plain enough for JSON.

    Attributes:
        family: Name of the family.
        parameters: The family's hidden variables, for example a target velocity [m/s]. They leave
            the environment only through observation and reward.
    """

    family: str
    parameters: tuple[float, ...]


class TaskDistribution(ABC):
    """Where hidden variables come from."""

    @abstractmethod
    def sample(self, rng: np.random.Generator, num_tasks: int) -> list[tuple[float, ...]]:
        """Draw the parameters of ``num_tasks`` tasks."""


@dataclass(frozen=True)
class UniformInterval(TaskDistribution):
    """One variable, uniform on ``[low, high]``."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"`low < high` must hold, but got {self.low=}, {self.high=}")

    def sample(self, rng: np.random.Generator, num_tasks: int) -> list[tuple[float, ...]]:
        """Draw independently."""
        return [(float(value),) for value in rng.uniform(self.low, self.high, num_tasks)]


@dataclass(frozen=True)
class UniformCircle(TaskDistribution):
    """A point on a circle around the origin, uniform in angle."""

    radius: float

    def sample(self, rng: np.random.Generator, num_tasks: int) -> list[tuple[float, ...]]:
        """Draw independently."""
        angles = rng.uniform(0.0, 2.0 * math.pi, num_tasks)
        return [(self.radius * math.cos(angle), self.radius * math.sin(angle)) for angle in angles]


@dataclass(frozen=True)
class Alternating(TaskDistribution):
    """A finite set, visited in turn so that every member has its equal share of a batch."""

    members: tuple[tuple[float, ...], ...]

    def sample(self, rng: np.random.Generator, num_tasks: int) -> list[tuple[float, ...]]:
        """Cycle through the members from a random one."""
        start = int(rng.integers(len(self.members)))
        return [self.members[(start + i) % len(self.members)] for i in range(num_tasks)]


@dataclass(frozen=True)
class TaskFamily:
    """Tasks that differ in hidden variables and share everything else.

    Attributes:
        name: The family's name, for example ``ant-vel``.
        train: What meta-training draws from.
        test: What evaluation draws from: another object, never the same one with a flag.
        make_env: ``(num_envs, horizon, action_scale, num_threads) -> BatchedEnv``;
            0 threads means all cores.
        bound_per_step: Expected reward per step that no policy without adaptation exceeds:
            that of the best fixed behaviour, reached at once and free of control cost.
        action_scale: The default of ``env.action_scale``.
        horizon: The default of ``env.horizon`` [env steps].
    """

    name: str
    train: TaskDistribution
    test: TaskDistribution
    make_env: Callable[[int, int, float, int], BatchedEnv]
    bound_per_step: float
    action_scale: float
    horizon: int

    def sample_train(self, rng: np.random.Generator, num_tasks: int) -> list[Task]:
        """Draw tasks to meta-train on."""
        return [Task(self.name, values) for values in self.train.sample(rng, num_tasks)]

    def sample_test(self, rng: np.random.Generator, num_tasks: int) -> list[Task]:
        """Draw held-out tasks to be judged on."""
        return [Task(self.name, values) for values in self.test.sample(rng, num_tasks)]

    def no_adaptation_bound(self, horizon: int) -> float:
        """The return over ``horizon`` env steps that no policy without adaptation exceeds."""
        return self.bound_per_step * horizon
