"""The Gaussian actor: its density, its divergence, and where its weights come from."""

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from ssmrl.config import METHODS, PolicyConfig
from ssmrl.models.actor import divergence, log_density, make_actor

A = 3


def normal(seed: int) -> tuple[torch.Tensor, torch.Tensor, Independent]:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(4, 5, A, generator=generator).double()
    log_std = 0.5 * torch.randn(A, generator=generator).double()
    return mean, log_std, Independent(Normal(mean, log_std.exp().expand_as(mean)), 1)


def test_log_density_equals_that_of_torch_distributions() -> None:
    mean, log_std, distribution = normal(0)
    action = normal(1)[0]
    torch.testing.assert_close(log_density(action, mean, log_std), distribution.log_prob(action))


def test_divergence_equals_that_of_torch_distributions_and_has_a_direction() -> None:
    """KL(old || new); the reverse is another number, so a swap would be seen."""
    old, new = normal(0), normal(1)
    forwards = kl_divergence(old[2], new[2])
    torch.testing.assert_close(divergence(*old[:2], *new[:2]), forwards)
    assert not torch.allclose(divergence(*new[:2], *old[:2]), forwards)
    assert not divergence(*old[:2], *old[:2]).any()


@pytest.mark.parametrize("method", METHODS)
def test_weights_depend_on_the_generator_alone(method: str) -> None:
    """Law 4: no global seed is read, and none is moved."""
    config = PolicyConfig(method=method, init_std=0.25)
    actors = []
    for global_seed, seed in ((1, 7), (2, 7), (2, 8)):
        torch.manual_seed(global_seed)
        state = torch.random.get_rng_state()
        actors.append(make_actor(config, 4, A, torch.Generator().manual_seed(seed)))
        assert torch.equal(torch.random.get_rng_state(), state)
    first, same, other = (actor.state_dict() for actor in actors)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    torch.testing.assert_close(actors[0].log_std.exp(), torch.full((A,), 0.25))


@pytest.mark.parametrize("method", METHODS)
def test_sizes_are_those_of_the_configuration(method: str) -> None:
    config = PolicyConfig(method=method, state_dim=6, hidden_dim=10)
    actor = make_actor(config, 4, A, torch.Generator())
    mean, log_std, hidden = actor(
        torch.zeros(2, 5, 4), actor.init_hidden(2), torch.zeros(2, 5, dtype=torch.bool)
    )
    assert mean.shape == (2, 5, A)
    assert log_std.shape == (A,)
    assert hidden.shape == (2, 6 if method == "ssm" else 0)
    assert max(p.shape[0] for p in actor.parameters()) == 10
