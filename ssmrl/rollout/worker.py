"""Collects experience: parameters and tasks in, trajectories out; a plain class."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ssmrl.config import EnvConfig
from ssmrl.envs.batched_env import BatchedEnv
from ssmrl.envs.families import get_family
from ssmrl.models.actor import GaussianActor, log_density
from ssmrl.rollout.assignment import Assignment
from ssmrl.seeding import episode_generators
from ssmrl.types import Hidden, Params, Trajectory


class EnvShape(NamedTuple):
    """Widths of a family's observation and action."""

    observation_dim: int
    action_dim: int


def env_shape(config: EnvConfig) -> EnvShape:
    """Widths of the observation and the action of a configured environment."""
    env = get_family(config.task).make_env(1, config.horizon, config.action_scale, 1)
    return EnvShape(env.observation_dim, env.action_dim)


class RolloutWorker:
    """Plays all episodes of all its tasks in one batch, each task with its own parameters.

    Args:
        actor: The policy's structure; its own parameters are not used.
        config: The environment.
        num_threads: Threads of the physics; 0 means all cores.
    """

    def __init__(self, actor: GaussianActor, config: EnvConfig, num_threads: int = 0) -> None:
        self._actor = actor
        self._config = config
        self._num_threads = num_threads
        self._envs: dict[int, BatchedEnv] = {}

    def collect(
        self,
        params: Params,
        assignment: Assignment,
        num_episodes: int,
        phase: int = 0,
    ) -> Trajectory:
        """Play ``num_episodes`` lanes of every task.

        Args:
            params: Of each task, every leaf ``(N, ...)``.
            assignment: ``N`` tasks and their randomness; the result depends on nothing else.
            num_episodes: Lanes per task, ``B``.
            phase: Which collection on these tasks this is, so that each draws anew.
        """
        num_tasks, horizon = len(assignment.tasks), self._config.horizon
        env = self._env(num_tasks * num_episodes)
        env.set_tasks([task.parameters for task in assignment.tasks for _ in range(num_episodes)])
        generators = episode_generators(assignment.streams, phase, num_episodes)
        noise = np.stack(
            [rng.standard_normal((horizon, env.action_dim), np.float32) for rng in generators]
        )
        lanes = (num_tasks, num_episodes)
        record = _Record(
            lanes, horizon, env, torch.from_numpy(noise).unflatten(0, lanes), params["log_std"]
        )
        hidden = self._actor.init_hidden(num_tasks * num_episodes).unflatten(0, lanes)
        ended = np.ones(env.num_envs, dtype=np.bool_)
        seen = env.reset(ended, generators)
        with torch.no_grad():
            act = torch.func.vmap(self._act)
            for t in range(horizon):
                record.see(t, seen, ended)
                mean, hidden = act(
                    params, record.policy_input(t, self._actor), hidden, record.first(t)
                )
                step = env.step(record.act(t, mean))
                record.receive(t, step.reward, step.terminated)
                seen, ended = step.observation, step.terminated
                if t + 1 < horizon and ended.any():
                    seen = env.reset(ended, generators)
        return record.trajectory(seen)

    def _act(
        self, params: Params, inputs: Tensor, hidden: Hidden, first: Tensor
    ) -> tuple[Tensor, Hidden]:
        mean, _, next_hidden = torch.func.functional_call(
            self._actor, params, (inputs, hidden, first)
        )
        return mean, next_hidden

    def _env(self, num_envs: int) -> BatchedEnv:
        if num_envs not in self._envs:
            config = self._config
            self._envs[num_envs] = get_family(config.task).make_env(
                num_envs, config.horizon, config.action_scale, self._num_threads
            )
        return self._envs[num_envs]


class _Record:
    """Arrays that fill up over one collection; time is an axis before it is complete."""

    def __init__(
        self,
        lanes: tuple[int, int],
        horizon: int,
        env: BatchedEnv,
        noise: Tensor,
        log_std: Tensor,
    ) -> None:
        self._lanes = lanes
        self._noise = noise
        self._std = log_std.exp()[:, None]
        self._log_std = log_std
        self._observation = torch.empty(*lanes, horizon, env.observation_dim)
        self._action = torch.empty(*lanes, horizon, env.action_dim)
        self._mean = torch.empty_like(self._action)
        self._reward = torch.empty(*lanes, horizon)
        self._first = torch.empty(*lanes, horizon, dtype=torch.bool)
        self._terminated = torch.empty_like(self._first)

    def see(self, t: int, observation: np.ndarray, first: np.ndarray) -> None:
        self._observation[:, :, t] = self._per_lane(observation)
        self._first[:, :, t] = self._per_lane(first)

    def first(self, t: int) -> Tensor:
        return self._first[:, :, t]

    def policy_input(self, t: int, actor: GaussianActor) -> Tensor:
        observation = self._observation[:, :, t]
        if actor.input_is_observation:
            return observation
        if t == 0:
            action, reward = torch.zeros_like(self._action[:, :, 0]), torch.zeros(*self._lanes)
        else:
            action, reward = self._action[:, :, t - 1], self._reward[:, :, t - 1]
        return actor.make_input(observation, action, reward, self._first[:, :, t])

    def act(self, t: int, mean: Tensor) -> np.ndarray:
        self._mean[:, :, t] = mean
        action = mean + self._std * self._noise[:, :, t]
        self._action[:, :, t] = action
        return action.flatten(0, 1).double().numpy()

    def receive(self, t: int, reward: np.ndarray, terminated: np.ndarray) -> None:
        self._reward[:, :, t] = self._per_lane(reward)
        self._terminated[:, :, t] = self._per_lane(terminated)

    def trajectory(self, last_observation: np.ndarray) -> Trajectory:
        truncated = torch.zeros_like(self._terminated)
        truncated[:, :, -1] = ~self._terminated[:, :, -1]
        return Trajectory(
            observation=self._observation,
            action=self._action,
            reward=self._reward,
            log_prob=log_density(self._action, self._mean, self._log_std[:, None, None, :]),
            first=self._first,
            terminated=self._terminated,
            truncated=truncated,
            last_observation=self._per_lane(last_observation).float(),
        )

    def _per_lane(self, array: np.ndarray) -> Tensor:
        lanes: Tensor = torch.from_numpy(array).unflatten(0, self._lanes)
        return lanes
