"""The networks' hand-written gradients, and observations that never change."""

import dataclasses

import pytest
import torch
from torch import Tensor

from ssmrl.context.networks import OBSERVATION_LIMIT, ContextNetworks, ParallelMLP
from ssmrl.envs.families import FAMILIES
from tests.ssmrl.context.small_context import small_context

every_number = pytest.mark.parametrize("num_networks", [1, 2, 3])
one_or_more = pytest.mark.parametrize("output_dim", [1, 3])


def random_mlp(num_networks: int, output_dim: int = 3) -> tuple[ParallelMLP, Tensor, Tensor]:
    """Networks in float64 with random biases too, inputs, and a gradient of the output."""
    generator = torch.Generator().manual_seed(num_networks)
    mlp = ParallelMLP(num_networks, 5, 7, output_dim, generator).double()
    with torch.no_grad():
        mlp.flat.add_(0.3 * torch.randn(mlp.flat.shape, generator=generator).double())
    x = torch.randn(11, 5, generator=generator).double()
    return mlp, x, torch.randn(num_networks, 11, output_dim, generator=generator).double()


@every_number
@one_or_more
def test_both_ways_through_give_the_same_numbers(num_networks: int, output_dim: int) -> None:
    mlp, x, _ = random_mlp(num_networks, output_dim)
    torch.testing.assert_close(mlp.passed(x)[0], mlp(x).detach(), rtol=1e-12, atol=1e-12)


@every_number
def test_each_network_is_a_perceptron_of_its_own(num_networks: int) -> None:
    """Written again, one network and one row at a time, from what the class says."""
    mlp, x, _ = random_mlp(num_networks)
    sizes = [5 * 7, 7, 7 * 7, 7, 7 * 3, 3]
    parts = [
        part.view(num_networks, -1)
        for part in mlp.flat.detach().split([num_networks * size for size in sizes])
    ]
    for k in range(num_networks):
        first, first_bias, second, second_bias, last, last_bias = (part[k] for part in parts)
        for row, wanted in zip(x, mlp(x)[k].detach(), strict=True):
            hidden = row
            for weight, bias in ((first, first_bias), (second, second_bias)):
                total = hidden @ weight.view(len(hidden), 7) + bias
                hidden = (total / (total.square().mean() + 1e-6).sqrt()).relu()
            torch.testing.assert_close(hidden @ last.view(7, 3) + last_bias, wanted)


@every_number
@one_or_more
def test_the_weights_gradient_is_that_of_automatic_differentiation(
    num_networks: int, output_dim: int
) -> None:
    mlp, x, upstream = random_mlp(num_networks, output_dim)
    (wanted,) = torch.autograd.grad((mlp(x) * upstream).sum(), mlp.flat)
    got = mlp.weight_gradient(mlp.passed(x)[1], upstream.clone())
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


@every_number
@one_or_more
@pytest.mark.parametrize("num_last", [1, 2, 5])
def test_the_inputs_gradient_is_that_of_automatic_differentiation(
    num_networks: int, output_dim: int, num_last: int
) -> None:
    mlp, x, upstream = random_mlp(num_networks, output_dim)
    leaf = x.clone().requires_grad_()
    (wanted,) = torch.autograd.grad((mlp(leaf) * upstream).sum(), leaf)
    got = mlp.input_gradient(mlp.passed(x)[1], upstream.clone(), num_last)
    torch.testing.assert_close(got, wanted[:, -num_last:], rtol=1e-10, atol=1e-10)


def test_a_way_can_be_gone_back_twice() -> None:
    """The gradients take nothing from what a pass left, nor from the gradient they are given."""
    mlp, x, upstream = random_mlp(2)
    way, given = mlp.passed(x)[1], upstream.clone()
    first = (mlp.weight_gradient(way, given), mlp.input_gradient(way, given, 2))
    second = (mlp.weight_gradient(way, given), mlp.input_gradient(way, given, 2))
    assert torch.equal(given, upstream)
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))


def test_the_targets_start_as_the_critics_and_both_critics_differ() -> None:
    networks = ContextNetworks(small_context(), 2, 2)
    assert torch.equal(networks.target.flat, networks.critic.flat)
    assert not networks.target.flat.requires_grad
    one, other = networks.critic(torch.ones(3, 6))
    assert not torch.allclose(one, other)


def test_the_seed_alone_decides_the_initial_weights() -> None:
    torch.manual_seed(1)
    first = ContextNetworks(small_context(), 2, 2).state_dict()
    torch.manual_seed(2)
    again = ContextNetworks(small_context(), 2, 2).state_dict()
    other = ContextNetworks(small_context(seed=1), 2, 2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    for name in ("actor.flat", "critic.flat", "inference.model.encoder.weight"):
        if name in first:
            assert not torch.equal(first[name], other[name]), name


# -------------------------------------------------------------------------------- statistics


def test_an_observation_that_never_changes_becomes_zero() -> None:
    """Not a number that explodes when it changes at last; the others get a spread near 1."""
    networks = ContextNetworks(small_context(), 2, 2)
    generator = torch.Generator().manual_seed(0)
    seen = torch.stack([torch.full((500,), 0.3), 3.0 + 2.0 * torch.randn(500, generator=generator)])
    networks.set_statistics(seen.T)
    normalised = networks.normalised(seen.T)
    assert (normalised[:, 0] == 0.0).all()
    assert abs(float(normalised[:, 1].mean())) < 1e-5
    assert float(normalised[:, 1].std()) == pytest.approx(1.0, abs=0.01)
    assert float(networks.normalised(torch.tensor([1e9, 3.0]))[0]) == 0.0


@pytest.mark.parametrize("constant", [0.0, 1e-3, 0.1, 1e4, -7.7])
def test_rounding_is_no_change(constant: float) -> None:
    networks = ContextNetworks(small_context(), 2, 2)
    networks.set_statistics(torch.full((1001, 2), constant))
    assert networks.inverse_scale.tolist() == [0.0, 0.0]


def test_an_observation_that_explodes_is_clipped() -> None:
    networks = ContextNetworks(small_context(), 2, 2)
    assert networks.normalised(torch.tensor([1e30, -1e30])).tolist() == [
        OBSERVATION_LIMIT,
        -OBSERVATION_LIMIT,
    ]


def test_a_family_without_a_hidden_variable_to_infer_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blind = dataclasses.replace(FAMILIES["point"], name="blind", hidden=None)
    monkeypatch.setitem(FAMILIES, "blind", blind)
    with pytest.raises(ValueError, match=r"must have a hidden variable .*, but 'blind' has none"):
        ContextNetworks(small_context("blind"), 2, 2)
