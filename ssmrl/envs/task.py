"""Tasks, their distributions, and families with a training and a test distribution."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ssmrl.envs.batched_env import BatchedEnv
from ssmrl.envs.hidden_code import BoxCode, HiddenCode
from ssmrl.envs.rewards import Motion, Reward
from ssmrl.knobs import whole


@dataclass(frozen=True)
class Task:
    """One task of a family: frozen, hashable and JSON-compatible.

    Attributes:
        family: Name of the family.
        parameters: The family's hidden variables, for example a target velocity [m/s]. A policy can
            infer them only from observations and rewards.
    """

    family: str
    parameters: tuple[float, ...]

    def words(self, most: int = 4) -> str:
        """A short text of the hidden variables.

        Args:
            most: Largest number of variables that are written out.

        Example:
            >>> Task("halfcheetah-vel", (2.0,)).words(), Task("a", (1.0, 0.5, 3.0)).words(2)
            ('2', '1, 0.5, ... (3 in all)')
        """
        shown = ", ".join(f"{value:.4g}" for value in self.parameters[:most])
        num = len(self.parameters)
        return shown if num <= most else f"{shown}, ... ({num} in all)"


class TaskDistribution(ABC):
    """A distribution of hidden variables."""

    @abstractmethod
    def sample_array(self, rng: np.random.Generator, num_tasks: int) -> np.ndarray:
        """Draw the parameters of ``num_tasks`` tasks as ``(num_tasks, P)`` float64, at once."""

    def sample(self, rng: np.random.Generator, num_tasks: int) -> list[tuple[float, ...]]:
        """The same numbers as ``sample_array``, as one tuple per task."""
        return [tuple(row) for row in self.sample_array(rng, num_tasks).tolist()]


@dataclass(frozen=True)
class UniformCircle(TaskDistribution):
    """A point on a circle around the origin, uniform in angle."""

    radius: float

    def sample_array(self, rng: np.random.Generator, num_tasks: int) -> np.ndarray:
        """Draw independently."""
        angles = rng.uniform(0.0, 2.0 * math.pi, num_tasks)
        return self.radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


@dataclass(frozen=True)
class UniformBox(TaskDistribution):
    """Independent variables, each uniform on its own range.

    Attributes:
        low: Lower ends, one per hidden variable.
        high: Upper ends.

    Raises:
        ValueError: If ``low`` and ``high`` differ in length, or a range is empty.

    Example:
        >>> UniformBox((5.0, 0.1), (15.0, 0.2)).sample_array(np.random.default_rng(0), 3).shape
        (3, 2)
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        ranges = list(zip(self.low, self.high, strict=False))
        if len(self.low) != len(self.high) or not all(low < high for low, high in ranges):
            raise ValueError(
                f"`low < high` must hold for every variable, but got {self.low=}, {self.high=}"
            )

    def sample_array(self, rng: np.random.Generator, num_tasks: int) -> np.ndarray:
        """Draw independently."""
        return rng.uniform(self.low, self.high, (num_tasks, len(self.low)))


def ranges_code(distribution: TaskDistribution) -> HiddenCode | None:
    """The code that scales a distribution's ranges to [-1, 1]; None if it has no ranges."""
    if isinstance(distribution, UniformBox):
        return BoxCode(distribution.low, distribution.high)
    return None


def num_parameters(distribution: TaskDistribution) -> int:
    """Number of hidden variables per task of a distribution, ``P``."""
    return int(distribution.sample_array(np.random.default_rng(0), 1).shape[1])


@dataclass(frozen=True)
class Alternating(TaskDistribution):
    """A finite set, visited in turn so that every member has an equal share of a batch."""

    members: tuple[tuple[float, ...], ...]

    def sample_array(self, rng: np.random.Generator, num_tasks: int) -> np.ndarray:
        """Cycle through the members from a random one."""
        start = int(rng.integers(len(self.members)))
        turns = (start + np.arange(num_tasks)) % len(self.members)
        return np.array(self.members, dtype=np.float64)[turns]


@dataclass(frozen=True)
class FamilySpec:
    """JSON-compatible description of a family.

    Attributes:
        hidden: Description of the hidden variables, with units.
        num_parameters: Number of hidden variables per task, ``P``.
        horizon: Default length of an episode [env steps].
        observation_dim: ``O``.
        action_dim: ``A``.
        varies: What the hidden variables change, ``reward`` or ``dynamics``; ``unknown`` if only
            the environment knows.
        train: Description of the training distribution.
        test: Description of the held-out distribution.
        disjoint: Whether no held-out task is ever trained on.
        reward: Reward formula.
        control_weight: Weight of the sum of squared controls; 0 if there is no such cost.
        termination: Description of when an episode ends before its horizon.
        dt: Duration of an env step [s]; 0 if steps have no duration.
        observation: Description of the observation.
        action_scale: Default divisor of actions.
        bound: Source of the no-adaptation bound, or the reason why there is none.
        source: Source of the definition, and differences from it.

    Raises:
        ValueError: If a size or the horizon is not at least 1; the message names it.
    """

    hidden: str
    num_parameters: int
    horizon: int
    observation_dim: int
    action_dim: int
    varies: Literal["reward", "dynamics", "unknown"] = "reward"
    train: str = "unknown"
    test: str = "unknown"
    disjoint: bool = False
    reward: str = "unknown"
    control_weight: float = 0.0
    termination: str = "unknown"
    dt: float = 0.0
    observation: str = "unknown"
    action_scale: float = 1.0
    bound: str = "unknown"
    source: str = "unknown"

    def __post_init__(self) -> None:
        for name in ("num_parameters", "horizon", "observation_dim", "action_dim"):
            whole(name, getattr(self, name))

    @property
    def render_fps(self) -> int:
        """Env steps per second; 20 if steps have no duration."""
        return round(1.0 / self.dt) if self.dt else 20


def clipped(action: np.ndarray) -> np.ndarray:
    """The action with each component clipped to [-1, 1]."""
    limited: np.ndarray = np.clip(action, -1.0, 1.0)
    return limited


@dataclass(frozen=True)
class TaskFamily:
    """Tasks that differ in hidden variables and share everything else.

    Attributes:
        name: The family's name, for example ``ant-vel``.
        train: Distribution of the training tasks.
        test: Distribution of the held-out tasks: a separate object, never ``train`` with a flag.
        make_env: ``(num_envs, horizon, action_scale, num_threads) -> BatchedEnv``;
            0 threads means all cores.
        spec: Description of the family.
        bound_per_step: Expected reward per step that no policy without adaptation exceeds:
            that of the best fixed behaviour, reached at once and free of control cost. None
            if no useful bound is known.
        reward: Reward formula of any task of the family, given a ``Motion``. None if it is unknown
            or the tasks differ in their dynamics.
        hidden: Encoding of the hidden variables for inference. None if they cannot be inferred.
        best_fixed: ``parameters (N, P) -> achieved (D,)`` per step of the best behaviour that is
            the same for all of these tasks. None if no fixed behaviour beats the bound, or if
            there is no best one.
        limit_action: ``(A,) -> (A,)``: limits an action as the simulator does at scale 1, by
            default to [-1, 1] per component.
    """

    name: str
    train: TaskDistribution
    test: TaskDistribution
    make_env: Callable[[int, int, float, int], BatchedEnv]
    spec: FamilySpec
    bound_per_step: float | None = None
    reward: Reward | None = None
    hidden: HiddenCode | None = None
    best_fixed: Callable[[np.ndarray], np.ndarray] | None = None
    limit_action: Callable[[np.ndarray], np.ndarray] = clipped

    @property
    def action_scale(self) -> float:
        """The default of ``env.action_scale``."""
        return self.spec.action_scale

    @property
    def horizon(self) -> int:
        """The default of ``env.horizon`` [env steps]."""
        return self.spec.horizon

    def sample_train(self, rng: np.random.Generator, num_tasks: int) -> list[Task]:
        """Draw training tasks."""
        return [Task(self.name, values) for values in self.train.sample(rng, num_tasks)]

    def sample_test(self, rng: np.random.Generator, num_tasks: int) -> list[Task]:
        """Draw held-out tasks."""
        return [Task(self.name, values) for values in self.test.sample(rng, num_tasks)]

    def task(self, parameters: Any) -> Task:
        """The task with these hidden variables, which the family need not draw.

        Args:
            parameters: ``P`` real numbers.

        Raises:
            ValueError: If their number is wrong, or one is not finite, or a multiplier is not
                positive.
        """
        given = np.asarray(parameters)
        if given.shape != (self.spec.num_parameters,) or given.dtype.kind not in "fiu":
            raise ValueError(
                f"`parameters` must be the {self.spec.num_parameters} hidden variables of a task "
                f"of {self.name} ({self.spec.hidden}), real numbers, but got {parameters!r}"
            )
        values = given.astype(np.float64)
        if not np.isfinite(values).all():
            raise ValueError(f"`parameters` must be finite, but got {parameters!r}")
        if self.spec.varies == "dynamics" and not (values > 0.0).all():
            raise ValueError(f"`parameters` must be positive multipliers, but got {parameters!r}")
        return Task(self.name, tuple(values.tolist()))

    def no_adaptation_bound(self, horizon: int) -> float | None:
        """The return over ``horizon`` env steps that no policy without adaptation exceeds.

        None if no useful bound is known.
        """
        return None if self.bound_per_step is None else self.bound_per_step * horizon

    def blind_return(
        self, parameters: Sequence[tuple[float, ...]] | np.ndarray, horizon: int
    ) -> float | None:
        """The best return without adaptation, on average over exactly these tasks.

        A few tasks can be easier than their distribution: a fixed velocity can lie near most of
        them. So this is the maximum of the distribution's bound and the return of the best fixed
        behaviour here. That behaviour is reached at once, healthy, and free of control and contact
        costs. Directions have no best fixed behaviour: if their mean is zero, none pays; otherwise
        running along the mean pays without limit in the speed. For them, the bound is returned.

        Args:
            parameters: The hidden variables of ``N`` tasks, ``(N, P)``.
            horizon: Length of an episode [env steps].

        Returns:
            The return; None if neither is known.

        Raises:
            ValueError: If the number of hidden variables is wrong, or there is no task.
        """
        bound = self.no_adaptation_bound(horizon)
        tasks = np.asarray(parameters, dtype=np.float64)
        if tasks.ndim != 2 or len(tasks) == 0 or tasks.shape[1] != self.spec.num_parameters:
            raise ValueError(
                f"`parameters` must be (num_tasks, {self.spec.num_parameters}) for {self.name}, "
                f"but got {tasks.shape}; give the hidden variables of at least one task"
            )
        if self.reward is None or self.best_fixed is None:
            return bound
        nothing = np.zeros(len(tasks))
        achieved = np.tile(self.best_fixed(tasks), (len(tasks), 1))
        motion = Motion(achieved, nothing, np.ones(len(tasks), dtype=np.bool_), nothing)
        fixed = float(self.reward.total(tasks, motion).mean()) * horizon
        return fixed if bound is None else max(bound, fixed)
