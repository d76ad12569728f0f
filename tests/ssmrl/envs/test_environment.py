"""The batched Gymnasium environment against Gymnasium's own, one lane at a time."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from ssmrl.envs.environment import Environment

IDS = ["CartPole-v1", "Pendulum-v1", "HalfCheetah-v5", "ssmrl/Point-v0", "ssmrl/AntVel-v0"]
every_id = pytest.mark.parametrize("env_name", IDS)


def random_actions(environment: Environment, num_steps: int, seed: int = 0) -> list[np.ndarray]:
    rng, space = np.random.default_rng(seed), environment.vector_env.single_action_space
    shape = (num_steps, environment.batch_size)
    if isinstance(space, gymnasium.spaces.Discrete):
        return list(rng.integers(0, environment.action_dim, shape))
    return list(rng.uniform(-1.0, 1.0, (*shape, environment.action_dim)).astype(np.float32))


@every_id
def test_every_lane_equals_gymnasiums_own_environment_bit_for_bit(env_name: str) -> None:
    """With an end, its last observation and the next-step reset, done by hand in the twin."""
    with Environment(env_name, batch_size=3, seed=7) as environment:
        twins = [gymnasium.make(env_name) for _ in range(3)]
        observation = environment.reset()
        wanted = [twin.reset(seed=7 + lane)[0] for lane, twin in enumerate(twins)]
        assert np.array_equal(observation, np.array(wanted, dtype=np.float32))
        starts = [False] * 3
        for action in random_actions(environment, 250):
            observation, reward, done, info = environment.step(action)
            for lane, twin in enumerate(twins):
                result: tuple[Any, ...]
                if starts[lane]:
                    result = (twin.reset()[0], 0.0, False, False)
                else:
                    result = twin.step(action[lane])[:4]
                assert np.array_equal(observation[lane], np.asarray(result[0], dtype=np.float32))
                assert reward[lane] == result[1]
                assert (info["terminated"][lane], info["truncated"][lane]) == result[2:4]
                assert info["first"][lane] == starts[lane]
                starts[lane] = result[2] or result[3]
                assert done[lane] == starts[lane]


def test_the_twin_saw_both_kinds_of_end() -> None:
    """Guards the test above, and law 5: a fallen pole is not a time limit."""
    ends = {}
    for env_name in ("CartPole-v1", "Pendulum-v1"):
        with Environment(env_name, 3, seed=7) as environment:
            environment.reset()
            infos = [environment.step(action)[3] for action in random_actions(environment, 250)]
        ends[env_name] = [any(i[k].any() for i in infos) for k in ("terminated", "truncated")]
    assert ends == {"CartPole-v1": [True, False], "Pendulum-v1": [False, True]}


@every_id
def test_shapes_types_and_sizes(env_name: str) -> None:
    with Environment(env_name, batch_size=2, seed=0) as environment:
        observation = environment.reset()
        assert observation.shape == (2, environment.observation_dim)
        assert observation.dtype == np.float32
        observation, reward, done, info = environment.step(random_actions(environment, 1)[0])
        assert observation.shape == (2, environment.observation_dim)
        assert (reward.shape, reward.dtype) == ((2,), np.float64)
        for flag in (done, info["terminated"], info["truncated"], info["first"]):
            assert (flag.shape, flag.dtype) == ((2,), np.bool_)


def test_one_seed_gives_one_course_and_a_reset_goes_on_from_it() -> None:
    def course(seed: int) -> np.ndarray:
        with Environment("CartPole-v1", 2, seed=seed) as environment:
            parts = [environment.reset(), environment.reset()]
            parts += [environment.step(action)[0] for action in random_actions(environment, 40)]
            return np.array(parts)

    once = course(3)
    assert np.array_equal(once, course(3))
    assert not np.array_equal(once[0], course(4)[0])
    assert not np.array_equal(once[0], once[1]), "the second reset draws new initial states"
    assert not np.array_equal(once[0, 0], once[0, 1]), "lanes differ"


def test_what_was_returned_does_not_change_later() -> None:
    with Environment("CartPole-v1", 2, seed=0) as environment:
        observation = environment.reset()
        kept, results = observation.copy(), []
        for action in random_actions(environment, 60):
            _, _, done, info = environment.step(action)
            results.append((done, info, done.copy(), info["first"].copy()))
        assert np.array_equal(observation, kept)
        for done, info, done_then, first_then in results:
            assert np.array_equal(done, done_then)
            assert np.array_equal(info["first"], first_then)
        assert any(done.any() for done, *_ in results)


@pytest.mark.parametrize("env_name", ["CartPole-v1", "Pendulum-v1"])
def test_torch_actions_equal_numpy_actions(env_name: str) -> None:
    results = []
    for as_torch in (False, True):
        with Environment(env_name, 2, seed=0) as environment:
            environment.reset()
            for action in random_actions(environment, 5):
                tensor = torch.from_numpy(action)
                if tensor.is_floating_point():
                    tensor.requires_grad_()
                observation, *_ = environment.step(tensor if as_torch else action)
            results.append(observation)
    assert np.array_equal(*results)


def test_discrete_observations_are_one_hot() -> None:
    with Environment("FrozenLake-v1", 2, seed=0) as environment:
        assert (environment.observation_dim, environment.action_dim) == (16, 4)
        assert np.array_equal(environment.reset(), np.eye(16)[[0, 0]])


@pytest.mark.parametrize(
    ("env_name", "near"),
    [
        ("CartPol-v1", "CartPole-v1"),
        ("CartPole", "CartPole-v1"),
        ("CartPole-v9", "CartPole-v1"),
        ("pendulum-v1", "Pendulum-v1"),
        ("HalfCheeta-v5", "HalfCheetah-v5"),
        ("", "none is near"),
        ("nowhere/Nothing-at-all", "none is near"),
    ],
)
def test_a_mistyped_name_is_answered_with_near_ones(env_name: str, near: str) -> None:
    with pytest.raises(KeyError, match="unknown environment") as caught:
        Environment(env_name)
    assert near in str(caught.value)
    assert repr(env_name) in str(caught.value)


@pytest.mark.parametrize(
    ("env_name", "action", "match"),
    [
        ("Pendulum-v1", np.zeros(2), r"must be \(2, 1\), but got \(2,\)"),
        ("Pendulum-v1", np.zeros((1, 1)), r"must be \(2, 1\), but got \(1, 1\)"),
        ("Pendulum-v1", torch.tensor([[0.0], [torch.nan]]), r"finite, but lanes \[1\] have"),
        ("CartPole-v1", np.zeros((2, 1), dtype=np.int64), r"must be \(2,\), but got \(2, 1\)"),
        ("CartPole-v1", np.array([0.0, 1.0]), "must be an integer, but got float64"),
        ("CartPole-v1", np.array([0, 2]), r"Discrete\(2\), but lanes \[1\] have \[2\]"),
        ("CartPole-v1", np.array([-1, 0]), r"lanes \[0\] have \[-1\]"),
    ],
)
def test_wrong_actions_are_refused(
    env_name: str, action: np.ndarray | torch.Tensor, match: str
) -> None:
    with Environment(env_name, 2, seed=0) as environment:
        environment.reset()
        with pytest.raises(ValueError, match=match):
            environment.step(action)


def test_other_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match="`batch_size` must be a whole number of at least 1"):
        Environment("CartPole-v1", 0)
    environment = Environment("CartPole-v1", 2)
    with pytest.raises(RuntimeError, match="must be reset before its first step"):
        environment.step(np.array([0, 1]))
    environment.close()
    environment.close()
