"""What a stranger's training loop relies on: a PPO that knows of this project the ids alone."""

import warnings
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import wrappers
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from torch import nn
from torch.distributions import Normal

import ssmrl  # noqa: F401 - it registers the ids

GOAL = {"parameters": (0.6, 0.8)}  # hidden: one that changes cannot be learnt without memory
BEST = -4.5  # straight to the goal, then rest: -(0.9 + 0.8 + ... + 0.1)
POOR, EXPLORING, LEARNT = -15.0, -6.5, -5.5  # one that stays where it starts has -20
ENVS, STEPS, ITERATIONS, EPOCHS, MINIBATCH = 16, 64, 30, 8, 256
DISCOUNT, TRACE, CLIP = 0.9, 0.95, 0.2


class Agent(nn.Module):
    """A Gaussian policy and a value function."""

    def __init__(self, observation_dim: int, action_dim: int) -> None:
        super().__init__()
        self.mean = nn.Sequential(
            nn.Linear(observation_dim, 32), nn.Tanh(), nn.Linear(32, action_dim)
        )
        self.value = nn.Sequential(nn.Linear(observation_dim, 32), nn.Tanh(), nn.Linear(32, 1))
        self.log_std = nn.Parameter(torch.full((action_dim,), -0.5))

    def policy(self, observation: torch.Tensor) -> Normal:
        return Normal(self.mean(observation), self.log_std.exp())


@dataclass
class Batch:
    """Of one rollout, ``(STEPS, ENVS)``; ``real`` is false where a step only started an episode."""

    observation: torch.Tensor
    action: torch.Tensor
    log_prob: torch.Tensor
    advantage: torch.Tensor
    value: torch.Tensor
    real: torch.Tensor

    def of_real_steps(self) -> list[torch.Tensor]:
        rest = (self.observation, self.action, self.log_prob, self.advantage, self.value)
        return [each[self.real] for each in rest]


class PPO:
    """Proximal policy optimisation with what the vector environment says of itself."""

    def __init__(self, envs: VectorEnv[Any, Any, Any], seed: int) -> None:
        torch.manual_seed(seed)
        self.envs = envs
        dims = [
            space.shape[0] for space in (envs.single_observation_space, envs.single_action_space)
        ]
        self.agent = Agent(*dims)
        self.optimiser = torch.optim.Adam(self.agent.parameters(), lr=3e-3)
        self.observation, _ = envs.reset(seed=seed, options=GOAL)
        self.ended = np.zeros(envs.num_envs, dtype=np.bool_)

    @torch.no_grad()
    def rollout(self) -> tuple[Batch, list[float]]:
        rows, returns = [], []
        for _ in range(STEPS):
            seen = torch.as_tensor(self.observation, dtype=torch.float32)
            policy = self.agent.policy(seen)
            action = policy.sample()
            low, high = self.envs.single_action_space.low, self.envs.single_action_space.high
            step = self.envs.step(np.clip(action.numpy(), low, high))
            following, reward, terminated, truncated, info = step
            returns += info["episode"]["r"][info["_episode"]].tolist() if "episode" in info else []
            log_prob = policy.log_prob(action).sum(-1)
            ends = (reward, terminated, terminated | truncated, ~self.ended)
            flags = [torch.as_tensor(each, dtype=torch.float32) for each in ends]
            # The end of an episode is what its last step returned, not what the next one starts at.
            after = self.agent.value(torch.as_tensor(following, dtype=torch.float32))[:, 0]
            rows.append((seen, action, log_prob, self.agent.value(seen)[:, 0], after, *flags))
            self.observation, self.ended = following, terminated | truncated
        seen, action, log_prob, value, after, reward, terminated, done, real = (
            torch.stack(column) for column in zip(*rows, strict=True)
        )
        surprise = reward + DISCOUNT * (1 - terminated) * after - value
        advantage, following = torch.zeros_like(value), torch.zeros(self.envs.num_envs)
        for t in reversed(range(STEPS)):
            following = surprise[t] + DISCOUNT * TRACE * (1 - done[t]) * following
            advantage[t] = following
        return Batch(seen, action, log_prob, advantage, value, real.bool()), returns

    def update(self, batch: Batch) -> None:
        observation, action, before, advantage, value = batch.of_real_steps()
        target = advantage + value
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        for _ in range(EPOCHS):
            for some in torch.randperm(len(target)).split(MINIBATCH):
                policy = self.agent.policy(observation[some])
                ratio = (policy.log_prob(action[some]).sum(-1) - before[some]).exp()
                clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
                gain = torch.minimum(ratio * advantage[some], clipped * advantage[some]).mean()
                error = (self.agent.value(observation[some])[:, 0] - target[some]).square().mean()
                self.optimiser.zero_grad()
                (0.5 * error - gain).backward()
                nn.utils.clip_grad_norm_(self.agent.parameters(), 0.5)
                self.optimiser.step()

    def train(self) -> list[float]:
        """Mean return of the episodes that ended in each rollout, exploration included."""
        found = []
        for _ in range(ITERATIONS):
            batch, returns = self.rollout()
            self.update(batch)
            found.append(float(np.mean(returns)))
        return found


def played(agent: Agent) -> float:
    """Return without exploration, in one environment."""
    env = gymnasium.make("ssmrl/Point-v0")
    observation, _ = env.reset(seed=0, options=GOAL)
    total, ended = 0.0, False
    while not ended:
        with torch.no_grad():
            action = agent.mean(torch.as_tensor(observation, dtype=torch.float32)).numpy()
        observation, reward, terminated, truncated, _ = env.step(action.clip(-1.0, 1.0))
        total, ended = total + float(reward), terminated or truncated
    return total


def test_it_learns_a_fixed_task_within_seconds() -> None:
    envs = RecordEpisodeStatistics(gymnasium.make_vec("ssmrl/Point-v0", ENVS))
    ppo = PPO(envs, seed=0)
    untrained = played(ppo.agent)
    returns = ppo.train()
    assert max(untrained, returns[0]) < POOR
    assert EXPLORING < returns[-1] < BEST
    assert LEARNT < played(ppo.agent) <= BEST


def scripted(env_id: str, num_steps: int, **arguments: Any) -> list[Any]:
    """What a vector environment of three said, in each step of fixed actions."""
    envs = gymnasium.make_vec(env_id, 3, horizon=25, **arguments)
    said: list[Any] = [envs.reset(seed=1)]
    rng = np.random.default_rng(0)
    for _ in range(num_steps):
        said.append(envs.step(rng.uniform(-1, 1, envs.action_space.shape).astype(np.float32)))
        assert said[-1][0] in envs.observation_space
    envs.close()
    return said


HOPPER = "ssmrl/HopperVel-v0"  # it falls, which ends an episode by termination


def test_an_episode_is_cut_at_its_horizon_or_ends_before() -> None:
    seen = {"terminated": 0, "truncated": 0}
    length, starts = np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.bool_)
    for observation, reward, terminated, truncated, _ in scripted(HOPPER, 200)[1:]:
        assert observation.dtype == np.float64
        assert reward.dtype == np.float64
        assert terminated.dtype == truncated.dtype == np.bool_
        length = np.where(starts, 0, length + 1)
        assert not (starts & (terminated | truncated)).any()
        assert not reward[starts].any()
        assert np.array_equal(truncated, length == 25)
        starts = terminated | truncated
        seen["terminated"] += int(terminated.sum())
        seen["truncated"] += int((truncated & ~terminated).sum())
    assert min(seen.values()) > 0, seen


@pytest.mark.parametrize("env_id", [HOPPER, "ssmrl/Point-v0"])
def test_the_last_observation_is_the_same_whichever_way_a_loop_starts_again(env_id: str) -> None:
    """In the step that ends an episode, or in ``final_obs`` where Gymnasium starts at once."""
    same_step = {"autoreset_mode": AutoresetMode.SAME_STEP}
    at_once = scripted(env_id, 25, vectorization_mode="sync", vector_kwargs=same_step)
    by_next = scripted(env_id, 25)
    assert np.array_equal(at_once[0][0], by_next[0][0])
    going, num_ends = np.ones(3, dtype=np.bool_), 0
    for now, then in zip(at_once[1:], by_next[1:], strict=True):  # equal until an end
        for index in range(1, 4):
            assert np.array_equal(now[index][going], then[index][going])
        ends = going & (then[2] | then[3])
        for lane in np.flatnonzero(ends):
            assert np.array_equal(now[4]["final_obs"][lane], then[0][lane])
            assert not np.array_equal(now[0][lane], then[0][lane])
            assert "final_info" in now[4]
        assert np.array_equal(now[0][going & ~ends], then[0][going & ~ends])
        num_ends += int(ends.sum())
        going &= ~ends
    assert num_ends == 3


@pytest.mark.parametrize("env_id", ["ssmrl/HalfCheetahVel-v0", HOPPER, "ssmrl/Point-v0"])
def test_what_a_step_returned_is_the_callers(env_id: str) -> None:
    """A loop may keep it without a copy: no later step writes into it, or reads what it wrote."""
    envs, untouched = (gymnasium.make_vec(env_id, 3, horizon=4) for _ in range(2))
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    for each in (envs, untouched):
        each.reset(seed=0)
    action = np.full(envs.action_space.shape, 0.5, np.float32)
    for _ in range(11):
        step, other = envs.step(action), untouched.step(action)
        for mine, theirs in zip(step[:4], other[:4], strict=True):
            assert np.array_equal(mine, theirs)
            kept.append((theirs, theirs.copy()))
            mine[:] = 1
    assert all(np.array_equal(array, copy) for array, copy in kept)
    assert (action == 0.5).all()


@pytest.mark.parametrize("env_id", ["ssmrl/HalfCheetahVel-v0", HOPPER, "ssmrl/Point-v0"])
def test_one_environment_says_what_gymnasium_expects(env_id: str) -> None:
    """Through the checks that ``gymnasium.make`` adds, which only warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(env_id, horizon=5)
        observation, info = env.reset(seed=0)
        env.action_space.seed(0)
        ended = False
        while not ended:
            assert observation in env.observation_space
            assert info == {}
            observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
            assert [type(each) for each in (reward, terminated, truncated)] == [float, bool, bool]
            ended = terminated or truncated


@pytest.mark.parametrize("mode", ["sync", "vector_entry_point"])
def test_the_seeds_of_many_simulations_can_be_read(mode: str) -> None:
    """As one logs them, to make a run again: they were others than those of ``reset``."""
    envs = gymnasium.make_vec("ssmrl/Point-v0", 3, vectorization_mode=mode)
    envs.reset()
    goals = scripted_rewards(envs)
    assert len(set(envs.np_random_seed)) == 3
    envs.reset(seed=list(envs.np_random_seed))
    assert np.array_equal(scripted_rewards(envs), goals)
    envs.reset(seed=7)
    assert envs.np_random_seed == (7, 8, 9)
    assert [type(each) for each in envs.np_random] == [np.random.Generator] * 3


def scripted_rewards(envs: VectorEnv[Any, Any, Any]) -> np.ndarray:
    return np.stack([envs.step(np.full((3, 2), 0.5, np.float32))[1] for _ in range(3)])


def test_the_usual_wrappers_of_a_loop_hold() -> None:
    def one() -> gymnasium.Env[Any, Any]:
        env: gymnasium.Env[Any, Any] = gymnasium.make(HOPPER, num_episodes_per_trial=1)
        env = wrappers.FlattenObservation(env)
        env = wrappers.RecordEpisodeStatistics(env)
        env = wrappers.ClipAction(env)
        env = wrappers.NormalizeObservation(env)
        return wrappers.NormalizeReward(env, gamma=DISCOUNT)

    many = wrappers.vector.RecordEpisodeStatistics(gymnasium.make_vec(HOPPER, 3))
    many = wrappers.vector.NormalizeReward(wrappers.vector.NormalizeObservation(many))
    many = wrappers.vector.ClipAction(many)
    for envs in (gymnasium.vector.SyncVectorEnv([one] * 3), many):
        envs.reset(seed=0)
        lengths: list[int] = []
        for _ in range(150):
            observation, reward, _, _, info = envs.step(np.full((3, 3), 2.0, np.float32))
            assert np.isfinite(observation).all()
            assert np.isfinite(reward).all()
            lengths += info["episode"]["l"][info["_episode"]].tolist() if "episode" in info else []
        assert lengths
        assert max(lengths) <= 100
