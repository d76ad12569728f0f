"""Seeds at the environments' doors: what Gymnasium or numpy takes works, the rest is refused."""

from typing import Any

import gymnasium
import numpy as np
import pytest

import ssmrl.envs.registration  # noqa: F401  # registers the names
from ssmrl.envs.environment import Environment

ID = "ssmrl/HalfCheetahVel-v0"
NO_SEEDS: list[Any] = [
    -1,
    np.int64(-1),
    0.0,
    np.float64(1.0),
    float("nan"),
    "0",
    b"0",
    {},
    1j,
]
every_wrong_seed = pytest.mark.parametrize("seed", NO_SEEDS, ids=repr)


def course(env: Any, **reset: Any) -> np.ndarray:
    """What is seen and earned from a reset on; it depends on the start and on the hidden task."""
    observation, _ = env.reset(**reset)
    action = np.full(env.action_space.shape, 0.3, np.float32)
    rows = [np.asarray(observation).ravel()]
    for _ in range(3):
        observation, reward, *_ = env.step(action)
        rows.append(np.concatenate([np.asarray(observation).ravel(), np.atleast_1d(reward)]))
    return np.concatenate(rows)


@pytest.mark.parametrize(
    ("seed", "meant"),
    [
        (np.int64(5), 5),
        (np.uint8(5), 5),
        (np.array(5), 5),
        (True, 1),
        (2**32, 2**32),
        (2**80, 2**80),
    ],
    ids=repr,
)
def test_every_kind_of_whole_number_is_a_seed(seed: Any, meant: int) -> None:
    for env in (gymnasium.make(ID), gymnasium.make_vec(ID, 3)):
        assert np.array_equal(course(env, seed=seed), course(env, seed=meant))
        assert not np.array_equal(course(env, seed=meant + 1), course(env, seed=meant))


@pytest.mark.parametrize(
    "seeds", [[5, None, 9], (5, None, np.int64(9)), np.array([5, 2, 9]), [None] * 3], ids=repr
)
def test_a_list_seeds_lane_by_lane_as_each_lane_alone_would_be(seeds: Any) -> None:
    """Also a lane without a seed: it goes on, with its own task and its own draws."""
    many, alone = gymnasium.make_vec(ID, 3), [gymnasium.make(ID) for _ in range(3)]
    many.reset(seed=40)
    for lane, env in enumerate(alone):
        env.reset(seed=40 + lane)
    together, _ = many.reset(seed=seeds)
    rewards = many.step(np.zeros((3, 6), np.float32))[1]
    for lane, (env, seed) in enumerate(zip(alone, seeds, strict=True)):
        assert np.array_equal(env.reset(seed=seed)[0], together[lane]), lane
        assert env.step(np.zeros(6, np.float32))[1] == rewards[lane], lane


@every_wrong_seed
@pytest.mark.parametrize("num_envs", [1, 3])
def test_what_is_no_seed_is_refused_and_leaves_no_trace(seed: Any, num_envs: int) -> None:
    env = gymnasium.make(ID) if num_envs == 1 else gymnasium.make_vec(ID, num_envs)
    env.reset(seed=0)
    undisturbed = course(env)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="`seed` must be a whole number of at least 0") as caught:
        env.reset(seed=seed)
    assert repr(seed) in str(caught.value)
    assert np.array_equal(course(env), undisturbed)


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([1, 2], "`seed` must have one entry for each of 3 simulations, but got 2"),
        ([], "for each of 3 simulations, but got 0"),
        ([1, 2, 3, 4], "for each of 3 simulations, but got 4"),
        ([1, 2, -3], r"`seed\[2\]` must be a whole number of at least 0, but got -3"),
        ([1, 2.5, 3], r"`seed\[1\]` must be a whole number of at least 0, but got 2.5"),
        (np.array([1.0, 2.0, 3.0]), r"`seed\[0\]` must be a whole number"),
        (np.ones((3, 1), dtype=np.int64), r"`seed\[0\]` must be a whole number"),
    ],
    ids=repr,
)
def test_a_wrong_list_seeds_no_lane(seeds: Any, message: str) -> None:
    env = gymnasium.make_vec(ID, 3)
    env.reset(seed=0)
    undisturbed = course(env)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.reset(seed=seeds)
    assert np.array_equal(course(env), undisturbed)


@pytest.mark.parametrize("env_name", ["CartPole-v1", "ssmrl/Point-v0", ID])
def test_the_batch_of_any_environment_takes_the_same_seeds(env_name: str) -> None:
    def start(seed: Any) -> np.ndarray:
        with Environment(env_name, 2, seed=seed) as environment:
            environment.reset()
            return np.asarray(environment.vector_env.reset(seed=None)[0])

    assert np.array_equal(start(np.int64(7)), start(7))
    assert np.array_equal(start([7, 8]), start(7))
    assert np.array_equal(start(np.array([7, 8])), start(7))
    assert start(2**40).shape == start(7).shape


@every_wrong_seed
def test_the_batch_of_any_environment_refuses_what_is_no_seed(seed: Any) -> None:
    with pytest.raises(ValueError, match="`seed` must be a whole number of at least 0"):
        Environment("CartPole-v1", 2, seed=seed)


def test_the_batch_of_any_environment_refuses_a_short_list() -> None:
    with pytest.raises(ValueError, match="one entry for each of 2 simulations, but got 1"):
        Environment("CartPole-v1", 2, seed=[1])
