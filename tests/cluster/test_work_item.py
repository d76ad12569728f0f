"""A meta-batch divided among runners and learners is still the whole meta-batch, in order."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from cluster.work_item import Delivery, RolloutResult, concatenate, split
from ssmrl.config import TrainConfig
from ssmrl.rollout.assignment import train_assignment
from ssmrl.rollout.play import Mode, Play
from ssmrl.types import Trajectory
from tests.contracts.property_settings import PROPERTY


def play_of(num_tasks: int, mode: Mode = Mode.EXPLORE) -> Play:
    config = TrainConfig.for_task("point", "promp").with_knobs({"meta.num_tasks": num_tasks})
    return Play(train_assignment(config, 0), 2, 2, mode)


@PROPERTY
@given(st.integers(1, 12), st.integers(1, 15), st.data())
def test_parts_and_shares_are_the_tasks_in_order_and_nearly_equal(
    num_tasks: int, num_parts: int, data: st.DataObject
) -> None:
    num_shares = data.draw(st.integers(1, num_tasks))
    whole = play_of(num_tasks)
    parts = split(whole, num_parts, num_shares)
    assert [part.number for part in parts] == list(range(min(num_parts, num_tasks)))
    tasks = [whole.assignment.tasks[part.tasks] for part in parts]
    assert sum(tasks, ()) == whole.assignment.tasks
    assert all(part.play is whole for part in parts)
    sizes = [len(some) for some in tasks]
    assert max(sizes) - min(sizes) <= 1
    assert sizes == [sum(part.shares.values()) for part in parts]
    of_learner = np.zeros(num_shares, dtype=int)
    order = []
    for part in parts:
        for share, num in part.shares.items():
            of_learner[share] += num
            order += [share] * num
    assert order == sorted(order)  # so the tasks of a learner follow each other
    assert of_learner.max() - of_learner.min() <= 1
    assert split(whole, 1, num_shares)[0].shares == dict(enumerate(of_learner))


def test_what_is_told_the_rewards_of_another_task_is_not_divided() -> None:
    (part,) = split(play_of(5, Mode.OTHER_REWARDS), num_parts=3, num_shares=2)
    assert (part.tasks, part.shares) == (slice(0, 5), {0: 2, 1: 3})


def trajectory_of(tasks: torch.Tensor) -> Trajectory:
    """Two lanes of three steps; every number tells its task."""
    leaf = tasks[:, None, None].expand(-1, 2, 3).clone()
    flag = torch.zeros_like(leaf, dtype=torch.bool)
    wide = leaf[..., None]
    return Trajectory(
        observation=wide,
        action=wide,
        reward=leaf,
        log_prob=leaf,
        first=flag,
        terminated=flag,
        truncated=flag,
        last_observation=wide[:, :, 0],
        motion=wide,
    )


def test_each_learner_gets_its_tasks_and_the_driver_all_returns() -> None:
    parts = split(play_of(5), num_parts=3, num_shares=2)
    received = dict[int, list[list[Trajectory]]]()
    for part in parts:
        tasks = torch.arange(part.tasks.start, part.tasks.stop, dtype=torch.float32)
        trajectories = [trajectory_of(tasks), trajectory_of(10.0 + tasks)]
        played = RolloutResult.of(part, trajectories, Delivery.DIRECT)
        assert played.env_steps == len(tasks) * 2 * 3 * 2
        assert torch.equal(played.returns[:, :, 0], torch.stack([3 * tasks, 3 * (10.0 + tasks)]))
        for share, piece in played.shards.items():
            received.setdefault(share, []).append(piece.fetch())
        assert not RolloutResult.of(part, trajectories, Delivery.NONE).shards
    rewards = {
        share: [t.reward[:, 0, 0].tolist() for t in concatenate(shards)]
        for share, shards in received.items()
    }
    assert rewards == {0: [[0.0, 1.0], [10.0, 11.0]], 1: [[2.0, 3.0, 4.0], [12.0, 13.0, 14.0]]}
