"""Any Gymnasium environment as a batch of parallel episodes.

Meta-training does not use it, but the batched physics of ``ssmrl.envs.batched_env``.
"""

import difflib
import importlib
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import FlattenObservation
from torch import Tensor

from ssmrl.envs.action_array import action_array
from ssmrl.knobs import Whole, whole
from ssmrl.seeding import Seed, lane_seeds
from ssmrl.unknown_name import UnknownNameError


class Environment:
    """``B`` episodes of one Gymnasium environment, stepped together.

    Autoreset is Gymnasium's next-step mode. The step that ends an episode returns its last
    observation. The next step of that lane ignores its action and starts the next episode: it
    returns the first observation, a reward of 0, and ``done`` false, and ``info["first"]`` is
    true there. Such a step is not a transition; leave it out of training.

    A copied or unpickled environment is constructed anew from the same arguments, like Gymnasium's
    MuJoCo environments. Reset it before its first step.

    Args:
        env_name: A Gymnasium id; ``module:id`` imports the module that registers it first.
        batch_size: Number of lanes, ``B``.
        seed: Seed of the first reset: lane ``i`` gets ``seed + i``, or entry ``i`` of a list.
            Later resets continue from there. Without a seed, every run differs.

    Attributes:
        vector_env: The Gymnasium vector environment. This project's own ids step as one batch.
            All others step lane by lane, each lane with a separate environment.
        batch_size: ``B``.
        observation_dim: ``O``, after flattening.
        action_dim: ``A``: the width of a continuous action, or the number of discrete choices.

    Raises:
        KeyError: If there is no environment of this name; the message lists the nearest ones.
        ValueError: If ``batch_size`` is not a whole number of at least 1, a seed is not one of at
            least 0, or the actions are neither a vector of reals nor discrete.

    Example:
        >>> with Environment("CartPole-v1", batch_size=2, seed=0) as environment:
        ...     observation = environment.reset()
        ...     observation, reward, done, info = environment.step(np.array([0, 1]))
        >>> observation.shape, reward.tolist(), done.tolist()
        ((2, 4), [1.0, 1.0], [False, False])
    """

    def __init__(
        self,
        env_name: str,
        batch_size: Whole = 1,
        seed: Seed | Sequence[Seed | None] | None = None,
    ) -> None:
        self._again = partial(Environment, env_name, batch_size, seed)
        self.batch_size = whole("batch_size", batch_size)
        self._seed: Any = lane_seeds(seed, self.batch_size)  # Gymnasium's types allow no list
        spec = _find_spec(env_name)
        own = spec.namespace == "ssmrl"
        self.vector_env = gymnasium.make_vec(
            spec,
            num_envs=self.batch_size,
            vectorization_mode="vector_entry_point" if own else "sync",
            wrappers=None if own else [FlattenObservation],
        )
        mode = self.vector_env.metadata.get("autoreset_mode")
        if mode != AutoresetMode.NEXT_STEP:
            raise ValueError(f"{env_name} must autoreset at the next step, but its mode is {mode}")
        self.observation_dim = math.prod(self.vector_env.single_observation_space.shape or ())
        self.action_dim = _action_dim(env_name, self.vector_env.single_action_space)
        self._ended: np.ndarray | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return self._again, ()

    def reset(self) -> np.ndarray:
        """Start a new episode in every lane.

        Returns:
            Observations ``(B, O)``, float32.
        """
        observation, _ = self.vector_env.reset(seed=self._seed)
        self._seed = None
        self._ended = np.zeros(self.batch_size, dtype=np.bool_)
        return np.array(observation, dtype=np.float32)

    def step(
        self, action: np.ndarray | Tensor
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance every lane by one env step.

        Args:
            action: ``(B, A)`` reals, or ``(B,)`` integers for discrete actions. Reals are passed
                on unclipped; clipping is up to the environment.

        Returns:
            Observations ``(B, O)`` float32; rewards ``(B,)`` float64; ``done`` ``(B,)`` bool,
            terminated or truncated; and ``info``: the environment's own entries, with the arrays
            ``terminated`` (ended by the task's rules), ``truncated`` (cut, for example by the time
            limit) and ``first`` (started here instead of acting), each ``(B,)`` bool.

        Raises:
            RuntimeError: Before the first reset.
            ValueError: If the action has a wrong shape, is not finite, or is not a valid choice.
        """
        if self._ended is None:
            raise RuntimeError("an environment must be reset before its first step; call `reset()`")
        first = self._ended
        observation, reward, terminated, truncated, told = self.vector_env.step(
            self._checked(action)
        )
        self._ended = np.logical_or(terminated, truncated)
        info = dict(told) | {
            "terminated": np.array(terminated),
            "truncated": np.array(truncated),
            "first": first,
        }
        return (
            np.array(observation, dtype=np.float32),
            np.array(reward, dtype=np.float64),
            self._ended.copy(),
            info,
        )

    def close(self) -> None:
        """Release the environment's resources; may be called again."""
        self.vector_env.close()

    def __enter__(self) -> "Environment":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _checked(self, action: np.ndarray | Tensor) -> np.ndarray:
        array = action_array(action)
        space = self.vector_env.single_action_space
        shape = (self.batch_size, *(space.shape or ()))
        if array.shape != shape:
            raise ValueError(f"`action` must be {shape}, but got {array.shape}")
        if isinstance(space, Discrete):
            if not np.issubdtype(array.dtype, np.integer):
                raise ValueError(
                    f"a choice out of {space} must be an integer, but got {array.dtype}; take the "
                    "argmax of the model's output, or a sample"
                )
            low = int(space.start)
            wrong, rule = (array < low) | (array >= low + int(space.n)), f"in {space}"
        else:
            wrong, rule = ~np.isfinite(array).all(axis=1), "finite"
        if wrong.any():
            lanes = np.flatnonzero(wrong).tolist()
            raise ValueError(
                f"`action` must be {rule}, but lanes {lanes} have {array[lanes].tolist()}"
            )
        return array


def _find_spec(env_name: str) -> gymnasium.envs.registration.EnvSpec:
    """The registered environment of this name, after importing the module before a colon, if any.

    Raises:
        KeyError: If there is none, or no such module; the message lists the nearest names.
        TypeError: If the name is not text.
    """
    if not isinstance(env_name, str):
        raise TypeError(f"`env_name` must be text, but got {env_name!r}")
    module, colon, name = env_name.rpartition(":")
    if colon:
        _import(module, env_name)
    try:
        return gymnasium.spec(name)
    except gymnasium.error.Error as error:
        lower = {name.lower(): name for name in sorted(gymnasium.registry)}
        near = difflib.get_close_matches(name.lower(), lower, n=5, cutoff=0.5)
        names = ", ".join(lower[name] for name in near) or "none is near"
        raise UnknownNameError(
            f"unknown environment {env_name!r}; the nearest of {len(lower)} are: {names}"
        ) from error


def _import(module: str, env_name: str) -> None:
    """Import the module that registers an environment; errors inside it propagate.

    Raises:
        KeyError: If there is no such module.
    """
    parts = module.split(".")
    try:
        if not all(part.isidentifier() for part in parts):
            raise ModuleNotFoundError(f"{module!r} is not a module name", name=module)
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise UnknownNameError(
            f"unknown environment {env_name!r}: there is no module {module!r}; the name must be "
            "`id` or `module:id`"
        ) from error


def _action_dim(env_name: str, space: gymnasium.Space[Any]) -> int:
    if isinstance(space, Discrete):
        return int(space.n)
    if isinstance(space, Box) and len(space.shape) == 1:
        return space.shape[0]
    raise ValueError(
        f"the actions of {env_name} must be a vector of reals or one choice, but are {space}; "
        "wrap and register the environment with such actions"
    )
