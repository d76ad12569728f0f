"""Families from a Gymnasium environment, stepped one after another: slower than a batch."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from jaxtyping import Bool, Float

from ssmrl.envs.batched_env import BatchedEnv, Camera, NoPictureError, Step
from ssmrl.envs.hidden_code import HiddenCode
from ssmrl.envs.rewards import Motion
from ssmrl.envs.task import (
    FamilySpec,
    TaskDistribution,
    TaskFamily,
    num_parameters,
    ranges_code,
)

MakeSimulation: TypeAlias = Callable[[], gymnasium.Env[Any, Any]]
SetTask: TypeAlias = Callable[[gymnasium.Env[Any, Any], tuple[float, ...]], None]
"""``(env, parameters)``: sets the ``P`` hidden variables of an environment without its wrappers;
called before every episode."""


def gymnasium_family(
    env: str | MakeSimulation,
    set_task: SetTask,
    *,
    hidden: str,
    train: TaskDistribution,
    test: TaskDistribution,
    horizon: int | None = None,
    code: HiddenCode | None = None,
    bound_per_step: float | None = None,
) -> TaskFamily:
    """A family of tasks in one Gymnasium environment.

    Rewards are not relabelled for other tasks, since their formula is unknown. The environments of
    a batch are stepped one after another.

    Args:
        env: Id of a registered environment, or a function that makes one. Observation and action
            must be boxes with one axis, and the action bounded.
        set_task: Function that sets an environment's hidden variables.
        hidden: Description of the hidden variables, with units.
        train: Distribution of the training tasks.
        test: Distribution of the held-out tasks.
        horizon: Length of an episode [env steps]; by default that of the registration.
        code: Encoding of the hidden variables for inference. Default: the ranges of ``train`` if it
            is a ``UniformBox``; otherwise they are not inferred.
        bound_per_step: Reward per step that no policy without adaptation exceeds, if known.

    Returns:
        The family, to be passed as ``--task package.module:NAME``.

    Raises:
        ValueError: If a space is not such a box, or no horizon is known.

    Example:
        >>> from ssmrl.envs.task import UniformBox
        >>> def set_gravity(env, parameters):
        ...     env.g = parameters[0]
        >>> train, test = UniformBox((5.0,), (12.0,)), UniformBox((12.0,), (15.0,))
        >>> family = gymnasium_family(
        ...     "Pendulum-v1", set_gravity, hidden="gravity [m/s^2]", train=train, test=test
        ... )
        >>> (family.horizon, family.spec.observation_dim, family.spec.action_dim)
        (200, 3, 1)
    """
    name = env if isinstance(env, str) else getattr(env, "__name__", type(env).__name__)
    make: MakeSimulation = (lambda: gymnasium.make(env)) if isinstance(env, str) else env
    sample = make()
    observation_dim, action_dim = _dims(sample, name)
    if horizon is None:
        horizon = None if sample.spec is None else sample.spec.max_episode_steps
    sample.close()  # type: ignore[no-untyped-call]  # Gymnasium has no types there
    if horizon is None:
        raise ValueError(f"`horizon` must be given: the registration of {name} has none")

    def make_env(num_envs: int, horizon: int, action_scale: float, num_threads: int) -> BatchedEnv:
        return GymnasiumBatch(make, set_task, num_envs, horizon, action_scale)

    return TaskFamily(
        name,
        train,
        test,
        make_env,
        FamilySpec(
            hidden,
            num_parameters(train),
            horizon,
            observation_dim,
            action_dim,
            varies="unknown",
            train=str(train),
            test=str(test),
            observation=f"that of {name}",
            reward=f"that of {name}",
            termination=f"that of {name}",
            source=name,
        ),
        bound_per_step,
        hidden=ranges_code(train) if code is None else code,
    )


class GymnasiumBatch(BatchedEnv):
    """``B`` environments of Gymnasium, stepped one after another.

    An action in [-1, 1] is scaled to the bounds of the environment.

    Args:
        make: Function that makes one environment.
        set_task: Function that sets an environment's hidden variables.
        num_envs: Number of simulations, ``B``.
        horizon: Steps until truncation [env steps].
        action_scale: Divisor of an action before it is clipped to [-1, 1].

    Raises:
        ValueError: If the environment's own step limit is below the horizon.
    """

    def __init__(
        self,
        make: MakeSimulation,
        set_task: SetTask,
        num_envs: int,
        horizon: int,
        action_scale: float,
    ) -> None:
        self._simulations = [make() for _ in range(num_envs)]
        self._set_task, self._horizon, self._action_scale = set_task, horizon, action_scale
        first = self._simulations[0]
        limit = None if first.spec is None else first.spec.max_episode_steps
        if limit is not None and horizon > limit:
            raise ValueError(
                f"`env.horizon` must be at most {limit}, where the environment ends an episode, "
                f"but got {horizon}; lower it, or make the environment with a larger limit"
            )
        self.num_envs = num_envs
        self.observation_dim, self.action_dim = _dims(first, "the environment")
        self._low, self._high = first.action_space.low, first.action_space.high  # type: ignore[attr-defined]  # a box
        self._observation = np.zeros((num_envs, self.observation_dim))
        self._elapsed = np.zeros(num_envs, dtype=np.int64)
        self._parameters: Sequence[tuple[float, ...]] = ()

    def set_tasks(self, parameters: Sequence[tuple[float, ...]]) -> None:
        """Set the hidden variables of each environment."""
        self._parameters = [tuple(values) for values in parameters]
        for simulation, values in zip(self._simulations, self._parameters, strict=True):
            self._set_task(simulation.unwrapped, values)

    def reset(
        self, mask: Bool[np.ndarray, " B"], generators: Sequence[np.random.Generator]
    ) -> Float[np.ndarray, "B O"]:
        """Start episodes, each with a seed drawn from its generator."""
        for index in np.flatnonzero(mask).tolist():
            simulation = self._simulations[index]
            self._set_task(simulation.unwrapped, self._parameters[index])
            seed = int(generators[index].integers(2**31))
            self._observation[index] = simulation.reset(seed=seed)[0]
        self._elapsed[mask] = 0
        return self._observation.copy()

    def step(self, action: Float[np.ndarray, "B A"]) -> Step:
        """Advance every environment by one env step."""
        limited = np.clip(action / self._action_scale, -1.0, 1.0)
        inside = self._low + (limited + 1.0) * 0.5 * (self._high - self._low)
        reward = np.zeros(self.num_envs)
        terminated, truncated = np.zeros((2, self.num_envs), dtype=np.bool_)
        for index, simulation in enumerate(self._simulations):
            own = inside[index].astype(simulation.action_space.dtype)
            seen, reward[index], terminated[index], truncated[index], _ = simulation.step(own)
            self._observation[index] = seen
        self._elapsed += 1
        nothing = np.zeros(self.num_envs)
        effort = np.sum(np.square(limited), axis=1)
        return Step(
            observation=self._observation.copy(),
            reward=reward,
            terminated=terminated,
            truncated=truncated | (self._elapsed >= self._horizon),
            terms={"reward": reward},
            motion=Motion(nothing[:, None], effort, ~terminated, nothing),
        )

    def camera(self) -> Camera:
        """A function that draws the environments.

        Raises:
            NoPictureError: If they were not made with ``render_mode="rgb_array"``.
        """
        if self._simulations[0].render_mode != "rgb_array":
            raise NoPictureError(
                "the environment draws nothing: make it with `render_mode='rgb_array'`, and give "
                "`gymnasium_family` the function that makes it"
            )
        return self._picture

    def _picture(self, simulation: int) -> np.ndarray:
        return np.asarray(self._simulations[simulation].render())


def _dims(env: gymnasium.Env[Any, Any], name: str) -> tuple[int, int]:
    """``O`` and ``A``.

    Raises:
        ValueError: If a space is not a box with one axis, or the action is not bounded.
    """
    for what, space in (("observation", env.observation_space), ("action", env.action_space)):
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
            raise ValueError(
                f"the {what} of {name} must be a box of one axis, but is {space}; wrap the "
                "environment, for example in gymnasium.wrappers.FlattenObservation"
            )
    if not env.action_space.is_bounded():  # type: ignore[attr-defined]  # a box
        raise ValueError(
            f"the action of {name} must be bounded, but is {env.action_space}; wrap the "
            "environment in one whose action is limited"
        )
    return env.observation_space.shape[0], env.action_space.shape[0]  # type: ignore[index]
