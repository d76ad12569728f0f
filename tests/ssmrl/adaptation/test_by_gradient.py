"""Adaptation by gradient: one step after each episode, and nothing before."""

import torch

from ssmrl.adaptation.by_gradient import GradientAdaptation
from ssmrl.meta.gradient import adapt, make_sample
from ssmrl.meta.initial_actor import initial_actor
from ssmrl.meta.inner import stack_params
from ssmrl.rollout.assignment import train_assignment
from ssmrl.rollout.worker import RolloutWorker
from tests.ssmrl.rollout.collecting import detached, small_config

N, B = 3, 2


def made(method: str = "gru", **knobs: object) -> tuple[GradientAdaptation, RolloutWorker]:
    config = small_config("point", method, **{"policy.rl2_inputs": True, **knobs})
    actor = initial_actor(config)
    return (
        GradientAdaptation(actor, detached(actor), config.meta),
        RolloutWorker(config.env, 1),
    )


def test_every_task_starts_at_the_same_parameters_and_an_empty_memory() -> None:
    adaptation, _ = made()
    state = adaptation.begin(N, B)
    for value in state.params.values():
        assert value.shape[0] == N
        assert torch.equal(value, value[:1].expand_as(value))
    assert state.hidden.shape[:2] == (N, B)
    assert not state.hidden.any()
    assert not state.last_action.any()
    assert not state.last_reward.any()


def test_an_episode_is_one_step_and_an_empty_memory() -> None:
    """The step of ``adapt`` on what was seen, each task by its own."""
    config = small_config("point", "gru")
    actor, worker = initial_actor(config), RolloutWorker(config.env, 1)
    adaptation = GradientAdaptation(actor, detached(actor), config.meta)
    assignment = train_assignment(config, 0, N)
    trajectory, state = worker.episode(adaptation, adaptation.begin(N, B), assignment, B)
    assert state.hidden.any(), "within the episode it remembers"
    after = adaptation.end_of_episode(trajectory, state)
    start = stack_params(detached(actor), N)
    wanted = adapt(actor, start, make_sample(trajectory, config.meta), config.meta)
    for name, value in after.params.items():
        assert torch.equal(value, wanted[name]), name
    assert any(not torch.equal(value[0], value[1]) for value in after.params.values())
    assert not after.hidden.any()
    assert all(torch.equal(state.params[name], start[name]) for name in start), "a value"


def test_switched_off_only_the_memory_is_emptied() -> None:
    config = small_config("point", "gru")
    actor, worker = initial_actor(config), RolloutWorker(config.env, 1)
    adaptation = GradientAdaptation(actor, detached(actor), config.meta, adapts=False)
    assignment = train_assignment(config, 0, N)
    trajectory, state = worker.episode(adaptation, adaptation.begin(N, B), assignment, B)
    after = adaptation.end_of_episode(trajectory, state)
    assert all(torch.equal(after.params[name], state.params[name]) for name in after.params)
    assert not after.hidden.any()


def test_what_a_policy_may_be_told_of_its_last_step_is_remembered() -> None:
    told, _ = made()
    action, reward = torch.ones(N, B, 2), torch.full((N, B), 0.5)
    state = told.observe(action, reward, told.begin(N, B))
    assert torch.equal(state.last_action, action)
    assert torch.equal(state.last_reward, reward)
    blind, _ = made(**{"policy.rl2_inputs": False})
    assert not blind.observe(action, reward, blind.begin(N, B)).last_action.any()


def test_noise_is_what_an_action_differs_from_the_mean_by() -> None:
    adaptation, _ = made("mlp", **{"policy.init_std": 0.5})
    observation, first = torch.randn(N, B, 2), torch.ones(N, B, dtype=torch.bool)
    noise, state = torch.randn(N, B, 2), adaptation.begin(N, B)
    mean = adaptation.act(observation, first, torch.zeros_like(noise), state)[0].action
    drawn = adaptation.act(observation, first, noise, state)[0]
    torch.testing.assert_close(drawn.action, mean + 0.5 * noise)
    law = torch.distributions.Normal(mean, 0.5)
    torch.testing.assert_close(drawn.log_prob, law.log_prob(drawn.action).sum(-1))
