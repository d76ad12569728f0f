"""Meta-training works: on the toy family whose best return is known, in seconds."""

import itertools
from typing import NamedTuple

import pytest
import torch

from ssmrl.config import METHODS, TrainConfig
from ssmrl.envs.families import get_family
from ssmrl.envs.point import best_return
from ssmrl.meta.gradient import adapt, make_sample
from ssmrl.meta.initial_actor import initial_actor
from ssmrl.meta.inner import stack_params
from ssmrl.models.actor import GaussianActor
from ssmrl.rollout.adaptation import collect_once
from ssmrl.rollout.assignment import held_out_assignment
from ssmrl.rollout.returns import episode_return
from ssmrl.rollout.worker import RolloutWorker
from ssmrl.train import evaluate, train
from tests.ssmrl.unchecked_types import unchecked_types

NUM_ITERATIONS = 15
LONGER = {("lstm", "promp"): 25, ("mlp", "maml-trpo"): 25}
"""What comes more slowly to where the others are."""
LEARNERS = tuple(method for method in METHODS if method != "transformer")
"""A transformer learns this too, but takes longer than all the others together."""
CASES = (*((method, "promp") for method in LEARNERS), ("mlp", "maml-trpo"), ("mlp", "e-maml"))
HELD_OUT = 3
"""Which held-out tasks; no setting below was chosen on them."""


class Trained(NamedTuple):
    config: TrainConfig
    actor: GaussianActor


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def trained(request: pytest.FixtureRequest) -> Trained:
    """A policy meta-trained on one thread, for so long that it adapts well."""
    config = TrainConfig.for_task("point", request.param[1]).with_knobs(
        {
            "policy.method": request.param[0],
            "policy.hidden_dim": 32,
            "policy.state_dim": 8,
            "policy.init_std": 0.3,
            "meta.num_tasks": 20,
        }
    )
    if "meta.outer_lr" in config.knobs():
        config = config.with_knobs({"meta.outer_lr": 0.005})
    actor = initial_actor(config)
    num_iterations = LONGER.get(request.param, NUM_ITERATIONS)
    with unchecked_types():
        for _ in itertools.islice(train(config, actor), num_iterations):
            pass
    return Trained(config, actor)


def share_of_the_way(config: TrainConfig, value: float) -> float:
    """0 at the bound that no policy without adaptation exceeds, 1 at the best return there is."""
    bound = get_family("point").no_adaptation_bound(config.env.horizon)
    assert bound is not None
    return (value - bound) / (best_return(config.env.horizon) - bound)


@pytest.mark.slow
def test_one_adaptation_step_goes_most_of_the_way_on_held_out_tasks(trained: Trained) -> None:
    """From -20 towards -4.5: at least 80 % of it, by the adaptation and by nothing else."""
    config, actor = trained
    evaluation = evaluate(config, actor, num_steps=1, draw=HELD_OUT)
    before, after = evaluation.mean_returns().values()
    assert share_of_the_way(config, before) < 0.05
    assert share_of_the_way(config, after) >= 0.8, f"{before=}, {after=}"
    assert (evaluation.task_returns[1] > evaluation.task_returns[0]).all(), "on every task"


@pytest.mark.slow
@pytest.mark.parametrize("shuffled", [False, True], ids=["true-rewards", "shuffled-rewards"])
def test_it_is_the_rewards_that_are_adapted_to(trained: Trained, shuffled: bool) -> None:
    """The control: the same experience with its rewards in random order teaches nothing.

    Otherwise a drift towards what is good on average would pass for adaptation.
    """
    config, actor = trained
    assignment = held_out_assignment(config, HELD_OUT)
    worker = RolloutWorker(config.env)
    params = stack_params(
        {name: value.detach() for name, value in actor.named_parameters()}, len(assignment.tasks)
    )
    support = collect_once(worker, actor, params, assignment, config.meta, 20, phase=0)
    if shuffled:
        order = torch.randperm(support.reward.numel(), generator=torch.Generator().manual_seed(0))
        support = support._replace(reward=support.reward.flatten()[order].view_as(support.reward))
    adapted = adapt(actor, params, make_sample(support, config.meta), config.meta)
    query = collect_once(worker, actor, adapted, assignment, config.meta, 20, phase=1)
    gain = float(episode_return(query).mean() - episode_return(support).mean())
    if shuffled:
        assert gain < 0.5, "less than 4 % of what there is to gain"
    else:
        assert gain > 10.0
