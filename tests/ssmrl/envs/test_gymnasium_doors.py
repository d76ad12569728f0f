"""What the Gymnasium environments refuse, by name, before anything is changed; and their copies."""

import copy
import pickle
from typing import Any

import gymnasium
import numpy as np
import pytest

from ssmrl.envs.environment import Environment
from ssmrl.envs.gymnasium_env import TaskEnv, TaskVectorEnv
from ssmrl.envs.registration import gymnasium_id

NAN, INF = float("nan"), float("inf")
FAMILY = "halfcheetah-vel"
ID = gymnasium_id(FAMILY)


def both(**arguments: Any) -> list[Any]:
    """One simulation and three, by the names that users give."""
    return [gymnasium.make(ID, **arguments), gymnasium.make_vec(ID, 3, **arguments)]


def bare() -> list[Any]:
    """Without the wrappers of ``gymnasium.make``, which refuse some misuse themselves."""
    return [TaskEnv(FAMILY), TaskVectorEnv(3, FAMILY)]


def course(env: Any, **reset: Any) -> np.ndarray:
    observation, _ = env.reset(**reset)
    action = np.full(env.action_space.shape, 0.3, np.float32)
    steps = [env.step(action) for _ in range(3)]
    rows = [observation, *(step[0] for step in steps), *(np.atleast_1d(s[1]) for s in steps)]
    return np.concatenate([np.ravel(row) for row in rows])


@pytest.mark.parametrize(
    ("name", "value", "invariant"),
    [
        *(("horizon", v, "a whole number of at least 1") for v in (0, -3, 2.5, NAN, "9", True)),
        *(("num_episodes_per_trial", v, "a whole number of at least 1") for v in (0, 1.5)),
        *(("action_scale", v, "positive and finite") for v in (0, -1.0, NAN, INF, "1", True)),
        *(("action_scale", v, "positive and finite, as float32") for v in (1e39, 1e-46)),
        ("split", "validation", "'train' or 'test'"),
        ("render_mode", "ansi", "None or 'rgb_array'"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*render_mode='ansi'")  # Gymnasium's own word, before ours
def test_an_argument_that_cannot_be_is_refused(name: str, value: Any, invariant: str) -> None:
    for make in (gymnasium.make, gymnasium.make_vec):
        with pytest.raises(ValueError, match=f"`{name}` must be {invariant}") as caught:
            make(ID, **{name: value})
        assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "least"),
    [
        *(("num_envs", value, 1) for value in (0, -1, 2.5, NAN)),
        *(("num_threads", value, 0) for value in (-1, 0.5)),
        *(("max_episode_steps", value, 1) for value in (0, -2, 2.5, NAN)),
    ],
)
def test_a_size_of_many_simulations_that_cannot_be_is_refused(
    name: str, value: Any, least: int
) -> None:
    invariant = f"`{name}` must be a whole number of at least {least}, but got {value!r}"
    with pytest.raises(ValueError, match=invariant):
        gymnasium.make_vec(ID, **{name: value})


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, NAN, "2", None])
def test_a_batch_size_that_cannot_be_is_refused(batch_size: Any) -> None:
    with pytest.raises(ValueError, match="`batch_size` must be a whole number of at least 1"):
        Environment("CartPole-v1", batch_size)


def test_sizes_may_be_of_any_integer_type() -> None:
    for env in both(horizon=np.int64(2), num_episodes_per_trial=np.uint8(1)):
        env.reset(seed=0)
        ends = [env.step(np.zeros(env.action_space.shape, np.float32))[3] for _ in range(2)]
        assert np.all(np.logical_not(ends[0]))
        assert np.all(ends[1])
    assert Environment("CartPole-v1", np.int32(2)).batch_size == 2


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"parameters": (NAN,)}, ValueError, r"`parameters` must be finite, but got \(nan,\)"),
        ({"parameters": (INF,)}, ValueError, "`parameters` must be finite"),
        ({"parameters": (1.0, 2.0)}, ValueError, "`parameters` must be the 1 hidden variables"),
        ({"parameters": 1.0}, ValueError, "`parameters` must be the 1 hidden variables"),
        ({"parameters": "1"}, ValueError, "`parameters` must be the 1 hidden variables"),
        ({"parameters": ("1",)}, ValueError, "`parameters` must be the 1 hidden variables"),
        ({"new_task": "no"}, ValueError, "`new_task` must be true or false, but got 'no'"),
        ({"task": 1.0}, KeyError, "unknown options"),
        (5, ValueError, "`options` must be a mapping, but got 5"),
    ],
)
def test_a_wrong_option_is_refused_and_leaves_no_trace(
    options: Any, error: type[Exception], message: str
) -> None:
    for env in bare():
        env.reset(seed=0)
        undisturbed = course(env)
        env.reset(seed=0)
        with pytest.raises(error, match=message):
            env.reset(seed=1, options=options)
        assert np.array_equal(course(env), undisturbed)


@pytest.mark.parametrize("multiplier", [0.0, -1.0, NAN])
def test_a_multiplier_that_cannot_be_leaves_the_task_as_it_was(multiplier: float) -> None:
    for env in (TaskEnv("hopper-mass"), TaskVectorEnv(2, "hopper-mass")):
        env.reset(seed=0)
        undisturbed = course(env)
        env.reset(seed=0)
        with pytest.raises(ValueError, match=r"`parameters` must be (positive multipliers|finite)"):
            env.reset(options={"parameters": [multiplier, 1.0, 1.0, 1.0]})
        assert np.array_equal(course(env), undisturbed)


@pytest.mark.parametrize("width", [0, 1, 5, 7])
def test_an_action_of_another_shape_is_refused(width: int) -> None:
    """One number would otherwise be the input of every motor."""
    for env in bare():
        env.reset(seed=0)
        shape = (*env.action_space.shape[:-1], width)
        for wrong in (np.zeros(shape), np.zeros((1, *env.action_space.shape)), 0.0):
            with pytest.raises(ValueError, match="`action` must be real numbers") as caught:
                env.step(wrong)
            assert str(env.action_space.shape) in str(caught.value)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_an_action_that_is_not_finite_is_refused(value: float) -> None:
    for env in bare():
        env.reset(seed=0)
        action = np.zeros(env.action_space.shape)
        action.flat[-1] = value
        with pytest.raises(ValueError, match="`action` must be finite, but lanes"):
            env.step(action)
        action.flat[-1] = 0.0
        assert np.isfinite(env.step(action)[1]).all(), "nothing of it reached the simulation"


@pytest.mark.parametrize("dtype", [np.complex128, np.str_, np.object_, np.bool_])
def test_an_action_of_no_real_numbers_is_refused(dtype: type) -> None:
    for env in bare():
        env.reset(seed=0)
        with pytest.raises(ValueError, match="`action` must be real numbers"):
            env.step(np.zeros(env.action_space.shape).astype(dtype))


def test_a_step_before_the_first_reset_is_refused() -> None:
    for env in (*bare(), *both()):
        with pytest.raises(gymnasium.error.ResetNeeded, match="reset"):
            env.step(np.zeros(env.action_space.shape, np.float32))


@pytest.mark.parametrize("made_by", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_is_made_anew_as_gymnasiums_own_are(made_by: Any) -> None:
    """Of the same settings, with nothing played; it and the first do not disturb each other."""
    settings = {"horizon": 2, "split": "test"}
    for env in both(**settings):
        env.reset(seed=0)
        undisturbed = course(env)
        env.reset(seed=0)
        other = made_by(env)
        if not isinstance(env, gymnasium.vector.VectorEnv):
            robot = gymnasium.make("HalfCheetah-v5")
            robot.reset(seed=0)
            assert type(made_by(robot).unwrapped) is type(robot.unwrapped)
        with pytest.raises(gymnasium.error.ResetNeeded):
            other.unwrapped.step(np.zeros(env.action_space.shape, np.float32))
        other.reset(seed=0)
        assert np.array_equal(course(other), undisturbed)
        assert np.array_equal(course(env), undisturbed)


@pytest.mark.parametrize("env_name", ["CartPole-v1", ID])
@pytest.mark.parametrize("made_by", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_of_a_batch_of_any_environment(env_name: str, made_by: Any) -> None:
    with Environment(env_name, 2, seed=3) as environment:
        start = environment.reset()
        with made_by(environment) as other:
            with pytest.raises(RuntimeError, match="must be reset before its first step"):
                other.step(np.zeros(2, dtype=np.int64))
            assert np.array_equal(other.reset(), start)
            assert (other.batch_size, other.action_dim) == (2, environment.action_dim)


@pytest.mark.parametrize("max_episode_steps", [1, 3, 9, -1, None])
def test_episodes_of_many_simulations_are_cut_as_those_of_one(
    max_episode_steps: int | None,
) -> None:
    """``gymnasium.make`` has a wrapper for it, which many simulations do not."""
    arguments: dict[str, Any] = {"horizon": 5, "max_episode_steps": max_episode_steps}
    many, alone = gymnasium.make_vec(ID, 2, **arguments), gymnasium.make(ID, **arguments)
    many.reset(seed=0)
    alone.reset(seed=0)
    for _ in range(12):
        wanted = alone.step(np.zeros(6, np.float32))
        got = many.step(np.zeros((2, 6), np.float32))
        assert np.array_equal(got[0][0], wanted[0])
        assert (got[1][0], got[2][0], got[3][0]) == wanted[1:4]
        if wanted[3]:
            alone.reset()
            many.step(np.zeros((2, 6), np.float32))


def test_an_id_may_name_the_module_that_registers_it() -> None:
    own = f"ssmrl.envs.registration:{ID}"
    assert gymnasium.make(own).spec is not None
    for env_name in (own, "gymnasium.envs:CartPole-v1"):
        with Environment(env_name, 2, seed=0) as environment:
            assert type(environment.vector_env.unwrapped).__name__ == (
                "TaskVectorEnv" if env_name == own else "SyncVectorEnv"
            )
            assert environment.reset().shape == (2, environment.observation_dim)


@pytest.mark.parametrize(
    "env_name",
    ["no_such_module:CartPole-v1", "os.no_such:X-v0", ":CartPole-v1", ".os:X-v0", "a b:X"],
)
def test_an_id_of_no_module_is_refused(env_name: str) -> None:
    with pytest.raises(KeyError, match="there is no module") as caught:
        Environment(env_name)
    assert env_name in str(caught.value)


def test_an_id_that_its_module_does_not_register_is_answered_with_near_ones() -> None:
    with pytest.raises(KeyError, match=r"unknown environment 'os:CartPol-v1'.*CartPole-v1"):
        Environment("os:CartPol-v1")
