"""Simulations of one trial after another, the basis of the Gymnasium environments.

This project's own training does not use them: its workers call ``BatchedEnv`` directly.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from ssmrl.envs.action_array import action_array
from ssmrl.envs.batched_env import Camera, Step
from ssmrl.envs.families import get_family
from ssmrl.envs.task import TaskDistribution, TaskFamily
from ssmrl.knobs import Whole, whole
from ssmrl.unknown_name import UnknownNameError

Observation: TypeAlias = np.ndarray
RENDER_MODES = ["rgb_array"]


class Trials:
    """``B`` simulations, each of which runs one trial after another on its own tasks.

    A trial is a sequence of episodes on one hidden task. The tasks and initial states of a lane all
    come from the lane's own generator.

    Args:
        family: Name of the family.
        num_envs: Number of lanes, ``B``.
        split: ``train`` or ``test``: where tasks are drawn from.
        num_episodes_per_trial: Episodes after which a lane gets a new task; None: it keeps its
            task until ``start`` is called with ``new_task``.
        horizon: Length of an episode [env steps]; the family's default if None.
        action_scale: Divisor of actions.
        num_threads: Threads of the physics; 0 means all cores.
        render_mode: ``rgb_array`` for pictures, else None.
        max_episode_steps: Further limit of an episode's length [env steps]; None or -1: none.

    Attributes:
        num_envs: ``B``.
        render_fps: Env steps per second; 20 if steps have no duration.
        observation_space: Observation space of one lane.
        action_space: Action space of one lane.

    Raises:
        KeyError: If the family is unknown.
        RuntimeError: If pictures are requested but MuJoCo cannot draw; the message says what helps.
        ValueError: If another argument is wrong; the message names it.
    """

    def __init__(
        self,
        family: str,
        num_envs: Whole,
        *,
        split: str,
        num_episodes_per_trial: Whole | None,
        horizon: Whole | None,
        action_scale: Any,
        num_threads: Whole,
        render_mode: str | None,
        max_episode_steps: Whole | None = None,
    ) -> None:
        if split not in ("train", "test"):
            raise ValueError(f"`split` must be 'train' or 'test', but got {split=}")
        known = get_family(family)
        if num_episodes_per_trial is not None:
            num_episodes_per_trial = whole("num_episodes_per_trial", num_episodes_per_trial)
        self.num_envs = whole("num_envs", num_envs)
        _check_action_scale(action_scale)
        _check_render_mode(render_mode)
        self._family = known
        self._env = known.make_env(
            self.num_envs,
            _length(known, horizon, max_episode_steps),
            float(action_scale),
            whole("num_threads", num_threads, least=0),
        )
        self._camera: Camera | None = None if render_mode is None else self._env.camera()
        self._draws = render_mode is not None
        self._tasks: TaskDistribution = known.train if split == "train" else known.test
        self._num_episodes_per_trial = num_episodes_per_trial
        self._num_played = np.zeros(self.num_envs, dtype=np.int64)
        self._parameters: list[tuple[float, ...] | None] = [None] * self.num_envs
        self.render_fps = known.spec.render_fps
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
            mask: Lanes to start, ``(B,)``.
            generators: One generator per lane.
            new_task: Whether to start new trials, for all lanes of the mask or per lane, ``(B,)``.
            parameters: Hidden variables of new trials in all lanes of the mask; drawn by default.
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

    def step(self, action: object, shape: tuple[int, ...]) -> Step:
        """Advance every lane.

        Args:
            action: Real numbers for every lane.
            shape: Shape that the action must have, with or without an axis of lanes.

        Raises:
            ResetNeeded: Before the first reset.
            ValueError: If the action has another shape, or is not real and finite.
        """
        self._check_started("step")
        array = action_array(action)
        if array.shape != shape:
            raise ValueError(
                f"`action` must be real numbers {shape}, but got {array.dtype} {array.shape}"
            )
        array = array.reshape(self.num_envs, -1).astype(np.float64)
        finite = np.isfinite(array).all(axis=1)
        if not finite.all():
            lanes = np.flatnonzero(~finite).tolist()
            raise ValueError(
                f"`action` must be finite, but lanes {lanes} have {array[lanes].tolist()}"
            )
        return self._env.step(array)

    def pictures(self) -> list[np.ndarray] | None:
        """A picture of each lane, ``(H, W, 3)`` uint8; None without ``render_mode``.

        Raises:
            ClosedEnvironmentError: After ``close``.
            ResetNeeded: Before the first reset.
        """
        if not self._draws:
            gymnasium.logger.warn(
                "nothing is drawn; make the environment with render_mode='rgb_array'"
            )
            return None
        if self._camera is None:
            raise gymnasium.error.ClosedEnvironmentError("a closed environment draws nothing")
        self._check_started("render")
        return [self._camera(lane) for lane in range(self.num_envs)]

    def close(self) -> None:
        """Release the renderer; may be called again."""
        self._camera = None

    def read(self, options: object) -> tuple[bool, tuple[float, ...] | None]:
        """The options of ``reset``: whether a new task is wanted, and its hidden variables.

        Raises:
            KeyError: If an option is unknown.
            ValueError: If ``options`` is not a mapping, ``new_task`` is not a truth value, or the
                hidden variables are wrong in number, not finite, or multipliers that are not
                positive.
        """
        if options is not None and not isinstance(options, Mapping):
            raise ValueError(f"`options` must be a mapping, but got {options!r}")
        asked = dict(options or {})
        new_task = asked.pop("new_task", False)
        parameters = asked.pop("parameters", None)
        if asked:
            raise UnknownNameError(
                f"unknown options {list(asked)}; known are: new_task, parameters"
            )
        if not isinstance(new_task, bool | np.bool_):
            raise ValueError(f"`new_task` must be true or false, but got {new_task!r}")
        if parameters is None:
            return bool(new_task), None
        return True, self._family.task(parameters).parameters

    def _check_started(self, call: str) -> None:
        if self._parameters[0] is None:
            raise gymnasium.error.ResetNeeded(
                f"an environment must be reset before its first `{call}`; call `reset()`"
            )


def _length(family: TaskFamily, horizon: Whole | None, max_episode_steps: Whole | None) -> int:
    """Length of an episode [env steps]."""
    length = family.horizon if horizon is None else whole("horizon", horizon)
    if max_episode_steps is None or max_episode_steps == -1:  # as in `gymnasium.make`
        return length
    return min(length, whole("max_episode_steps", max_episode_steps))


def _check_action_scale(action_scale: Any) -> None:
    """Raise if this is not a valid scale; the action space stores it as float32."""
    is_number = isinstance(action_scale, int | float | np.integer | np.floating)
    is_number &= not isinstance(action_scale, bool)
    limits = np.finfo(np.float32)
    if not is_number or not float(limits.tiny) <= action_scale <= float(limits.max):
        raise ValueError(
            f"`action_scale` must be positive and finite, as float32 too, but got {action_scale!r}"
        )


def _check_render_mode(render_mode: str | None) -> None:
    if render_mode == "human":
        raise ValueError(
            "`render_mode` 'human' needs a window, which this environment does not open; take "
            "'rgb_array' and show its pictures, or `gymnasium.make`, which does so with pygame"
        )
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise ValueError(f"`render_mode` must be None or 'rgb_array', but got {render_mode!r}")
