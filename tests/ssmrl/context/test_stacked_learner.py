"""A stack of learners as a whole: its graphs, its operators and its replay."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ssmrl.context.graph import Graphs
from ssmrl.context.learner import ContextLearner
from ssmrl.context.replay import StackedReplay
from ssmrl.context.stacked_learner import StackedLearner
from ssmrl.rollout.play import LocalCollector
from tests.ssmrl.context.counting import Counting
from tests.ssmrl.context.small_context import random_trajectories, small_context

META = torch.device("meta")
KNOBS = {"meta.updates_per_env_step": 1.0, "meta.inference_updates_per_meta_episode": 1.0}


class CallsAgain:
    """Stands in for a device's graphs; how often it captured."""

    num_captures = 0

    def rehearse(self, work: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        return work()

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        self.num_captures += 1
        return work


def trained(graphs: Graphs | None, members: Sequence[Sequence[int]]) -> StackedLearner:
    """After an iteration of each of these groups of seeds."""
    configs = [small_context(seed=seed, **KNOBS) for seed in range(3)]
    learner = StackedLearner(configs, graphs_of=lambda device: graphs)
    collect = LocalCollector(configs[0], 1)
    for each in members:
        learner.iterate(each, collect)
    return learner


def test_replayed_updates_are_those_one_after_another() -> None:
    """Moments are taken up where the graph has them; another group of seeds is captured anew."""
    graphs = CallsAgain()
    members = [(0, 1, 2), (0, 1, 2), (0, 2), (0, 2)]
    learner, plain = trained(graphs, members), trained(None, members)
    for own, wanted in zip(learner.own, plain.own, strict=True):
        assert own.captured == {}, "a learner of a stack makes no updates by itself"
        tensors = wanted.tensors()
        for name, value in own.tensors().items():
            assert torch.equal(value, tensors[name]), name
    captured = (learner.stack.actor_critic.captured, learner.stack.inference.captured)
    assert all(each is not None and each.num_replays > 0 for each in captured)
    assert graphs.num_captures == 2 * 2
    assert [own.iteration for own in learner.own] == [4, 2, 4]


def num_operators(num_seeds: int) -> int:
    """Of four updates, with what they take from the replay; a single seed has no further axis."""
    config = small_context("ant-vel")
    axis: tuple[int, ...] = ()
    if num_seeds == 1:
        learner = ContextLearner(config, device=META)
        updates, networks = learner.actor_critic.updates, learner.networks
    else:
        configs = [small_context("ant-vel", seed=seed) for seed in range(num_seeds)]
        stack = StackedLearner(configs, META).stack
        updates, networks, axis = stack.actor_critic.updates, stack.networks, (num_seeds,)
    size, num_other = config.meta.batch_size, config.meta.batch_size // 2
    drawn = (
        torch.empty(4, *axis, size, dtype=torch.int64, device=META),
        torch.empty(4, *axis, num_other, 1, device=META),
        torch.empty(4, *axis, num_other, networks.code_dim, device=META),
        torch.empty(4, 2, *axis, size, networks.action_dim, device=META),
    )
    updates(*drawn)
    with Counting() as counting:
        losses = updates(*drawn)
    assert losses is not None
    assert losses.actor.shape == axis
    return counting.num_calls


def test_sixteen_seeds_take_hardly_more_operators_than_one() -> None:
    """Taking from the replay, paying anew, and the networks' steps; no tensor's value is read."""
    one, many = num_operators(1), num_operators(16)
    assert many <= 1.2 * one, (one, many)


def test_places_of_a_stacked_replay_are_those_of_its_seeds() -> None:
    config = small_context()
    replay = StackedReplay(config, 3)
    for seed, own in enumerate(replay.own):
        own.add(random_trajectories(1, 4, 10, 2, 2, seed), torch.full((4, 2), float(seed)))
    assert replay.env_steps_of_one == 120
    places = torch.from_numpy(np.random.default_rng(0).integers(40, size=7))
    for seed, own in enumerate(replay.own):
        wanted = own.take(places)
        found = replay.take(places + seed * replay.env_steps_of_one)
        for name, value in found._asdict().items():
            assert torch.equal(value, getattr(wanted, name)), name
        assert (found.code == seed).all()
