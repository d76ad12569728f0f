"""The locomotion families against Gymnasium's own v5 environments, bit for bit."""

from collections.abc import Callable

import numpy as np
import pytest

from ssmrl.envs.families import FAMILIES, get_family
from ssmrl.envs.locomotion import LocomotionEnv
from ssmrl.envs.task import TaskFamily
from tests.ssmrl.envs.plain_physics import GymnasiumRobots

NUM_ENVS, NUM_STEPS = 3, 500
ROBOTS = {"halfcheetah-vel": "half_cheetah", "halfcheetah-dir": "half_cheetah", "ant-vel": "ant"}

# The literature's rewards, written again from Gymnasium's raw velocity and the action:
# (hidden variable, x velocity [m/s], action) -> reward of one robot.
REWARDS: dict[str, Callable[[float, float, np.ndarray], float]] = {
    "halfcheetah-vel": lambda goal, v, a: -abs(v - goal) - 0.05 * np.sum(np.square(a)),
    "halfcheetah-dir": lambda sign, v, a: sign * v - 0.05 * np.sum(np.square(a)),
    "ant-vel": lambda goal, v, a: (1 - abs(v - goal)) - 0.005 * np.sum(np.square(a)) + 0.05,
}


def make(name: str, num_threads: int = 1, action_scale: float = 1.0) -> LocomotionEnv:
    env = get_family(name).make_env(NUM_ENVS, NUM_STEPS, action_scale, num_threads)
    assert isinstance(env, LocomotionEnv)
    return env


class Pair:
    """Our batch and Gymnasium's environments, always put into the same states."""

    def __init__(self, name: str, num_threads: int) -> None:
        self.env = make(name, num_threads)
        self.peer = GymnasiumRobots(ROBOTS[name], NUM_ENVS)
        self._rng = np.random.default_rng(0)

    def restart(self, ids: np.ndarray) -> None:
        rest, still = self.peer.rest
        position = rest + self._rng.uniform(-0.1, 0.1, (len(ids), len(rest)))
        velocity = still + 0.1 * self._rng.standard_normal((len(ids), len(still)))
        self.env.set_state(ids, position, velocity)
        for row, index in enumerate(ids):
            self.peer.set_state(int(index), position[row], velocity[row])


def test_every_locomotion_family_is_compared() -> None:
    assert set(ROBOTS) == set(REWARDS) == set(FAMILIES) - {"point"}


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("name", ROBOTS)
def test_equals_gymnasium_over_500_random_steps(name: str, num_threads: int) -> None:
    """Observation, reward and termination, with every reward term recomputed from raw velocity.

    Every published number of these families rests on Gymnasium's dynamics; an error in frame
    skip, in which velocity counts or in how an episode starts would show here and nowhere else.
    """
    pair = Pair(name, num_threads)
    hidden = [1.0, -1.0, 1.0] if name == "halfcheetah-dir" else [0.0, 1.3, 3.0]
    pair.env.set_tasks([(value,) for value in hidden])
    pair.restart(np.arange(NUM_ENVS))
    rng = np.random.default_rng(1)
    num_ended = 0
    for t in range(NUM_STEPS):
        action = rng.uniform(-1.0, 1.0, (NUM_ENVS, pair.env.action_dim))
        ours, theirs = pair.env.step(action), pair.peer.step(action)
        assert np.array_equal(ours.observation, theirs["observation"]), f"{t=}"
        assert np.array_equal(ours.terminated, theirs["terminated"]), f"{t=}"
        wanted = [
            REWARDS[name](*each) for each in zip(hidden, theirs["x_velocity"], action, strict=True)
        ]
        assert np.array_equal(ours.reward, wanted), f"{t=}"
        if name == "halfcheetah-dir":
            forwards = np.array(hidden) == 1.0
            assert np.array_equal(ours.reward[forwards], theirs["reward"][forwards]), f"{t=}"
        num_ended += int(ours.terminated.sum())
        again = ours.terminated | (np.arange(NUM_ENVS) == (t // 100) % NUM_ENVS) & (t % 100 == 99)
        pair.restart(np.flatnonzero(again))
    assert (num_ended >= 5) == (ROBOTS[name] == "ant"), f"{num_ended=}"


def test_ant_ends_as_gymnasium_does_near_the_borders_of_health() -> None:
    """Healthy is 0.2 m <= height <= 1 m after the step; falling and rising ants."""
    pair = Pair("ant-vel", 1)
    pair.env.set_tasks([(0.0,)] * NUM_ENVS)
    rest, still = pair.peer.rest
    velocity = np.tile(still, (NUM_ENVS, 1))
    velocity[:, 2] = [-20.0, -8.0, 3.0]
    height, ended = [], []
    for start in np.arange(0.05, 1.2, 0.01):
        position = np.tile(rest, (NUM_ENVS, 1))
        position[:, 2] = start
        pair.env.set_state(np.arange(NUM_ENVS), position, velocity)
        for index in range(NUM_ENVS):
            pair.peer.set_state(index, position[index], velocity[index])
        action = np.zeros((NUM_ENVS, 8))
        ours, theirs = pair.env.step(action), pair.peer.step(action)
        assert np.array_equal(ours.terminated, theirs["terminated"]), f"{start=}"
        height.extend(ours.observation[:, 0])
        ended.extend(ours.terminated)
    for low, high, ends in ((0.15, 0.2, 1), (0.2, 0.25, 0), (0.95, 1.0, 0), (1.0, 1.05, 1)):
        seen = [end for z, end in zip(height, ended, strict=True) if low < z < high]
        assert len(seen) >= 2, f"no ant ended up between {low} m and {high} m"
        assert set(seen) == {bool(ends)}


@pytest.mark.parametrize("name", ROBOTS)
def test_episodes_start_as_gymnasium_starts_them(name: str) -> None:
    """The same generator gives the same noise around the same rest position, bit for bit."""
    env, peer = make(name), GymnasiumRobots(ROBOTS[name], NUM_ENVS)
    seeds = [11, 12, 13]
    everyone = np.ones(NUM_ENVS, dtype=np.bool_)
    observation = env.reset(everyone, [np.random.default_rng(seed) for seed in seeds])
    assert np.array_equal(observation, peer.reset(seeds))
    assert observation.shape == (NUM_ENVS, 27 if name == "ant-vel" else 17)


@pytest.mark.parametrize("name", ROBOTS)
def test_action_scale_is_division_and_clipping_by_hand(name: str) -> None:
    """Dynamics and control cost both see the scaled action; otherwise the knob changes the task."""
    scaled, plain = make(name, action_scale=10.0), make(name)
    rng = np.random.default_rng(2)
    for env in (scaled, plain):
        env.set_tasks([(1.0,)] * NUM_ENVS)
        rngs = [np.random.default_rng([3, index]) for index in range(NUM_ENVS)]
        env.reset(np.ones(NUM_ENVS, dtype=np.bool_), rngs)
    num_clipped = 0
    for _ in range(50):
        action = rng.normal(0.0, 8.0, (NUM_ENVS, scaled.action_dim))
        by_hand = np.minimum(np.maximum(action / 10.0, -1.0), 1.0)
        num_clipped += int((np.abs(action) > 10.0).sum())
        ours, theirs = scaled.step(action), plain.step(by_hand)
        assert np.array_equal(ours.observation, theirs.observation)
        assert np.array_equal(ours.reward, theirs.reward)
        cost = {"ant-vel": 0.005}.get(name, 0.05) * np.square(by_hand).sum(1)
        np.testing.assert_allclose(ours.terms["control"], -cost, rtol=1e-12)
    assert num_clipped > 0


@pytest.mark.parametrize("name", ROBOTS)
def test_the_bound_is_the_best_of_all_fixed_velocities(name: str) -> None:
    """Reports draw this line as what no policy without adaptation exceeds."""
    family: TaskFamily = get_family(name)
    # Midpoints: their mean distance to a velocity is that of the uniform distribution.
    midpoints = (np.arange(300) + 0.5) / 100
    hidden = np.array([1.0, -1.0]) if name == "halfcheetah-dir" else midpoints
    mean_rewards = [
        np.mean([REWARDS[name](goal, velocity, np.zeros(6)) for goal in hidden])
        for velocity in np.linspace(-4.0, 6.0, 101)
    ]
    assert max(mean_rewards) == pytest.approx(family.bound_per_step, abs=1e-6)
    assert family.no_adaptation_bound(100) == pytest.approx(100 * family.bound_per_step)
