"""A policy with a memory of its task as RLlib's own code sees it."""

import pytest
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchSquashedGaussian

from cluster.context_module import PREV_ACTIONS, PREV_REWARDS, ContextModule
from cluster.context_sac import ContextSACConfig
from ssmrl.context.by_memory import MemoryAdaptation
from tests.cluster.small_training import small_config


@pytest.fixture
def module() -> ContextModule:
    settings = ContextSACConfig().training(train_config=small_config("context-sac"))
    built = settings.get_rl_module_spec().build()
    assert isinstance(built, ContextModule)
    return built


def test_it_acts_as_the_runners_do(module: ContextModule) -> None:
    """Step by step, and over whole sequences, it is the policy that ``ssmrl`` plays."""
    generator = torch.Generator().manual_seed(0)
    observation = torch.randn(3, 4, 2, generator=generator)
    action = torch.randn(3, 4, 2, generator=generator).tanh()
    reward = torch.randn(3, 4, generator=generator)
    noise = torch.zeros(3, 1, 2)
    adaptation = MemoryAdaptation(module.networks)
    memory, state = adaptation.begin(3, 1), module.get_initial_state()
    state = {name: value.expand(3, -1) for name, value in state.items()}
    whole = module.forward_inference(
        {
            Columns.OBS: observation,
            Columns.STATE_IN: state,
            PREV_ACTIONS: torch.nn.functional.pad(action[:, :-1], (0, 0, 1, 0)),
            PREV_REWARDS: torch.nn.functional.pad(reward[:, :-1], (1, 0)),
        }
    )
    for t in range(4):
        first = torch.full((3, 1), t == 0)
        wanted, memory = adaptation.act(observation[:, t : t + 1], first, noise, memory)
        memory = adaptation.observe(action[:, t : t + 1], reward[:, t : t + 1], memory)
        batch = {Columns.OBS: observation[:, t], Columns.STATE_IN: state}
        if t > 0:
            batch |= {PREV_ACTIONS: action[:, t - 1], PREV_REWARDS: reward[:, t - 1]}
        output = module.forward_inference(batch)
        state = output[Columns.STATE_OUT]
        for inputs in (output, {name: whole[name][:, t] for name in (Columns.ACTION_DIST_INPUTS,)}):
            mean = inputs[Columns.ACTION_DIST_INPUTS][:, :2]
            torch.testing.assert_close(mean.tanh(), wanted.action[:, 0])
    torch.testing.assert_close(state["hidden"], memory.hidden)
    torch.testing.assert_close(whole[Columns.STATE_OUT], state)


def test_actions_are_drawn_as_training_draws_them(module: ContextModule) -> None:
    observation = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    inputs = module.forward_exploration({Columns.OBS: observation})[Columns.ACTION_DIST_INPUTS]
    distribution = module.get_exploration_action_dist_cls().from_logits(inputs)
    assert isinstance(distribution, TorchSquashedGaussian)
    explorer = MemoryAdaptation(module.networks, explores=True)
    noise = torch.ones(5, 1, 2)
    wanted, _ = explorer.act(
        observation[:, None], torch.ones(5, 1, dtype=torch.bool), noise, explorer.begin(5, 1)
    )
    mean, log_std = inputs.chunk(2, dim=-1)
    torch.testing.assert_close((mean + log_std.exp()).tanh(), wanted.action[:, 0])
    log_prob = distribution.logp(wanted.action[:, 0])
    torch.testing.assert_close(log_prob, wanted.log_prob[:, 0], rtol=1e-3, atol=1e-3)
