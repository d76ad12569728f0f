"""What every sequence policy promises, whatever is inside it."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ssmrl.config import METHODS
from ssmrl.meta.inner import inner_adapt
from ssmrl.models.policy import SequencePolicy, reset_hidden
from ssmrl.types import Params
from tests.contracts.property_settings import PROPERTY
from tests.contracts.sequence_policy import (
    INPUT_DIM,
    OUTPUT_DIM,
    POLICIES,
    Sequences,
    loop,
    make_policy,
    random_sequences,
)

every_policy = pytest.mark.parametrize("name", POLICIES)
seeds = st.integers(0, 2**20)


@pytest.fixture(autouse=True, scope="module")
def _one_torch_thread() -> Iterator[None]:
    """Tensors are tiny here: more threads only wait for each other on a shared machine."""
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(usual)


def assert_same(got: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> None:
    """Outputs and memory agree to 1e-10, and not because both are constant."""
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_the_suite_covers_every_method_and_every_policy_class() -> None:
    assert set(METHODS) <= set(POLICIES)
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
def test_a_stepper_makes_the_same_steps_and_keeps_no_graph(name: str) -> None:
    policy = make_policy(name)
    x, hidden, _ = random_sequences(policy, seed=2)
    step, known = policy.stepper(), hidden
    for t in range(x.shape[1]):
        output, known = step(x[:, t], known)
        wanted, hidden = policy.step(x[:, t], hidden)
        assert torch.equal(output, wanted)
        assert torch.equal(known, hidden)
        assert not output.requires_grad


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
@PROPERTY
@given(seed=seeds, order=st.permutations(range(3)))
def test_tasks_under_vmap_are_those_of_the_loop_in_any_order(
    name: str, seed: int, order: list[int]
) -> None:
    """Each task has its own parameters, and what the others do is nothing to it."""
    policy = make_policy(name)
    tasks = [
        (dict(make_policy(name, seed + n).named_parameters()), random_sequences(policy, seed + n))
        for n in range(3)
    ]

    def scan(params: Params, sequences: Sequences) -> tuple[Tensor, Tensor]:
        output, last = torch.func.functional_call(policy, params, tuple(sequences))
        return output, last

    stacked = {key: torch.stack([tasks[n][0][key] for n in order]) for key in tasks[0][0]}
    together = Sequences(*(torch.stack([tasks[n][1][i] for n in order]) for i in range(3)))
    outputs, lasts = torch.func.vmap(scan)(stacked, together)
    for place, n in enumerate(order):
        assert_same((outputs[place], lasts[place]), scan(*tasks[n]))


@every_policy
def test_under_vmap_the_gradient_through_inner_steps_is_that_of_the_loop(name: str) -> None:
    """Some kernels have a second derivative that is right alone and silently wrong under vmap."""
    policy = make_policy(name)
    tasks = [random_sequences(policy, seed=n, batch_size=2, num_steps=6) for n in range(2)]

    def adapted_loss(params: Params, sequences: Sequences) -> Tensor:
        def loss(params: Params) -> Tensor:
            output, _ = torch.func.functional_call(policy, params, tuple(sequences))
            return output.sin().square().mean()

        return loss(inner_adapt(loss, params, lr=0.3, num_steps=2))

    def vmapped(params: Params) -> Tensor:
        per_task = torch.func.vmap(adapted_loss, in_dims=(None, Sequences(0, 0, 0)))
        loss: Tensor = per_task(params, together).sum()
        return loss

    def looped(params: Params) -> Tensor:
        return torch.stack([adapted_loss(params, task) for task in tasks]).sum()

    params = {key: value.detach() for key, value in policy.named_parameters()}
    together = Sequences(*(torch.stack(parts) for parts in zip(*tasks, strict=True)))
    got, wanted = torch.func.grad(vmapped)(params), torch.func.grad(looped)(params)
    for key, value in got.items():
        torch.testing.assert_close(value, wanted[key], rtol=1e-9, atol=1e-9)


@every_policy
def test_what_a_memory_carries_shows_in_later_outputs(name: str) -> None:
    """An input of the first step reaches the last output, through a memory and only through one."""
    policy = make_policy(name)
    x = random_sequences(policy, seed=4, num_steps=5).x
    other = torch.cat([x[:, :1] + 1.0, x[:, 1:]], dim=1)
    change = (policy(other)[0][:, -1] - policy(x)[0][:, -1]).abs().amax()
    assert bool(change > 1e-6) == (policy.state_dim > 0)


@every_policy
def test_the_encoder_is_all_but_the_head(name: str) -> None:
    """With other weights in the head alone, the memory is the same and the output is not."""
    policy = make_policy(name)
    sequences = random_sequences(policy, seed=5)
    output, last = policy.scan(*sequences)
    with torch.no_grad():
        policy.head.weight.add_(1.0)
    other, same = policy.scan(*sequences)
    assert torch.equal(same, last)
    assert (other != output).any()


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
