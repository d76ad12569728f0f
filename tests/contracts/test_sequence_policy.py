"""What every sequence policy promises, whatever is inside it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ssmrl.config import METHODS
from ssmrl.models.policy import SequencePolicy, reset_hidden
from tests.contracts.property_settings import PROPERTY
from tests.contracts.sequence_policy import (
    INPUT_DIM,
    OUTPUT_DIM,
    POLICIES,
    loop,
    make_policy,
    random_sequences,
)

every_policy = pytest.mark.parametrize("name", POLICIES)
seeds = st.integers(0, 2**20)


def assert_same(got: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> None:
    """Outputs and memory agree to 1e-10, and not because both are constant."""
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_the_suite_covers_every_method_and_every_policy_class() -> None:
    assert set(POLICIES) == set(METHODS)
    own = {kind for kind in SequencePolicy.__subclasses__() if kind.__module__.startswith("ssmrl.")}
    assert {type(make()) for make in POLICIES.values()} == own


@every_policy
@PROPERTY
@given(seed=seeds)
def test_scan_equals_the_loop_of_reset_and_step(name: str, seed: int) -> None:
    """The policy acts by steps and learns by scans: any difference makes the gradient wrong."""
    policy = make_policy(name, seed)
    sequences = random_sequences(policy, seed)
    assert sequences.first.any()
    assert_same(policy.scan(*sequences), loop(policy, sequences))


@every_policy
def test_scan_and_loop_have_the_same_gradient(name: str) -> None:
    policy = make_policy(name)
    sequences = random_sequences(policy, seed=1)
    parameters = list(policy.parameters())
    by_scan, by_loop = (
        torch.autograd.grad(output.square().sum(), parameters, allow_unused=True)
        for output, _ in (policy.scan(*sequences), loop(policy, sequences))
    )
    for ours, theirs in zip(by_scan, by_loop, strict=True):
        assert ours is not None
        assert theirs is not None
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@every_policy
@PROPERTY
@given(seed=seeds, cut=st.integers(1, 11))
def test_a_scan_may_be_cut_anywhere(name: str, seed: int, cut: int) -> None:
    """What a long lane is cut into must not matter; the memory carries everything over."""
    policy = make_policy(name, seed)
    x, hidden, first = random_sequences(policy, seed)
    head, between = policy.scan(x[:, :cut], hidden, first[:, :cut])
    tail, last = policy.scan(x[:, cut:], between, first[:, cut:])
    assert_same((torch.cat([head, tail], dim=1), last), policy.scan(x, hidden, first))


@every_policy
@PROPERTY
@given(seed=seeds, at=st.integers(0, 11))
def test_after_a_reset_nothing_is_left_of_what_came_before(name: str, seed: int, at: int) -> None:
    """Two episodes in one lane must not leak into each other."""
    policy = make_policy(name, seed)
    x, hidden, first = random_sequences(policy, seed)
    first = first.clone()
    first[:, at] = True
    output, last = policy.scan(x, hidden, first)
    fresh = policy.scan(x[:, at:], policy.init_hidden(len(x)), first[:, at:])
    assert_same((output[:, at:], last), fresh)


@every_policy
@PROPERTY
@given(seed=seeds, order=st.permutations(range(4)))
def test_permuting_the_batch_permutes_the_result(name: str, seed: int, order: list[int]) -> None:
    """No sequence sees another one of its batch."""
    policy = make_policy(name, seed)
    x, hidden, first = random_sequences(policy, seed)
    output, last = policy.scan(x, hidden, first)
    permuted = policy.scan(x[order], hidden[order], first[order])
    assert_same(permuted, (output[order], last[order]))


@every_policy
@pytest.mark.parametrize("batch_size", [1, 5])
def test_the_memory_has_the_batch_on_axis_0(name: str, batch_size: int) -> None:
    """Workers unflatten the batch into tasks and episodes; that needs it to be axis 0."""
    policy = make_policy(name)
    hidden = policy.init_hidden(batch_size)
    assert hidden.shape == (batch_size, policy.state_dim)
    assert hidden.dtype == torch.float64
    assert not hidden.any()
    _, after_step = policy.step(torch.ones(batch_size, INPUT_DIM).double(), hidden)
    _, after_scan = policy.scan(
        torch.ones(batch_size, 3, INPUT_DIM).double(),
        hidden,
        torch.zeros(batch_size, 3, dtype=torch.bool),
    )
    assert after_step.shape == after_scan.shape == hidden.shape


@every_policy
def test_reset_empties_exactly_the_sequences_that_start(name: str) -> None:
    policy = make_policy(name)
    hidden = random_sequences(policy, seed=2).hidden
    kept = reset_hidden(hidden, torch.tensor([True, False, True, False]))
    assert not kept[0::2].any()
    assert torch.equal(kept[1::2], hidden[1::2])


@every_policy
def test_forward_steps_on_2d_and_scans_on_3d(name: str) -> None:
    """One door for both; without a memory it starts empty, without ``first`` it never forgets."""
    policy = make_policy(name)
    x, hidden, first = random_sequences(policy, seed=3)
    assert_same(policy(x, hidden, first), policy.scan(x, hidden, first))
    never = torch.zeros_like(first)
    assert_same(policy(x), policy.scan(x, policy.init_hidden(len(x)), never))
    assert_same(policy(x[:, 0], hidden), policy.step(x[:, 0], hidden))
    forgotten = reset_hidden(hidden, first[:, 0])
    assert_same(policy(x[:, 0], hidden, first[:, 0]), policy.step(x[:, 0], forgotten))
    assert policy(x)[0].shape == (*x.shape[:2], OUTPUT_DIM)


@every_policy
@pytest.mark.parametrize(
    "shape", [(INPUT_DIM,), (4, INPUT_DIM + 1), (4, 5, INPUT_DIM - 1), (4, 5, 6, INPUT_DIM)]
)
def test_a_wrong_shape_is_refused_with_both_shapes(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be \(B, 3\) or \(B, T, 3\), but got") as caught:
        make_policy(name)(torch.zeros(shape).double())
    assert str(shape) in str(caught.value)
