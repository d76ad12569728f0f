"""Task families as Gymnasium environments, one simulation or many; for users of other libraries.

This project's own training does not use them: its workers call ``BatchedEnv`` directly.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from ssmrl.envs.trials import RENDER_MODES, Observation, Trials
from ssmrl.knobs import Whole
from ssmrl.seeding import Seed, lane_seeds, whole_seed


class TaskEnv(gymnasium.Env[Observation, np.ndarray]):
    """One simulation of a family whose hidden task stays the same for a whole trial.

    ``reset(seed=...)`` starts a new trial on a task drawn from the seed, and so does
    ``reset(options={"new_task": True})``. ``reset(options={"parameters": (...)})`` starts one on a
    given task. A plain ``reset()`` starts the next episode of the same trial, or of a new one after
    ``num_episodes_per_trial`` episodes. Neither ``info`` nor pictures show the task.

    A copied or unpickled environment is constructed anew from the same arguments, like Gymnasium's
    MuJoCo environments. Reset it before its first step.

    Args:
        family: Name of the family.
        split: ``train`` or ``test``: where tasks are drawn from.
        num_episodes_per_trial: Episodes after which a plain ``reset()`` draws a new task; None:
            never.
        horizon: Length of an episode [env steps]; the family's default if None.
        action_scale: Actions lie in ``[-action_scale, action_scale]``.
        render_mode: ``rgb_array`` for pictures by ``render``. MuJoCo's pictures need a renderer:
            ``MUJOCO_GL=egl`` or ``osmesa`` in the environment of the process.

    Raises:
        KeyError: If the family is unknown.
        RuntimeError: If pictures are requested but MuJoCo cannot draw; the message says what helps.
        ValueError: If another argument is wrong; the message names it.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - declared so by Gymnasium
        "render_modes": RENDER_MODES,
        "render_fps": 20,
    }

    def __init__(
        self,
        family: str,
        *,
        split: str = "train",
        num_episodes_per_trial: Whole | None = None,
        horizon: Whole | None = None,
        action_scale: Any = 1.0,
        render_mode: str | None = None,
    ) -> None:
        settings: dict[str, Any] = {
            "split": split,
            "num_episodes_per_trial": num_episodes_per_trial,
            "horizon": horizon,
            "action_scale": action_scale,
            "render_mode": render_mode,
        }
        self._again = partial(TaskEnv, family, **settings)
        self._trials = Trials(family, 1, num_threads=1, **settings)
        self.render_mode = render_mode
        self.metadata = self.metadata | {"render_fps": self._trials.render_fps}
        self.observation_space = self._trials.observation_space
        self.action_space = self._trials.action_space

    def __reduce__(self) -> tuple[Any, ...]:
        return self._again, ()

    def reset(
        self, *, seed: Seed | None = None, options: Any = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; the class explains ``options`` and when the task changes.

        Raises:
            KeyError: If an option is unknown.
            ValueError: If the seed is not a whole number of at least 0, or an option is wrong.
        """
        number = None if seed is None else whole_seed(seed)
        new_task, parameters = self._trials.read(options)
        super().reset(seed=number)
        observation = self._trials.start(
            np.ones(1, dtype=np.bool_),
            [self.np_random],
            new_task=new_task or seed is not None,
            parameters=parameters,
        )
        return observation[0], {}

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Advance by one env step.

        Raises:
            ResetNeeded: Before the first reset.
            ValueError: If the action is not ``(A,)`` reals that are finite.
        """
        step = self._trials.step(action, self._trials.action_space.shape)
        return (
            step.observation[0],
            float(step.reward[0]),
            bool(step.terminated[0]),
            bool(step.truncated[0]),
            {},
        )

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """A picture from the camera that follows the robot, ``(480, 480, 3)`` uint8.

        Raises:
            ClosedEnvironmentError: After ``close``.
            ResetNeeded: Before the first reset.
        """
        pictures = self._trials.pictures()
        return None if pictures is None else pictures[0]

    def close(self) -> None:
        """Release the renderer; may be called again."""
        self._trials.close()


class TaskVectorEnv(VectorEnv[Observation, np.ndarray, np.ndarray]):
    """Many simulations of a family, stepped together; each is a ``TaskEnv`` bit for bit.

    After an episode ends, the next step of its simulation ignores the action, starts a new episode
    and returns a reward of zero, as Gymnasium's vector environments do by default.

    Args:
        num_envs: Number of simulations.
        family: Name of the family.
        split: ``train`` or ``test``: where tasks are drawn from.
        num_episodes_per_trial: Episodes after which a simulation gets a new task; None: it keeps
            its task until ``reset`` asks for another.
        horizon: Length of an episode [env steps]; the family's default if None.
        action_scale: Actions lie in ``[-action_scale, action_scale]``.
        num_threads: Threads of the physics; 0 means all cores.
        render_mode: ``rgb_array`` for pictures by ``render``. MuJoCo's pictures need a renderer:
            ``MUJOCO_GL=egl`` or ``osmesa`` in the environment of the process.
        max_episode_steps: Further limit of an episode's length [env steps]; None or -1: only the
            horizon limits it.

    Raises:
        KeyError: If the family is unknown.
        RuntimeError: If pictures are requested but MuJoCo cannot draw; the message says what helps.
        ValueError: If another argument is wrong; the message names it.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - declared so by Gymnasium
        "render_modes": RENDER_MODES,
        "render_fps": 20,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: Whole,
        family: str,
        *,
        split: str = "train",
        num_episodes_per_trial: Whole | None = None,
        horizon: Whole | None = None,
        action_scale: Any = 1.0,
        num_threads: Whole = 0,
        render_mode: str | None = None,
        max_episode_steps: Whole | None = None,
    ) -> None:
        settings: dict[str, Any] = {
            "split": split,
            "num_episodes_per_trial": num_episodes_per_trial,
            "horizon": horizon,
            "action_scale": action_scale,
            "num_threads": num_threads,
            "render_mode": render_mode,
            "max_episode_steps": max_episode_steps,
        }
        self.closed = True  # until it is complete: Gymnasium closes discarded environments
        self._again = partial(TaskVectorEnv, num_envs, family, **settings)
        self._trials = Trials(family, num_envs, **settings)
        self.closed = False
        self.num_envs = num_envs = self._trials.num_envs
        self.render_mode = render_mode
        self.metadata = self.metadata | {"render_fps": self._trials.render_fps}
        self.single_observation_space = self._trials.observation_space
        self.single_action_space = self._trials.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._ended = np.zeros(num_envs, dtype=np.bool_)
        self._random = [seeding.np_random() for _ in range(num_envs)]

    def __reduce__(self) -> tuple[Any, ...]:
        return self._again, ()

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The generator of each simulation, as Gymnasium's own vector environments have it."""
        return tuple(generator for generator, _ in self._random)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seed of each simulation, as given to ``reset`` or drawn."""
        return tuple(seed for _, seed in self._random)

    def reset(
        self,
        *,
        seed: Seed | Sequence[Seed | None] | None = None,
        options: Any = None,
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode in every simulation.

        Args:
            seed: Seed ``seed + i`` for simulation ``i``, or a list with a seed for each. None in
                the list keeps a simulation's task and generator.
            options: Options as in ``TaskEnv``, for all simulations.

        Raises:
            KeyError: If an option is unknown.
            ValueError: If the number of seeds is wrong, one is not a whole number of at least 0, or
                an option is wrong.
        """
        seeds = lane_seeds(seed, self.num_envs)
        new_task, parameters = self._trials.read(options)
        for lane, each in enumerate(seeds):
            if each is not None:
                self._random[lane] = seeding.np_random(each)
        self._ended[:] = False
        observation = self._trials.start(
            np.ones(self.num_envs, dtype=np.bool_),
            self.np_random,
            new_task=np.array([new_task or each is not None for each in seeds]),
            parameters=parameters,
        )
        return observation, {}

    def step(
        self, actions: Any
    ) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance every simulation, or start a new episode where the last one ended.

        Raises:
            ResetNeeded: Before the first reset.
            ValueError: If the actions are not ``(B, A)`` reals that are finite.
        """
        again = self._ended
        step = self._trials.step(actions, (self.num_envs, *self._trials.action_space.shape))
        observation, reward, terminated, truncated = step[:4]
        if again.any():
            observation = self._trials.start(again, self.np_random)
            reward = np.where(again, 0.0, reward)
            terminated, truncated = terminated & ~again, truncated & ~again
        self._ended = terminated | truncated
        return observation, reward, terminated, truncated, {}

    def render(self) -> tuple[np.ndarray, ...] | None:  # type: ignore[override]
        """A picture of each simulation, as in ``TaskEnv.render``.

        Raises:
            ClosedEnvironmentError: After ``close``.
            ResetNeeded: Before the first reset.
        """
        pictures = self._trials.pictures()
        return None if pictures is None else tuple(pictures)

    def close_extras(self, **_: Any) -> None:
        """Release the renderer."""
        self._trials.close()
