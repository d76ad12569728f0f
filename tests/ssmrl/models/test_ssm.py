"""The state space model beyond the contract: stability, discretisation, and its one bad input."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssmrl.models.ssm import SSM, StateSpaceModel
from tests.contracts.property_settings import PROPERTY
from tests.contracts.sequence_policy import make_policy


def decay_of(policy: StateSpaceModel) -> torch.Tensor:
    """The diagonal of the state matrix, read off the outside: a unit memory after one idle step.

    With inputs of zero the memory's change from ``hidden`` is ``decay * hidden`` alone, because
    the drive does not depend on the memory and is subtracted.
    """
    x = torch.zeros(1, policy.input_dim).double()
    unit = torch.tensor([1.0, 0.0]).double().repeat(policy.state_dim // 2).unsqueeze(0)
    moved = policy.step(x, unit)[1] - policy.step(x, torch.zeros_like(unit))[1]
    return torch.view_as_complex(moved.detach().view(-1, 2))


@PROPERTY
@given(seed=st.integers(0, 2**20), scale=st.sampled_from([0.1, 1.0, 3.0]))
def test_is_stable_whatever_the_parameters(seed: int, scale: float) -> None:
    """A spectral radius of 1 or more lets the memory grow over an episode without bound."""
    generator = torch.Generator().manual_seed(seed)
    policy = StateSpaceModel(8, 3, 2, hidden_dim=4).double()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator).double())
    radius = decay_of(policy).abs()
    assert radius.max() < 1.0
    assert radius.min() >= 0.0


def test_starts_at_the_s4d_linear_initialisation() -> None:
    """``lambda_n = -1/2 + i pi n`` with time steps from 1e-3 to 1e-1, held over one step."""
    policy = StateSpaceModel(8, 3, 2, hidden_dim=4).double()
    eigenvalue = torch.complex(torch.full((4,), -0.5).double(), torch.pi * torch.arange(4).double())
    step = torch.logspace(-3, -1, 4).double()
    torch.testing.assert_close(decay_of(policy), (step * eigenvalue).exp(), rtol=1e-6, atol=1e-6)


def test_zero_order_hold_is_the_exact_response_to_a_constant_input() -> None:
    """Held input: the memory tends to ``-b / lambda``, the rest state of the continuous system."""
    policy = make_policy("ssm")
    assert isinstance(policy, StateSpaceModel)
    x = torch.ones(1, 1, policy.input_dim).double().expand(1, 5_000, -1)
    with torch.no_grad():
        policy.log_time_step.fill_(math.log(0.02))
        first = torch.zeros(1, x.shape[1], dtype=torch.bool)
        _, settled = policy.scan(x, policy.init_hidden(1), first)
        drive = policy.drive(torch.tanh(policy.encoder(x[:, 0])))
        eigenvalue = torch.complex(-policy.log_rate.exp(), policy.frequency)
    rest = -torch.view_as_complex(drive.view(-1, 2)) / eigenvalue
    torch.testing.assert_close(torch.view_as_complex(settled.view(-1, 2)), rest)


def test_remembers() -> None:
    """An input of the first step still shows in the last output; an MLP could not."""
    policy = make_policy("ssm")
    x = torch.zeros(2, 10, 3).double()
    x[1, 0] = 1.0
    output, _ = policy(x)
    assert (output[0, -1] - output[1, -1]).abs().max() > 1e-4


@pytest.mark.parametrize(("state_dim", "instead"), [(7, 8), (1, 2), (0, 2), (-4, 2)])
def test_an_impossible_state_dim_is_refused_with_the_nearest_possible_one(
    state_dim: int, instead: int
) -> None:
    with pytest.raises(ValueError, match="must be even and at least 2") as caught:
        StateSpaceModel(state_dim, 3, 2)
    message = str(caught.value)
    assert f"state_dim={state_dim}" in message
    assert message.endswith(f"use {instead}")


def test_the_short_name_is_the_same_class() -> None:
    assert SSM is StateSpaceModel
