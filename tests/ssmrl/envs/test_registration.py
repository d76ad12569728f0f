"""The families as Gymnasium environments, one simulation and many."""

import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, VectorEnv

from ssmrl.envs.families import FAMILIES
from ssmrl.envs.registration import gymnasium_id

every_family = pytest.mark.parametrize("name", FAMILIES)
# One of each kind: reward, dynamics, ends of episodes, two tasks, the largest, the toy.
SOME = ("halfcheetah-vel", "hopper-friction", "ant-dir-fb", "humanoid-mass", "point")


def make(name: str, **arguments: Any) -> gymnasium.Env[np.ndarray, np.ndarray]:
    return gymnasium.make(gymnasium_id(name), **arguments)


def make_vec(name: str, num_envs: int, **arguments: Any) -> VectorEnv[Any, Any, Any]:
    return gymnasium.make_vec(gymnasium_id(name), num_envs=num_envs, **arguments)


def episode(
    env: gymnasium.Env[np.ndarray, np.ndarray], num_steps: int = 8, **reset: Any
) -> np.ndarray:
    """Observations and rewards of an episode with fixed actions, one row a step."""
    observation, _ = env.reset(**reset)
    rows = [[*observation, 0.0]]
    for action in np.random.default_rng(0).uniform(-1, 1, (num_steps, *env.action_space.shape)):
        observation, reward, terminated, truncated, _ = env.step(action.astype(np.float32))
        rows.append([*observation, reward])
        if terminated or truncated:
            break
    return np.array(rows)


@every_family
def test_passes_gymnasiums_own_checker(name: str) -> None:
    with warnings.catch_warnings():
        # It finds infinite bounds of observations odd, as it does with Gymnasium's own robots.
        warnings.filterwarnings("ignore", message=".*observation space m.* value is -?inf.*")
        # A robot needs a renderer, which not every machine has: `test_rendering` draws some.
        check_env(make(name).unwrapped, skip_render_check=name != "point")


@every_family
def test_many_simulations_are_one_batch(name: str) -> None:
    """Not Gymnasium's loop over environments, which is several times slower."""
    env = make_vec(name, 3)
    assert type(env.unwrapped).__name__ == "TaskVectorEnv"
    assert env.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    assert env.observation_space.contains(observation)
    assert reward.shape == terminated.shape == truncated.shape == (3,)
    assert terminated.dtype == truncated.dtype == np.bool_
    assert info == {}


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("num_episodes_per_trial", [None, 2])
def test_each_simulation_is_the_single_environment(
    name: str, num_episodes_per_trial: int | None
) -> None:
    """Bit for bit, through ends, starts by the next step, and new tasks of some but not others."""
    arguments = {"horizon": 7, "num_episodes_per_trial": num_episodes_per_trial}
    many = make_vec(name, 3, num_threads=2, **arguments)
    alone = [make(name, **arguments) for _ in range(3)]
    together, info = many.reset(seed=5)
    assert info == {}
    for lane, env in enumerate(alone):
        assert np.array_equal(together[lane], env.reset(seed=5 + lane)[0])
    ended = np.zeros(3, dtype=np.bool_)
    rng = np.random.default_rng(0)
    for t in range(40):
        actions = rng.uniform(-1, 1, many.action_space.shape).astype(np.float32)
        observation, reward, terminated, truncated, info = many.step(actions)
        assert info == {}
        for lane, env in enumerate(alone):
            if ended[lane]:
                wanted: tuple[Any, ...] = (env.reset()[0], 0.0, False, False)
            else:
                wanted = env.step(actions[lane])[:4]
            got = (reward[lane], terminated[lane], truncated[lane])
            assert np.array_equal(observation[lane], wanted[0]), f"{t=} {lane=}"
            assert got == wanted[1:], f"{t=} {lane=}"
        ended = terminated | truncated
    assert np.array_equal(many.step(actions)[0].shape, many.observation_space.shape)


@every_family
def test_a_seed_gives_one_trial(name: str) -> None:
    env, other = make(name), make(name)
    first = episode(env, seed=3)
    episode(env)
    assert np.array_equal(episode(env, seed=3), first), "whatever was played before"
    assert np.array_equal(episode(other, seed=3), first)
    assert not np.array_equal(episode(env, seed=4), first)


def hidden_task(env: gymnasium.Env[np.ndarray, np.ndarray]) -> tuple[float, ...]:
    parameters: tuple[float, ...] = env.unwrapped._trials._parameters[0]  # type: ignore[attr-defined]
    return parameters


@pytest.mark.parametrize(("num_episodes", "num_tasks"), [(None, 1), (1, 6), (2, 3), (4, 2)])
def test_a_task_lasts_for_one_trial(num_episodes: int | None, num_tasks: int) -> None:
    env = make("halfcheetah-vel", num_episodes_per_trial=num_episodes)
    seen = []
    for index in range(6):
        env.reset(seed=0 if index == 0 else None)
        seen.append(hidden_task(env))
    assert len(set(seen)) == num_tasks
    per_trial = num_episodes or 6
    assert [seen.index(task) // per_trial for task in seen] == [i // per_trial for i in range(6)]


def test_a_reset_can_ask_for_a_new_task_or_a_given_one() -> None:
    env = make("halfcheetah-vel")
    env.reset(seed=0)
    first = hidden_task(env)
    env.reset()
    assert hidden_task(env) == first
    env.reset(options={"new_task": True})
    assert hidden_task(env) != first
    env.reset(options={"parameters": (2.5,)})
    assert hidden_task(env) == (2.5,)
    many = make_vec("halfcheetah-vel", 2)
    many.reset(seed=0, options={"parameters": (2.5,)})
    env.reset(seed=0, options={"parameters": (2.5,)})
    action = np.zeros((2, 6), np.float32)
    assert many.step(action)[1][0] == env.step(action[0])[1]


@pytest.mark.parametrize("split", ["train", "test"])
def test_tasks_come_from_the_split_that_was_asked_for(split: str) -> None:
    env = make("halfcheetah-vel", split=split, num_episodes_per_trial=1)
    inside = []
    for index in range(60):
        env.reset(seed=0 if index == 0 else None)
        fraction = hidden_task(env)[0] / 0.3 % 1.0
        inside.append(0.45 - 1e-9 < fraction < 0.55 + 1e-9)
    assert all(inside) if split == "test" else not any(inside)


@every_family
def test_no_info_ever_holds_anything(name: str) -> None:
    """Gymnasium's info is where a hidden task would leak without anyone noticing."""
    env, many = make(name, horizon=3), make_vec(name, 2, horizon=3)
    infos = [env.reset(seed=0)[1], many.reset(seed=0)[1], env.reset(options={"new_task": True})[1]]
    for _ in range(3):
        infos.append(env.step(np.zeros(env.action_space.shape, np.float32))[4])
    for _ in range(6):
        infos.append(many.step(np.zeros(many.action_space.shape, np.float32))[4])
    assert infos == [{}] * len(infos)


def test_the_action_space_follows_the_scale() -> None:
    env = make("humanoid-vel", action_scale=10.0)
    assert env.action_space.low.min() == -10.0  # type: ignore[attr-defined]
    assert env.action_space.high.max() == 10.0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "validation"}, "`split` must be 'train' or 'test'"),
        (
            {"num_episodes_per_trial": 0},
            "`num_episodes_per_trial` must be a whole number of at least 1",
        ),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make("point", **arguments)


def test_wrong_options_are_refused() -> None:
    env = make("point")
    with pytest.raises(KeyError, match="unknown options \\['task'\\]; known are: new_task"):
        env.reset(options={"task": 1.0})
    with pytest.raises(ValueError, match="must be the 2 hidden variables"):
        env.reset(options={"parameters": (1.0,)})
