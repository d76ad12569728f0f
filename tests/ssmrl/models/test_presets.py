"""Sizes of the policies: what is counted, what is equal, and that every preset works."""

import pytest
import torch

from ssmrl.config import METHODS
from ssmrl.models.actor import make_actor
from ssmrl.models.policy import SequencePolicy, reset_hidden
from ssmrl.models.presets import PRESETS, num_parameters, preset

STATED = {"ssm": 52_722, "lstm": 76_038, "gru": 57_222, "transformer": 399_622, "mlp": 19_590}
"""Of the usual layers at 128 units, 17 inputs and 6 outputs."""

every_method = pytest.mark.parametrize("method", METHODS)


def policy_of(name: str, method: str, *dims: int) -> SequencePolicy:
    return make_actor(preset(name, method, *dims), *dims, torch.Generator()).policy


@every_method
def test_the_seed_preset_has_the_stated_number_of_parameters(method: str) -> None:
    count = num_parameters(policy_of("seed", method, 17, 6))
    assert abs(count - STATED[method]) <= 0.02 * STATED[method]
    if method != "ssm":
        assert count == STATED[method]


@pytest.mark.parametrize("dims", [(17, 6), (27, 8), (348, 17), (3, 1), (4, 2)])
@every_method
def test_the_matched_preset_gives_every_method_as_many_parameters(
    method: str, dims: tuple[int, int]
) -> None:
    target = num_parameters(policy_of("seed", "ssm", *dims))
    assert abs(num_parameters(policy_of("matched", method, *dims)) - target) <= 0.03 * target


@pytest.mark.parametrize("name", PRESETS)
@every_method
def test_scan_equals_the_loop_of_steps(name: str, method: str) -> None:
    policy = policy_of(name, method, 17, 6).double()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 17, generator=generator).double()
    first = torch.tensor([[True, False, False, True, False], [True, False, False, False, False]])
    hidden, outputs = policy.init_hidden(2), []
    with torch.no_grad():
        for t in range(5):
            output, hidden = policy.step(x[:, t], reset_hidden(hidden, first[:, t]))
            outputs.append(output)
        scanned, last = policy.scan(x, policy.init_hidden(2), first)
    torch.testing.assert_close(scanned, torch.stack(outputs, dim=1), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(last, hidden, rtol=1e-10, atol=1e-10)


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match="unknown preset 'big'") as caught:
        preset("big", "ssm")
    assert all(name in str(caught.value) for name in PRESETS)
    with pytest.raises(KeyError, match="unknown method 'rnn'") as caught:
        preset("seed", "rnn")
    assert all(method in str(caught.value) for method in METHODS)


def test_counting_draws_no_global_random_numbers() -> None:
    before = torch.random.get_rng_state()
    for method in METHODS:
        preset("matched", method, 5, 2)
    assert torch.equal(torch.random.get_rng_state(), before)
