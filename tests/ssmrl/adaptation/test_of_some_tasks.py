"""Tasks that are played in several places come out as in one, to the last bit."""

from itertools import pairwise

import pytest
import torch

from ssmrl.config import TrainConfig
from ssmrl.meta.algorithms import ALGORITHMS
from ssmrl.rollout.assignment import train_assignment
from ssmrl.rollout.play import LocalCollector, Mode, Play
from ssmrl.types import Params, Trajectory

NUM_TASKS = 7


def played(name: str, mode: Mode, num_inner_steps: int = 0) -> tuple[LocalCollector, Params, Play]:
    config = TrainConfig.for_task("point", name)
    if num_inner_steps:
        config = config.with_knobs({"meta.num_inner_steps": num_inner_steps})
    play = Play(train_assignment(config, 0, NUM_TASKS), 1, 2, mode)
    params = ALGORITHMS[name].learner_type()(config).params()
    return LocalCollector(config), params, play


@pytest.mark.parametrize(
    ("name", "num_inner_steps"), [("context-sac", 0), ("context-sac", 1), ("promp", 0)]
)
@pytest.mark.parametrize("mode", [Mode.EXPLORE, Mode.USED, Mode.OFF])
def test_parts_are_the_whole_bit_for_bit(name: str, num_inner_steps: int, mode: Mode) -> None:
    collect, params, play = played(name, mode, num_inner_steps)
    whole = collect(params, play)
    for bounds in ((0, 3, 7), (0, 1, 2, 7)):
        parts = [
            collect.of_some_tasks(params, play, slice(low, high)) for low, high in pairwise(bounds)
        ]
        for trajectory, pieces in zip(whole, zip(*parts, strict=True), strict=True):
            joined = Trajectory(*(torch.cat(leaves) for leaves in zip(*pieces, strict=True)))
            for leaf, wanted, found in zip(Trajectory._fields, trajectory, joined, strict=True):
                assert torch.equal(wanted, found), leaf


def test_rewards_of_a_task_elsewhere_cannot_be_told() -> None:
    collect, params, play = played("context-sac", Mode.OTHER_REWARDS)
    with pytest.raises(ValueError, match="`tasks` must be all of them"):
        collect.of_some_tasks(params, play, slice(0, 3))
    assert collect.of_some_tasks(params, play, slice(0, NUM_TASKS))
