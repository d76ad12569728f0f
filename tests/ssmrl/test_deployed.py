"""``ssmrl.load``: a plain Gymnasium loop earns what the batched evaluation says."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

import ssmrl
from ssmrl.checkpoint import Checkpoint, CheckpointError
from ssmrl.config import TrainConfig
from ssmrl.context.learner import ContextLearner
from ssmrl.deployed import DeployedPolicy
from ssmrl.envs.registration import gymnasium_id
from ssmrl.meta.algorithms import ALGORITHMS
from ssmrl.meta.gradient_learner import GradientLearner
from ssmrl.rollout.assignment import Assignment, held_out_assignment
from ssmrl.rollout.play import LocalCollector, Mode, Play
from ssmrl.seeding import episode_generators
from ssmrl.types import Params, Trajectory

SIZES = {"policy.hidden_dim": 16, "policy.state_dim": 8}


def memory_config(task: str) -> TrainConfig:
    knobs = {"meta.actor_hidden_dim": 16, "meta.critic_hidden_dim": 16, "meta.num_lanes": 4}
    knobs |= {"meta.batch_size": 32, "meta.replay_env_steps": 4000, "evaluation.num_tasks": 2}
    return TrainConfig.for_task(task).with_knobs(SIZES | knobs)


def gradient_config(task: str, **changed: Any) -> TrainConfig:
    knobs = {"meta.num_tasks": 2, "meta.num_episodes": 3, "evaluation.num_tasks": 2}
    knobs |= {"evaluation.num_episodes": 3}
    return TrainConfig.for_task(task, "promp").with_knobs(SIZES | knobs | changed)


def params_of(config: TrainConfig) -> Params:
    """Weights that act: large enough that observations and rewards matter."""
    params = ALGORITHMS[config.algorithm].player_type()(config).initial_params()
    return {name: value * 2.0 if value.ndim > 1 else value for name, value in params.items()}


class Scripted(np.random.Generator):
    """Gives prepared rows of noise."""

    def __init__(self, rows: np.ndarray) -> None:
        super().__init__(np.random.PCG64(0))
        self._rows = iter(rows)

    def standard_normal(self, size: Any = None, dtype: Any = None, out: Any = None) -> Any:
        row: np.ndarray = next(self._rows)
        assert row.shape == (size,)
        assert row.dtype == dtype
        return row


def played(config: TrainConfig, params: Params, num_lanes: int, num: int) -> list[Trajectory]:
    """What the batched evaluation plays with the first held-out task alone."""
    both = held_out_assignment(config)
    play = Play(Assignment(both.tasks[:1], both.streams[:1]), num_lanes, num, Mode.USED)
    return LocalCollector(config, 1)(params, play)


def plain_loop(
    policy: DeployedPolicy, env: Any, starts: list[np.random.Generator], parameters: Any
) -> list[np.ndarray]:
    """Rewards of each lane; episodes that end early share one."""
    lanes, reward, ended = [], None, True
    for rng in starts:
        env.unwrapped.np_random = rng
        observation, _ = env.reset(options=None if lanes else {"parameters": parameters})
        ended, rewards = True, []
        for _ in range(policy.config.env.horizon):
            action = policy.act(observation, reward, episode_start=ended)
            assert env.action_space.contains(action)
            observation, reward, terminated, truncated, _ = env.step(action)
            rewards.append(reward)
            ended = terminated or truncated
            if terminated:
                observation, _ = env.reset()
        lanes.append(np.array(rewards))
    return lanes


def starts_and_noise(
    config: TrainConfig, num_lanes: int, num: int, action_dim: int
) -> tuple[list[np.random.Generator], np.ndarray]:
    """The generators of all lanes, as they are once the noise was drawn from them."""
    streams = held_out_assignment(config).streams[:1]
    generators = [
        rng for phase in range(num) for rng in episode_generators(streams, phase, num_lanes)
    ]
    shape = (config.env.horizon, action_dim)
    noise = [rng.standard_normal(shape, np.float32) for rng in generators]
    return generators, np.concatenate(noise)


@pytest.mark.parametrize(
    "config",
    [
        *(memory_config(task) for task in ("point", "halfcheetah-vel", "hopper-vel")),
        gradient_config("point"),
        gradient_config("halfcheetah-vel", **{"env.horizon": 40}),
        gradient_config("point", **{"policy.rl2_inputs": True}),
    ],
    ids=lambda config: f"{config.algorithm}-{config.env.task}",
)
def test_a_plain_loop_earns_what_the_evaluation_says(config: TrainConfig) -> None:
    """The same task, starts and noise, over three episodes: adaptation included."""
    params, by_memory = params_of(config), config.algorithm == "context-sac"
    num_lanes = 1 if by_memory else 3
    wanted = played(config, params, num_lanes, 3)
    generators, noise = starts_and_noise(config, num_lanes, 3, wanted[0].action.shape[-1])
    policy = DeployedPolicy(config, params, rng=Scripted(noise))
    env = gymnasium.make(gymnasium_id(config.env.task), split="test")
    task = held_out_assignment(config).tasks[0]
    rewards = plain_loop(policy, env, generators, task.parameters)
    expected = torch.cat([trajectory.reward[0] for trajectory in wanted]).numpy()
    np.testing.assert_allclose(np.array(rewards), expected, rtol=1e-2, atol=1e-2)
    # It would notice: the episodes differ, because the policy adapts or draws anew.
    assert np.abs(expected[0] - expected[-1]).max() > 1e-2


def saved(config: TrainConfig, folder: Path) -> Path:
    learner: Any = (ContextLearner if config.algorithm == "context-sac" else GradientLearner)(
        config
    )
    Checkpoint(config, learner.tensors(), {}).save(folder / "checkpoint.safetensors")
    return folder


@pytest.mark.parametrize("config", [memory_config("point"), gradient_config("point")])
def test_loads_file_or_folder_and_reset_forgets_the_task(
    config: TrainConfig, tmp_path: Path
) -> None:
    folder = saved(config, tmp_path)
    one = ssmrl.load(folder, seed=3)
    two = ssmrl.load(str(folder / "checkpoint.safetensors"), seed=3)
    observation = np.array([0.3, -0.2])
    first = [policy.act(observation) for policy in (one, two)]
    np.testing.assert_array_equal(*first)
    assert first[0].shape == (2,)
    assert np.abs(first[0]).max() <= 1.0
    assert one.config == config
    fresh = ssmrl.load(folder, seed=5)
    used = ssmrl.load(folder, seed=5)
    used.act(observation)
    used.act(observation, 5.0)
    remembered = used.act(observation, -5.0)
    used.reset()
    used._rng = np.random.default_rng(5)
    np.testing.assert_array_equal(used.act(observation), fresh.act(observation))
    assert np.abs(remembered - fresh.act(observation, 0.0)).max() > 1e-6


def test_a_seed_is_what_numpy_takes_for_one_and_all_else_is_refused_first(tmp_path: Path) -> None:
    """Before the file is even looked for, which is not there."""
    folder = saved(memory_config("point"), tmp_path)
    observation = np.array([0.3, -0.2])

    def action(seed: Any) -> np.ndarray:
        return ssmrl.load(folder, seed=seed).act(observation)

    for seed in (np.int64(3), 2**70, [1, 2], np.random.SeedSequence(5)):
        again = np.random.SeedSequence(5) if isinstance(seed, np.random.SeedSequence) else seed
        np.testing.assert_array_equal(action(seed), action(again))
    np.testing.assert_array_equal(action(np.int64(3)), action(3))
    for wrong in (-1, 0.5, float("nan"), "x", object(), [1, -1], [0.5]):
        with pytest.raises(ValueError, match="`seed` must be a NumPy seed"):
            ssmrl.load(tmp_path / "nowhere", seed=wrong)


def test_a_reward_changes_what_a_memory_does_next() -> None:
    config = memory_config("point")
    actions = []
    for reward in (0.0, -4.0):
        policy = DeployedPolicy(config, params_of(config), rng=np.random.default_rng(0))
        policy.act(np.zeros(2))
        actions.append(policy.act(np.zeros(2), reward))
    assert np.abs(actions[0] - actions[1]).max() > 1e-4


def test_by_gradient_the_step_is_made_after_so_many_lanes_at_an_episodes_start() -> None:
    """With 2 lanes of 20 steps the parameters change before step 41, not before."""
    config = gradient_config("point")
    params = params_of(config)
    policy = DeployedPolicy(config, params, rng=np.random.default_rng(0), num_lanes=2)
    changed = []
    for step in range(60):
        reward = None if step == 0 else float(np.sin(step))
        policy.act(np.zeros(2), reward, episode_start=step % 20 == 0)
        now = policy._state.params
        changed.append(any(not torch.equal(now[name][0], params[name]) for name in params))
    assert changed == [False] * 40 + [True] * 20


def test_the_rest_of_a_long_episode_is_played_and_not_learnt_from() -> None:
    config = gradient_config("point")
    params = params_of(config)
    policies = [
        DeployedPolicy(config, params, rng=np.random.default_rng(0), num_lanes=1) for _ in "ab"
    ]
    for policy, late in zip(policies, (-1.0, 7.0), strict=True):
        for step in range(31):
            reward = None if step == 0 else (float(np.sin(step)) if step <= 20 else late)
            policy.act(np.zeros(2), reward, episode_start=step == 30)
    one, two = (policy._state.params for policy in policies)
    assert all(torch.equal(one[name], two[name]) for name in params)
    assert any(not torch.equal(one[name][0], params[name]) for name in params)


@pytest.mark.parametrize("reward", [None, float("nan")])
def test_a_missing_reward_is_refused(reward: float | None) -> None:
    config = memory_config("point")
    policy = DeployedPolicy(config, params_of(config), rng=np.random.default_rng(0))
    policy.act(np.zeros(2))
    with pytest.raises(ValueError, match="the last action's reward"):
        policy.act(np.zeros(2), reward)


def test_what_it_cannot_be_used_for_is_refused(tmp_path: Path) -> None:
    config = memory_config("point")
    policy = DeployedPolicy(config, params_of(config), rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"must have shape \(2,\)"):
        policy.act(np.zeros((1, 2)))
    with pytest.raises(ValueError, match="1 for a policy that adapts by memory"):
        DeployedPolicy(config, params_of(config), rng=np.random.default_rng(0), num_lanes=2)
    with pytest.raises(FileNotFoundError, match="holds none of"):
        ssmrl.load(tmp_path)
    tensors = {f"networks.{name}": value for name, value in params_of(config).items()}
    del tensors["networks.center"]
    Checkpoint(config, tensors, {}).save(tmp_path / "part.safetensors")
    with pytest.raises(CheckpointError, match="center is missing"):
        ssmrl.load(tmp_path / "part.safetensors")
