"""Task families as Gymnasium environments, one simulation or many; for users of other libraries.

Not what this project trains on: its workers call ``BatchedEnv`` themselves.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from ssmrl.envs.batched_env import Step
from ssmrl.envs.families import get_family
from ssmrl.envs.task import TaskDistribution
from ssmrl.seeding import Seed, lane_seeds, whole_seed

Observation: TypeAlias = np.ndarray


class Trials:
    """``B`` simulations, each of which plays one trial after another on tasks of its own.

    A trial is a sequence of episodes on one hidden task. Everything of a lane, its tasks and its
    initial states, comes from the lane's own generator.

    Args:
        family: Name of the family.
        num_envs: Lanes, ``B``.
        split: ``train`` or ``test``: where tasks are drawn from.
        num_episodes_per_trial: Episodes after which a lane gets a new task; None: it keeps its
            task until ``restart``.
        horizon: Length of an episode [env steps]; the family's default if None.
        action_scale: What actions are divided by.
        num_threads: Threads of the physics; 0 means all cores.
    """

    def __init__(
        self,
        family: str,
        num_envs: int,
        *,
        split: str,
        num_episodes_per_trial: int | None,
        horizon: int | None,
        action_scale: float,
        num_threads: int,
    ) -> None:
        if split not in ("train", "test"):
            raise ValueError(f"`split` must be 'train' or 'test', but got {split=}")
        if num_episodes_per_trial is not None and num_episodes_per_trial < 1:
            raise ValueError(
                f"`num_episodes_per_trial >= 1` must hold, but got {num_episodes_per_trial=}; "
                "use None to keep a task until a reset asks for another"
            )
        known = get_family(family)
        self._env = known.make_env(num_envs, horizon or known.horizon, action_scale, num_threads)
        self._tasks: TaskDistribution = known.train if split == "train" else known.test
        self._num_parameters = known.spec.num_parameters
        self._num_episodes_per_trial = num_episodes_per_trial
        self._num_played = np.zeros(num_envs, dtype=np.int64)
        self._parameters: list[tuple[float, ...] | None] = [None] * num_envs
        self.num_envs = num_envs
        self.observation_space = Box(-np.inf, np.inf, (self._env.observation_dim,), np.float64)
        limit = np.full(self._env.action_dim, action_scale, np.float32)
        self.action_space = Box(-limit, limit, dtype=np.float32)

    def start(
        self,
        mask: np.ndarray,
        generators: Sequence[np.random.Generator],
        *,
        new_task: np.ndarray | bool = False,
        parameters: tuple[float, ...] | None = None,
    ) -> Observation:
        """Start episodes where ``mask`` is true, and new trials where the old ones are over.

        Args:
            mask: ``(B,)``.
            generators: One per lane.
            new_task: Start new trials in every lane of the mask, or in these, ``(B,)``.
            parameters: The hidden variables of those lanes; by default they are drawn.
        """
        changed, asked = False, np.broadcast_to(new_task, self.num_envs)
        for lane in np.flatnonzero(mask).tolist():
            over = self._num_played[lane] == self._num_episodes_per_trial
            if asked[lane] or over or parameters is not None or self._parameters[lane] is None:
                drawn = parameters or self._tasks.sample(generators[lane], 1)[0]
                self._parameters[lane], self._num_played[lane] = drawn, 0
                changed = True
            self._num_played[lane] += 1
        if changed:
            some = next(each for each in self._parameters if each is not None)
            self._env.set_tasks([each or some for each in self._parameters])
        return self._env.reset(mask, generators)

    def step(self, action: np.ndarray) -> Step:
        """Advance every lane."""
        return self._env.step(action.astype(np.float64))

    def read(self, options: Mapping[str, Any] | None) -> tuple[bool, tuple[float, ...] | None]:
        """What ``reset`` was asked for: a new task, and which.

        Raises:
            KeyError: If an option is unknown.
            ValueError: If the hidden variables are not as many as the family has.
        """
        asked = dict(options or {})
        new_task = bool(asked.pop("new_task", False))
        parameters = asked.pop("parameters", None)
        if asked:
            raise KeyError(f"unknown options {list(asked)}; known are: new_task, parameters")
        if parameters is None:
            return new_task, None
        values = tuple(float(value) for value in parameters)
        if len(values) != self._num_parameters:
            raise ValueError(
                f"a task of this family has {self._num_parameters} hidden variables, but got "
                f"{len(values)}"
            )
        return True, values


class TaskEnv(gymnasium.Env[Observation, np.ndarray]):
    """One simulation of a family whose hidden task stays the same for a whole trial.

    ``reset(seed=...)`` starts a new trial on a task drawn from the seed, and so does
    ``reset(options={"new_task": True})``. ``reset(options={"parameters": (...)})`` starts one on a
    given task. A plain ``reset()`` starts the next episode of the same trial, or of a new one when
    ``num_episodes_per_trial`` were played. The task is never in ``info``.

    Args:
        family: Name of the family.
        split: ``train`` or ``test``: where tasks are drawn from.
        num_episodes_per_trial: Episodes after which a plain ``reset()`` draws a new task; None:
            never.
        horizon: Length of an episode [env steps]; the family's default if None.
        action_scale: Actions lie in ``[-action_scale, action_scale]``.
        render_mode: Only None: nothing is drawn.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - declared so by Gymnasium

    def __init__(
        self,
        family: str,
        *,
        split: str = "train",
        num_episodes_per_trial: int | None = None,
        horizon: int | None = None,
        action_scale: float = 1.0,
        render_mode: None = None,
    ) -> None:
        self._trials = Trials(
            family,
            1,
            split=split,
            num_episodes_per_trial=num_episodes_per_trial,
            horizon=horizon,
            action_scale=action_scale,
            num_threads=1,
        )
        self.render_mode = render_mode
        self.observation_space = self._trials.observation_space
        self.action_space = self._trials.action_space

    def reset(
        self, *, seed: Seed | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; see the class for when its task is a new one.

        Raises:
            KeyError: If an option is unknown.
            ValueError: If the seed is no whole number of at least 0, or an option is wrong.
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

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Advance by one env step."""
        step = self._trials.step(np.asarray(action)[None])
        return (
            step.observation[0],
            float(step.reward[0]),
            bool(step.terminated[0]),
            bool(step.truncated[0]),
            {},
        )


class TaskVectorEnv(VectorEnv[Observation, np.ndarray, np.ndarray]):
    """Many simulations of a family, stepped together; each is a ``TaskEnv`` bit for bit.

    An episode that ended is started again by the next step, whose action is ignored and whose
    reward is zero, as Gymnasium's own vector environments do by default.

    Args:
        num_envs: Simulations.
        family: Name of the family.
        split: ``train`` or ``test``: where tasks are drawn from.
        num_episodes_per_trial: Episodes after which a simulation gets a new task; None: it keeps
            its task until ``reset`` asks for another.
        horizon: Length of an episode [env steps]; the family's default if None.
        action_scale: Actions lie in ``[-action_scale, action_scale]``.
        num_threads: Threads of the physics; 0 means all cores.
        render_mode: Only None: nothing is drawn.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - declared so by Gymnasium
        "render_modes": [],
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int,
        family: str,
        *,
        split: str = "train",
        num_episodes_per_trial: int | None = None,
        horizon: int | None = None,
        action_scale: float = 1.0,
        num_threads: int = 0,
        render_mode: None = None,
    ) -> None:
        self._trials = Trials(
            family,
            num_envs,
            split=split,
            num_episodes_per_trial=num_episodes_per_trial,
            horizon=horizon,
            action_scale=action_scale,
            num_threads=num_threads,
        )
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.single_observation_space = self._trials.observation_space
        self.single_action_space = self._trials.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._ended = np.zeros(num_envs, dtype=np.bool_)
        self._generators = [seeding.np_random()[0] for _ in range(num_envs)]

    def reset(
        self,
        *,
        seed: Seed | Sequence[Seed | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode in every simulation.

        Args:
            seed: Simulation ``i`` has the seed ``seed + i``; or a seed for each, None for one that
                goes on with its task and its draws.
            options: As for ``TaskEnv``, of all simulations.

        Raises:
            KeyError: If an option is unknown.
            ValueError: If there is not one seed for each simulation, if one is no whole number of
                at least 0, or an option is wrong.
        """
        seeds = lane_seeds(seed, self.num_envs)
        new_task, parameters = self._trials.read(options)
        for lane, each in enumerate(seeds):
            if each is not None:
                self._generators[lane] = seeding.np_random(each)[0]
        self._ended[:] = False
        observation = self._trials.start(
            np.ones(self.num_envs, dtype=np.bool_),
            self._generators,
            new_task=np.array([new_task or each is not None for each in seeds]),
            parameters=parameters,
        )
        return observation, {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance every simulation, or start it again where its episode had ended."""
        again = self._ended
        step = self._trials.step(np.asarray(actions))
        observation, reward, terminated, truncated = step[:4]
        if again.any():
            observation = self._trials.start(again, self._generators)
            reward = np.where(again, 0.0, reward)
            terminated, truncated = terminated & ~again, truncated & ~again
        self._ended = terminated | truncated
        return observation, reward, terminated, truncated, {}
