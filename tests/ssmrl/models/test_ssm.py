"""The state space model beyond the contract: stability, discretisation, and its one bad input."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ssmrl.config import SequenceConfig
from ssmrl.models.recurrence import recurrence
from ssmrl.models.ssm import SSM, StateSpaceModel
from ssmrl.testing.sequences import random_model
from tests.contracts.property_settings import PROPERTY

FINGERPRINT = [6.93833, 15.00230, 17.00517, 100.81037]
"""Sum and sum of squares of the output, then of the memory, computed with version 0.1."""


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


@PROPERTY
@given(seed=st.integers(0, 2**20), scale=st.sampled_from([1.0, 5.0]), gated=st.booleans())
def test_layers_on_top_of_each_other_are_stable_too(seed: int, scale: float, gated: bool) -> None:
    """The memory's own dynamics at some point of the sequence, with all that layers do between."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return scale * torch.randn(shape, generator=generator).double()

    policy = StateSpaceModel(4, 3, 2, hidden_dim=4, num_layers=3, gated=gated).double()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.copy_(normal(*parameter.shape))
    x, hidden = normal(1, 3), normal(1, policy.state_dim)
    jacobian = torch.func.jacrev(lambda h: policy.step(x, h)[1])(hidden).detach()[0, :, 0]
    assert jacobian.shape == (12, 12)
    assert torch.linalg.eigvals(jacobian).abs().max() <= 1.0 + 1e-9


def test_one_layer_has_its_names_and_the_numbers_it_always_had() -> None:
    """Checkpoints hold the names; the numbers were written down when the layer was first made."""
    policy = StateSpaceModel(8, 3, 2, hidden_dim=16)
    layer = ["log_rate", "frequency", "log_time_step", "skip"]
    layer += ["drive.weight", "readout.weight", "hidden.weight", "hidden.bias"]
    names = ["encoder.weight", "encoder.bias", *(f"layers.0.{name}" for name in layer)]
    assert list(policy.state_dict()) == [*names, "head.weight", "head.bias"]
    with torch.no_grad():
        for parameter in policy.parameters():
            count = torch.arange(parameter.numel(), dtype=torch.float32)
            parameter.copy_(0.3 * torch.cos(count).view_as(parameter))
    x = torch.sin(torch.arange(2.0 * 7 * 3)).view(2, 7, 3)
    output, hidden = policy(x, torch.cos(torch.arange(16.0)).view(2, 8))
    got = torch.stack([output.sum(), output.square().sum(), hidden.sum(), hidden.square().sum()])
    wanted = torch.tensor(FINGERPRINT)
    torch.testing.assert_close(got.detach(), wanted, rtol=1e-4, atol=1e-5)


def test_a_deeper_layer_is_added_to_what_lies_below() -> None:
    """With nothing behind its nonlinearity it changes nothing, so depth costs no gradient."""
    deep = StateSpaceModel(4, 3, 2, hidden_dim=5, num_layers=2)
    shallow = StateSpaceModel(4, 3, 2, hidden_dim=5)
    shallow.load_state_dict({name: deep.state_dict()[name] for name in shallow.state_dict()})
    x = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(deep(x)[0], shallow(x)[0])
    with torch.no_grad():
        deep.get_parameter("layers.1.hidden.weight").zero_()
    torch.testing.assert_close(deep(x)[0], shallow(x)[0])


def test_a_shut_gate_lets_nothing_of_the_layer_pass() -> None:
    policy = StateSpaceModel(4, 3, 2, hidden_dim=5, gated=True).double()
    x = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0)).double()
    assert policy(x)[0].std() > 1e-2
    gate = policy.get_submodule("layers.0.gate")
    assert isinstance(gate, nn.Linear)
    with torch.no_grad():
        gate.bias.fill_(-1e3)
    assert not policy(x)[0].any(), "all biases behind the gate start at 0"


@pytest.mark.parametrize(("num_layers", "gated"), [(1, False), (1, True), (3, True)])
def test_each_layer_adds_its_memory_and_its_parameters(num_layers: int, gated: bool) -> None:
    policy = StateSpaceModel(4, 3, 2, hidden_dim=5, num_layers=num_layers, gated=gated)
    assert policy.init_hidden(7).shape == (7, 4 * num_layers)
    state_space = 3 * 2 + 2 * 4 * 5 + 5
    a_layer = state_space + (5 * 5 + 5) * (2 if gated else 1)
    wanted = (3 * 5 + 5) + num_layers * a_layer + (5 * 2 + 2)
    assert sum(parameter.numel() for parameter in policy.parameters()) == wanted


def test_no_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="`num_layers` must be at least 1, but got num_layers=0"):
        StateSpaceModel(4, 3, 2, num_layers=0)


def test_starts_at_the_s4d_linear_initialisation() -> None:
    """``lambda_n = -1/2 + i pi n``, held over time steps from 1e-1 down to 1e-3."""
    policy = StateSpaceModel(8, 3, 2, hidden_dim=4).double()
    eigenvalue = torch.complex(torch.full((4,), -0.5).double(), torch.pi * torch.arange(4).double())
    step = torch.logspace(-1, -3, 4).double()
    torch.testing.assert_close(decay_of(policy), (step * eigenvalue).exp(), rtol=1e-6, atol=1e-6)


def test_zero_order_hold_is_the_exact_response_to_a_constant_input() -> None:
    """Held input: the memory tends to ``-b / lambda``, the rest state of the continuous system.

    ``b`` are the weights of the drive in their units, the same for any time step.
    """
    policy = random_model(SequenceConfig("ssm", state_dim=6, hidden_dim=8))
    assert isinstance(policy, StateSpaceModel)
    x = torch.ones(1, 1, policy.input_dim).double().expand(1, 5_000, -1)
    with torch.no_grad():
        policy.layers[0].log_time_step.fill_(math.log(0.02))
        first = torch.zeros(1, x.shape[1], dtype=torch.bool)
        _, settled = policy.scan(x, policy.init_hidden(1), first)
        drive = policy.layers[0].drive(torch.tanh(policy.encoder(x[:, 0])))
        drive = drive * policy.layers[0].loudness
        eigenvalue = torch.complex(-policy.layers[0].log_rate.exp(), policy.layers[0].frequency)
    rest = -torch.view_as_complex(drive.view(-1, 2)) / eigenvalue
    torch.testing.assert_close(torch.view_as_complex(settled.view(-1, 2)), rest)


def test_every_mode_is_heard_alike_at_first() -> None:
    """White noise moves a slow mode as far as a fast one; once, none of them could be heard."""
    torch.manual_seed(0)
    layer = StateSpaceModel(64, 3, 2, hidden_dim=256).layers[0]
    x = torch.randn(64, 4_000, 256)
    first = torch.zeros(64, 4_000, dtype=torch.bool)
    decay, drive = layer.discretise()
    states = recurrence(decay.detach(), x @ drive.detach(), torch.zeros(64, 64), first)
    # Xavier's weights of 256 inputs and 64 outputs turn unit noise into one of this variance.
    wanted = 0.5 * math.sqrt(2.0 * 256 / (256 + 64))
    spread = states[:, 2_000:].unflatten(-1, (-1, 2)).square().sum(-1).mean((0, 1)).sqrt()
    torch.testing.assert_close(spread / math.sqrt(2.0), torch.full((32,), wanted), rtol=0.1, atol=0)


def test_remembers() -> None:
    """An input of the first step still shows in the last output; an MLP could not."""
    policy = random_model(SequenceConfig("ssm", state_dim=6, hidden_dim=8))
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
