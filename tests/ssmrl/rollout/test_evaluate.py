"""Judging a policy on held-out tasks."""

import math

import numpy as np
import pytest
import torch

from ssmrl.config import TrainConfig
from ssmrl.meta.initial_actor import initial_actor
from ssmrl.rollout.adaptation import collect_adapting
from ssmrl.rollout.assignment import held_out_assignment
from ssmrl.rollout.evaluate import Evaluation
from ssmrl.rollout.returns import episode_return
from ssmrl.rollout.worker import RolloutWorker
from ssmrl.train import evaluate
from tests.ssmrl.rollout.collecting import detached


def config(**knobs: object) -> TrainConfig:
    small = {"evaluation.num_tasks": 4, "evaluation.num_episodes": 3, "policy.method": "mlp"}
    return TrainConfig.for_task("point", "promp").with_knobs(small | knobs)


def test_returns_are_means_over_episodes_per_task_and_step() -> None:
    actor = initial_actor(config())
    before = {name: value.clone() for name, value in detached(actor).items()}
    evaluation = evaluate(config(), actor, num_steps=2, draw=6)
    trajectories = collect_adapting(
        RolloutWorker(config().env, 1),
        actor,
        detached(actor),
        held_out_assignment(config(), 6),
        config().meta,
        num_steps=2,
        num_episodes=3,
    )
    wanted = np.stack([episode_return(t).mean(1).numpy() for t in trajectories])
    np.testing.assert_array_equal(evaluation.task_returns, wanted)
    assert evaluation.env_steps == 3 * 4 * 3 * 20
    means = evaluation.mean_returns()
    assert list(means) == [0, 1, 2]
    assert means[1] == pytest.approx(wanted[1].mean())
    after = detached(actor)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_task_in_which_an_observation_is_not_finite_has_no_return(value: float) -> None:
    """A policy makes a finite action of an infinite one, by tanh: its return is no result."""
    actor = initial_actor(config())
    assignment = held_out_assignment(config(), 0)
    (played,) = collect_adapting(
        RolloutWorker(config().env, 1),
        actor,
        detached(actor),
        assignment,
        config().meta,
        num_steps=0,
        num_episodes=3,
    )
    observation = played.observation.clone()
    observation[1, 2, 5, 0] = value
    whole, broken = (
        Evaluation.of([played._replace(observation=seen)])
        for seen in (played.observation, observation)
    )
    np.testing.assert_array_equal(np.isnan(broken.task_returns), [[False, True, False, False]])
    np.testing.assert_array_equal(broken.task_returns[:, 2:], whole.task_returns[:, 2:])
    assert math.isnan(broken.mean_returns()[0])


def test_the_draw_decides_the_tasks_and_the_seed_does_not() -> None:
    actor = initial_actor(config())
    one, same, other = (
        evaluate(config(seed=seed), actor, num_steps=0, draw=draw).task_returns
        for seed, draw in ((0, 1), (5, 1), (0, 2))
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).all()


def test_the_interval_holds_the_mean_and_covers_as_often_as_it_says() -> None:
    """Nominal 95 %, 5 tasks, 1,000 draws, whose standard error is 0.007."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        values = rng.normal(3.0, 2.0, (1, 5))
        low, high = Evaluation(values, 0).interval(0) or (math.nan, math.nan)
        assert low <= values.mean() <= high
        hits += low <= 3.0 <= high
    assert 0.93 <= hits / 1000 <= 0.97


def test_one_task_has_no_interval() -> None:
    assert Evaluation(np.array([[3.0], [4.0]]), 0).interval(1) is None


def test_equal_returns_give_equal_intervals_and_wider_levels_wider_ones() -> None:
    evaluation = Evaluation(np.random.default_rng(1).normal(size=(2, 30)), 0)
    assert evaluation.interval(1) == evaluation.interval(1)
    narrow, wide = evaluation.interval(1, 0.5), evaluation.interval(1, 0.99)
    assert narrow is not None
    assert wide is not None
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    constant = Evaluation(np.full((1, 5), 2.5), 0)
    assert constant.interval(0) == (2.5, 2.5)
