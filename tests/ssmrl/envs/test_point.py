"""The toy family: its closed forms are what the learning test measures against."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmrl.envs.families import get_family
from ssmrl.envs.point import GOAL_DISTANCE, MAX_STEP, POINT, PointEnv, best_return
from tests.contracts.property_settings import PROPERTY


def goals_around_the_circle(num: int) -> np.ndarray:
    angles = 2.0 * math.pi * np.arange(num) / num
    return GOAL_DISTANCE * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def start(goals: np.ndarray, horizon: int, action_scale: float = 1.0) -> PointEnv:
    env = PointEnv(len(goals), horizon, action_scale)
    env.set_tasks([tuple(goal) for goal in goals])
    env.reset(np.ones(len(goals), dtype=np.bool_), [])
    return env


@pytest.mark.parametrize("horizon", [1, 5, 10, 20, 33])
def test_the_closed_form_is_the_return_of_going_straight_to_the_goal(horizon: int) -> None:
    goals = goals_around_the_circle(16)
    env = start(goals, horizon)
    position, total = np.zeros_like(goals), np.zeros(16)
    for _ in range(horizon):
        step = env.step((goals - position) / MAX_STEP)
        position, total = step.observation, total + step.reward
    np.testing.assert_allclose(total, best_return(horizon), rtol=1e-12, atol=1e-12)


@PROPERTY
@given(seed=st.integers(0, 2**20))
def test_no_policy_that_knows_the_goal_exceeds_the_closed_form(seed: int) -> None:
    """Even with noise around the best direction, and with steps longer than allowed."""
    rng = np.random.default_rng(seed)
    goals = goals_around_the_circle(16)
    env = start(goals, 20)
    position, total = np.zeros_like(goals), np.zeros(16)
    for _ in range(20):
        noise = rng.uniform(0.0, 2.0) * rng.standard_normal(goals.shape)
        step = env.step((goals - position) / MAX_STEP + noise)
        position, total = step.observation, total + step.reward
    assert (total <= best_return(20) + 1e-12).all()


@PROPERTY
@given(
    actions=st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3)), min_size=1, max_size=20),
    num_goals=st.integers(2, 12),
)
def test_no_policy_without_adaptation_exceeds_the_bound(
    actions: list[tuple[float, float]], num_goals: int
) -> None:
    """Without the goal in sight a policy is a fixed path, the same for goals all around.

    Goals at equal angles sum to zero, so the centre minimises their mean distance, as it does
    for the uniform circle: the bound holds for every path, not only on average.
    """
    env = start(goals_around_the_circle(num_goals), len(actions))
    total = sum(env.step(np.tile(action, (num_goals, 1))).reward.mean() for action in actions)
    assert total <= POINT.no_adaptation_bound(len(actions)) + 1e-9


def test_the_bound_is_reached_by_staying_at_the_start() -> None:
    env = start(goals_around_the_circle(7), 20)
    total = sum(env.step(np.zeros((7, 2))).reward.mean() for _ in range(20))
    assert total == pytest.approx(POINT.no_adaptation_bound(20))
    assert best_return(20) > total


@PROPERTY
@given(seed=st.integers(0, 2**20))
def test_the_goal_never_shows_in_the_observation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    envs = [start(rng.normal(size=(5, 2)), 20) for _ in range(2)]
    assert envs[0].observation_dim == 2
    for action in rng.normal(size=(20, 5, 2)):
        one, other = (env.step(action) for env in envs)
        assert np.array_equal(one.observation, other.observation)
        assert not np.array_equal(one.reward, other.reward)


def test_long_steps_are_shortened_and_short_ones_are_not() -> None:
    # Actions (3, 4) and (0.3, 0.4): lengths 5 and 0.5, so steps of 0.1 and of 0.05.
    env = start(np.zeros((2, 2)), 20)
    moved = env.step(np.array([[3.0, 4.0], [0.3, 0.4]])).observation
    np.testing.assert_allclose(moved, [[0.06, 0.08], [0.03, 0.04]], rtol=1e-14)
    slow = start(np.zeros((2, 2)), 20, action_scale=10.0)
    moved = slow.step(np.array([[3.0, 4.0], [0.3, 0.4]])).observation
    np.testing.assert_allclose(moved, [[0.03, 0.04], [0.003, 0.004]], rtol=1e-14)


def test_goals_of_both_distributions_lie_on_the_circle_all_around() -> None:
    for sample in (get_family("point").sample_train, get_family("point").sample_test):
        goals = np.array([task.parameters for task in sample(np.random.default_rng(0), 400)])
        np.testing.assert_allclose(np.linalg.norm(goals, axis=1), GOAL_DISTANCE, rtol=1e-12)
        assert np.abs(goals.mean(0)).max() < 0.15
