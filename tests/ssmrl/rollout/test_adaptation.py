"""The return of record, and playing with adaptation in between."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ssmrl.config import METHODS
from ssmrl.meta.gradient import adapt, make_sample
from ssmrl.meta.initial_actor import initial_actor
from ssmrl.meta.inner import stack_params
from ssmrl.rollout.adaptation import collect_adapting, collect_once
from ssmrl.rollout.assignment import train_assignment
from ssmrl.rollout.returns import episode_return
from ssmrl.rollout.worker import RolloutWorker
from ssmrl.types import Trajectory
from tests.contracts.property_settings import PROPERTY
from tests.ssmrl.rollout.collecting import detached, fields_that_differ, small_config


def with_rewards(reward: Tensor, terminated: Tensor) -> Trajectory:
    """A trajectory of which only the rewards and the ends matter."""
    empty = torch.empty(0)
    return Trajectory(empty, empty, reward, empty, empty, terminated, empty, empty, empty)


def test_only_the_first_episode_of_a_lane_counts() -> None:
    # Rewards 1, 2, 4, 8: no end gives 15; an end at the second step 3; at the first and third 1;
    # at the last step all 15, because the step that ends an episode belongs to it.
    ends = torch.tensor(
        [[[0, 0, 0, 0], [0, 1, 0, 0]], [[1, 0, 1, 0], [0, 0, 0, 1]]], dtype=torch.bool
    )
    rewards = torch.tensor([1.0, 2.0, 4.0, 8.0]).expand(2, 2, 4)
    assert episode_return(with_rewards(rewards, ends)).tolist() == [[15.0, 3.0], [1.0, 15.0]]


@PROPERTY
@given(seed=st.integers(0, 2**20))
def test_what_follows_the_first_end_does_not_matter(seed: int) -> None:
    """Otherwise falling early and often would collect more survival reward than not falling."""
    generator = torch.Generator().manual_seed(seed)
    reward, other = torch.randn(2, 3, 4, 9, generator=generator)
    ends = torch.rand(3, 4, 9, generator=generator) < 0.3
    after = ends.cumsum(-1) - ends.long() > 0
    changed = torch.where(after, other, reward)
    assert torch.equal(
        episode_return(with_rewards(reward, ends)), episode_return(with_rewards(changed, ends))
    )
    by_hand = [
        sum_until_end(*lane) for lane in zip(reward.flatten(0, 1), ends.flatten(0, 1), strict=True)
    ]
    returns = episode_return(with_rewards(reward, ends))
    torch.testing.assert_close(returns.flatten(), torch.tensor(by_hand), rtol=1e-5, atol=1e-5)


def sum_until_end(reward: Tensor, ends: Tensor) -> float:
    total = 0.0
    for value, end in zip(reward.tolist(), ends.tolist(), strict=True):
        total += value
        if end:
            break
    return total


@pytest.mark.parametrize("method", METHODS)
def test_each_collection_follows_the_adaptation_to_the_one_before(method: str) -> None:
    """Support, step, support, step, query: with the parameters and the phase of each."""
    config = small_config("point", method)
    config = dataclasses.replace(config, meta=dataclasses.replace(config.meta, inner_lr=0.05))
    actor = initial_actor(config)
    worker = RolloutWorker(config.env, 1)
    assignment = train_assignment(config, 0)
    got = collect_adapting(
        worker, actor, detached(actor), assignment, config.meta, num_steps=2, num_episodes=3
    )
    assert len(got) == 3
    params = stack_params(detached(actor), 5)
    for phase, trajectory in enumerate(got):
        wanted = collect_once(worker, actor, params, assignment, config.meta, 3, phase)
        assert fields_that_differ(trajectory, wanted) == []
        params = adapt(actor, params, make_sample(trajectory, config.meta), config.meta)
    assert all(not value.requires_grad for trajectory in got for value in trajectory)
