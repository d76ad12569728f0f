"""Rollout worker: takes an adaptation and tasks, returns trajectories; a plain class."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ssmrl.adaptation.adaptation import Adaptation, Decision
from ssmrl.config import EnvConfig
from ssmrl.envs.batched_env import BatchedEnv, Step
from ssmrl.envs.families import get_family
from ssmrl.heartbeat import beat
from ssmrl.rollout.assignment import Assignment
from ssmrl.seeding import episode_generators
from ssmrl.types import Trajectory

Watch: TypeAlias = Callable[[int, BatchedEnv, Step], None]
"""Callback ``(phase, env, step)`` after each env step, before ended episodes are reset."""


class EnvShape(NamedTuple):
    """Widths of a family's observation and action."""

    observation_dim: int
    action_dim: int


def env_shape(config: EnvConfig) -> EnvShape:
    """Widths of the observation and the action of a configured environment."""
    env = get_family(config.task).make_env(1, config.horizon, config.action_scale, 1)
    return EnvShape(env.observation_dim, env.action_dim)


def motion_dim(config: EnvConfig) -> int:
    """Columns of the motion of a configured environment, ``M``."""
    env = get_family(config.task).make_env(1, config.horizon, config.action_scale, 1)
    task = get_family(config.task).sample_train(np.random.default_rng(0), 1)[0]
    env.set_tasks([task.parameters])
    env.reset(np.ones(1, dtype=np.bool_), [np.random.default_rng(0)])
    return int(env.step(np.zeros((1, env.action_dim))).motion.columns().shape[-1])


class RolloutWorker:
    """Collects all lanes of all tasks in one batch; only here is the loop over env steps.

    Args:
        config: Settings of the environment.
        num_threads: Threads of the physics; 0 means all cores.
        keeps_motion: Whether trajectories contain the motions behind their rewards.
        watch: Callback after each env step; None for no callback.
    """

    def __init__(
        self,
        config: EnvConfig,
        num_threads: int = 0,
        *,
        keeps_motion: bool = False,
        watch: Watch | None = None,
    ) -> None:
        self._config = config
        self._num_threads = num_threads
        self._keeps_motion, self._watch = keeps_motion, watch
        self._envs: dict[int, BatchedEnv] = {}

    def meta_episode(
        self,
        adaptation: Adaptation[Any],
        assignment: Assignment,
        *,
        num_episodes: int,
        num_lanes: int,
        other_rewards: bool = False,
    ) -> list[Trajectory]:
        """Collect episodes with the same hidden tasks one after another, adapting on the way.

        Args:
            adaptation: The policy, and how it adapts.
            assignment: ``N`` tasks and their randomness; there is no other randomness.
            num_episodes: Episodes per task, ``K``.
            num_lanes: Lanes per task, ``B``.
            other_rewards: Whether the adaptation receives the rewards of another task's lanes: a
                control, which must remove the gain from adaptation.

        Returns:
            ``K`` trajectories with the rewards that were paid.
        """
        state = adaptation.begin(len(assignment.tasks), num_lanes)
        trajectories = []
        for episode in range(num_episodes):
            trajectory, state = self.episode(
                adaptation, state, assignment, num_lanes, episode, other_rewards=other_rewards
            )
            trajectories.append(trajectory)
            if episode + 1 < num_episodes:
                seen = trajectory
                if other_rewards:
                    seen = trajectory._replace(reward=_of_next_task(trajectory.reward))
                state = adaptation.end_of_episode(seen, state)
        return trajectories

    def episode(
        self,
        adaptation: Adaptation[Any],
        state: Any,
        assignment: Assignment,
        num_lanes: int,
        phase: int = 0,
        *,
        other_rewards: bool = False,
    ) -> tuple[Trajectory, Any]:
        """Collect ``num_lanes`` lanes of every task from their start to the horizon.

        Args:
            adaptation: The policy, and how it adapts.
            state: State of the adaptation.
            assignment: ``N`` tasks and their randomness.
            num_lanes: Lanes per task, ``B``.
            phase: Index of the episode with these tasks; each index has its own random numbers.
            other_rewards: Whether to swap rewards, as in ``meta_episode``.

        Returns:
            The trajectory, and the state of the adaptation after it.
        """
        num_tasks, horizon = len(assignment.tasks), self._config.horizon
        env = self._env(num_tasks * num_lanes)
        env.set_tasks([task.parameters for task in assignment.tasks for _ in range(num_lanes)])
        generators = episode_generators(assignment.streams, phase, num_lanes)
        noise = torch.from_numpy(
            np.stack(
                [rng.standard_normal((horizon, env.action_dim), np.float32) for rng in generators]
            )
        ).unflatten(0, (num_tasks, num_lanes))
        record = _Record((num_tasks, num_lanes), horizon, env, self._keeps_motion)
        ended = np.ones(env.num_envs, dtype=np.bool_)
        seen = env.reset(ended, generators)
        for t in range(horizon):
            beat()
            observation, first = record.see(t, seen, ended)
            decision, state = adaptation.act(observation, first, noise[:, :, t], state)
            step = env.step(decision.action.flatten(0, 1).double().numpy())
            if self._watch is not None:
                self._watch(phase, env, step)
            reward = record.receive(t, decision, step)
            observed = _of_next_task(reward) if other_rewards else reward
            state = adaptation.observe(decision.action, observed, state)
            seen, ended = step.observation, step.terminated
            if t + 1 < horizon and ended.any():
                seen = env.reset(ended, generators)
        return record.trajectory(seen), state

    def _env(self, num_envs: int) -> BatchedEnv:
        if num_envs not in self._envs:
            config = self._config
            self._envs[num_envs] = get_family(config.task).make_env(
                num_envs, config.horizon, config.action_scale, self._num_threads
            )
        return self._envs[num_envs]


def _of_next_task(reward: Tensor) -> Tensor:
    return reward.roll(1, dims=0)


class _Record:
    """Arrays with a time axis that are filled during one episode."""

    def __init__(
        self, lanes: tuple[int, int], horizon: int, env: BatchedEnv, keeps_motion: bool
    ) -> None:
        self._lanes = lanes
        self._observation = torch.empty(*lanes, horizon, env.observation_dim)
        self._action = torch.empty(*lanes, horizon, env.action_dim)
        self._reward = torch.empty(*lanes, horizon)
        self._log_prob = torch.empty_like(self._reward)
        self._first = torch.empty(*lanes, horizon, dtype=torch.bool)
        self._terminated = torch.empty_like(self._first)
        self._motions: list[np.ndarray] | None = [] if keeps_motion else None

    def see(self, t: int, observation: np.ndarray, first: np.ndarray) -> tuple[Tensor, Tensor]:
        self._observation[:, :, t] = self._per_lane(observation)
        self._first[:, :, t] = self._per_lane(first)
        return self._observation[:, :, t], self._first[:, :, t]

    def receive(self, t: int, decision: Decision, step: Step) -> Tensor:
        self._action[:, :, t] = decision.action
        self._log_prob[:, :, t] = decision.log_prob
        self._reward[:, :, t] = self._per_lane(step.reward)
        self._terminated[:, :, t] = self._per_lane(step.terminated)
        if self._motions is not None:
            self._motions.append(step.motion.columns())
        return self._reward[:, :, t]

    def trajectory(self, last_observation: np.ndarray) -> Trajectory:
        truncated = torch.zeros_like(self._terminated)
        truncated[:, :, -1] = ~self._terminated[:, :, -1]
        if self._motions is None:
            motion = torch.empty(*self._reward.shape, 0, dtype=torch.float64)
        else:
            motion = self._per_lane(np.stack(self._motions, axis=1))
        return Trajectory(
            observation=self._observation,
            action=self._action,
            reward=self._reward,
            log_prob=self._log_prob,
            first=self._first,
            terminated=self._terminated,
            truncated=truncated,
            last_observation=self._per_lane(last_observation).float(),
            motion=motion,
        )

    def _per_lane(self, array: np.ndarray) -> Tensor:
        lanes: Tensor = torch.from_numpy(array).unflatten(0, self._lanes)
        return lanes
