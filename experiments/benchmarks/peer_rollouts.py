"""Rollouts as users of RLlib and Stable-Baselines3 collect them; nothing is trained."""

import math
import time
from typing import Any

import gymnasium
from gymnasium.spaces import flatdim

from experiments.benchmarks.harness import Settings
from experiments.benchmarks.raw_physics import ANT, RobotCase, without_advice

ENVS_PER_ACTOR = (8, 32, 128)
STEPS_PER_ENV = 50


def dense_width(num_parameters: int, observation_dim: int, num_outputs: int) -> int:
    """Width of two equal dense layers so that a policy has about this many parameters.

    Solves ``w^2 + (O + K + 2) w + K = num_parameters``: ``(O + 1) w + (w + 1) w + (w + 1) K``.

    Example:
        >>> dense_width((17 + 1) * 64 + 65 * 64 + 65 * 6, 17, 6)
        64
    """
    linear = observation_dim + num_outputs + 2
    root = math.sqrt(linear**2 + 4 * (num_parameters - num_outputs))
    return round((root - linear) / 2)


def make_gymnasium_env(robot: RobotCase) -> gymnasium.Env[Any, Any]:
    """Gymnasium's environment with the observations that ours has."""
    settings = {"include_cfrc_ext_in_observation": False} if robot == ANT else {}
    with without_advice():
        return gymnasium.make(robot.gymnasium_id, **settings)


class RLlibRollouts:
    """``SingleAgentEnvRunner`` actors of the new API stack, sampling for PPO.

    The policy has two dense layers and as many parameters as ours. Only sampling in the actors is
    counted. Sending the episodes to the driver is left out, although users wait for it, too.
    Several numbers of actors and environments are tried, and the fastest is kept.

    Args:
        robot: Robot to simulate.
        num_parameters: Parameters of the policy.
        settings: Number of threads, and whether to try one way only.

    Attributes:
        env_steps: Env steps of one collection.
        description: The fastest way, in words.
    """

    name = "RLlib SingleAgentEnvRunner"

    def __init__(self, robot: RobotCase, num_parameters: int, settings: Settings) -> None:
        from cluster.session import session

        env = make_gymnasium_env(robot)
        # A mean and a log standard deviation for each action.
        num_outputs = 2 * flatdim(env.action_space)
        self._width = dense_width(num_parameters, flatdim(env.observation_space), num_outputs)
        self._robot = robot
        self._steps_per_env = 5 if settings.quick else STEPS_PER_ENV
        self._session = session(num_cpus=max(2, settings.num_threads))
        self._session.__enter__()
        ways = [(2, ENVS_PER_ACTOR[0])] if settings.quick else self._ways(settings.num_threads)
        rates = {way: self._rate(*way) for way in ways}
        best = max(rates, key=lambda way: rates[way])
        self._algorithm = self._build(*best)
        self.env_steps = best[0] * best[1] * self._steps_per_env
        tried = ", ".join(f"{a}x{e}: {rate:,.0f}" for (a, e), rate in rates.items())
        self.description = (
            f"{best[0]} actors x {best[1]} envs, dense {self._width} x 2; tried {tried}"
        )

    def collect(self) -> None:
        """Sample with every actor at once."""
        steps = self.env_steps // self._algorithm.config.num_env_runners
        counts = self._algorithm.env_runner_group.foreach_env_runner(
            lambda runner: sum(len(e) for e in runner.sample(num_timesteps=steps)),
            local_env_runner=False,
        )
        if sum(counts) < self.env_steps:
            raise RuntimeError(f"RLlib sampled {sum(counts)} of {self.env_steps} env steps")

    def close(self) -> None:
        """End the actors and the session."""
        self._algorithm.stop()
        self._session.__exit__(None, None, None)

    def _ways(self, num_threads: int) -> list[tuple[int, int]]:
        return [(actors, envs) for actors in {1, num_threads} for envs in ENVS_PER_ACTOR]

    def _rate(self, num_actors: int, num_envs: int) -> float:
        self._algorithm = self._build(num_actors, num_envs)
        self.env_steps = num_actors * num_envs * self._steps_per_env
        self.collect()
        started = time.perf_counter()
        for _ in range(2):
            self.collect()
        rate = 2 * self.env_steps / (time.perf_counter() - started)
        self._algorithm.stop()
        return rate

    def _build(self, num_actors: int, num_envs: int) -> Any:
        from ray.rllib.algorithms.ppo import PPOConfig
        from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
        from ray.tune.registry import register_env

        robot = self._robot
        register_env(robot.gymnasium_id, lambda _: make_gymnasium_env(robot))
        layers = [self._width, self._width]
        return (
            PPOConfig()
            .environment(robot.gymnasium_id)
            .env_runners(num_env_runners=num_actors, num_envs_per_env_runner=num_envs)
            .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=layers))
            .build_algo()
        )


class StableBaselinesRollouts:
    """``collect_rollouts`` of PPO on a ``DummyVecEnv``, with a policy of as many parameters.

    Args:
        robot: Robot to simulate.
        num_parameters: Parameters of the policy, without its value network.
        settings: Whether to use small sizes.

    Attributes:
        env_steps: Env steps of one collection.
        description: The setup, in words.
    """

    name = "Stable-Baselines3 collect_rollouts"

    def __init__(self, robot: RobotCase, num_parameters: int, settings: Settings) -> None:
        from stable_baselines3 import PPO
        from stable_baselines3.common.vec_env import DummyVecEnv

        num_envs, num_steps = ENVS_PER_ACTOR[1], 5 if settings.quick else STEPS_PER_ENV
        envs = DummyVecEnv([lambda: make_gymnasium_env(robot)] * num_envs)
        dims = flatdim(envs.observation_space), flatdim(envs.action_space)
        width = dense_width(num_parameters, *dims)
        self._ppo = PPO(
            "MlpPolicy",
            envs,
            n_steps=num_steps,
            batch_size=num_steps * num_envs,
            policy_kwargs={"net_arch": [width, width]},
            device="cpu",
        )
        self.env_steps = num_envs * num_steps
        _, self._callback = self._ppo._setup_learn(10**9)
        self.description = f"DummyVecEnv of {num_envs}, dense {width} x 2"

    def collect(self) -> None:
        """Fill the rollout buffer once."""
        ppo = self._ppo
        ppo.collect_rollouts(ppo.env, self._callback, ppo.rollout_buffer, ppo.n_steps)

    def close(self) -> None:
        """End the environments."""
        self._ppo.env.close()
