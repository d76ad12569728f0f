"""The fast recurrence and its plain twin are the same function, with the same derivatives."""

import subprocess
import sys
from functools import partial
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ssmrl.models.recurrence import (
    ALGORITHMS,
    conjugate,
    multiply,
    recurrence,
    recurrence_by_steps,
)
from tests.contracts.property_settings import PROPERTY

TASKS, BATCH, TIME, STATE = 3, 2, 5, 4

every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


class Inputs(NamedTuple):
    decay: Tensor
    drive: Tensor
    initial: Tensor
    first: Tensor


def random_inputs(seed: int, *leading: int, resets: float = 0.3) -> Inputs:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*leading, *shape, generator=generator).double()

    return Inputs(
        (0.5 * normal(STATE)).requires_grad_(),
        normal(BATCH, TIME, STATE).requires_grad_(),
        normal(BATCH, STATE).requires_grad_(),
        torch.rand(*leading, BATCH, TIME, generator=generator) < resets,
    )


def as_complex(x: Tensor) -> Tensor:
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())


def test_pairs_multiply_and_conjugate_as_complex_numbers() -> None:
    x, y = random_inputs(0).drive, random_inputs(1).decay
    wanted = as_complex(x) * as_complex(y)
    torch.testing.assert_close(as_complex(multiply(x, y)), wanted, rtol=1e-14, atol=1e-14)
    assert torch.equal(as_complex(conjugate(x)), as_complex(x).conj().resolve_conj())


@every_algorithm
@PROPERTY
@given(seed=st.integers(0, 2**20), resets=st.sampled_from([0.0, 0.3, 1.0]))
def test_equals_its_plain_twin_in_values_and_gradients(
    algorithm: str, seed: int, resets: float
) -> None:
    """A graph of one node instead of one per step: faster, so it must be shown to be the same."""
    inputs = random_inputs(seed, resets=resets)
    weight = random_inputs(seed + 1).drive.detach()
    results = []
    for function in (partial(recurrence, algorithm=algorithm), recurrence_by_steps):
        states = function(*inputs)
        gradient = torch.autograd.grad((weight * states.sin()).sum(), inputs[:3])
        results.append((states, *gradient))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@every_algorithm
def test_first_and_second_derivatives_equal_finite_differences(algorithm: str) -> None:
    """The backward pass is written by hand and the meta-gradient differentiates it again."""
    *differentiable, first = random_inputs(3)
    assert first.any()
    assert not first.all()

    def states(decay: Tensor, drive: Tensor, initial: Tensor) -> Tensor:
        return recurrence(decay, drive, initial, first, algorithm)

    assert torch.autograd.gradcheck(states, differentiable)
    assert torch.autograd.gradgradcheck(states, differentiable)


@every_algorithm
def test_third_derivative_equals_the_twin(algorithm: str) -> None:
    """The backward pass applies the recurrence itself, so it can be differentiated again."""
    results = []
    for function in (partial(recurrence, algorithm=algorithm), recurrence_by_steps):
        inputs = random_inputs(4)
        value = function(*inputs).sin().sum()
        for _ in range(3):
            gradients = torch.autograd.grad(value, inputs[:3], create_graph=True)
            value = sum((g.square().sum() for g in gradients), torch.zeros(()))
        results.append(value)
    torch.testing.assert_close(results[0], results[1], rtol=1e-10, atol=0.0)


@every_algorithm
@pytest.mark.parametrize("shared", ["nothing", "decay", "initial", "first"])
def test_under_vmap_equals_the_loop_over_tasks(shared: str, algorithm: str) -> None:
    """Tasks are batched by ``vmap``, with some arguments per task and others common to all."""
    inputs = random_inputs(5, TASKS)
    in_dims = tuple(None if name == shared else 0 for name in Inputs._fields)
    given_ = tuple(
        value[0] if dim is None else value for value, dim in zip(inputs, in_dims, strict=True)
    )
    vmapped = torch.func.vmap(partial(recurrence, algorithm=algorithm), in_dims=in_dims)(*given_)
    looped = torch.stack(
        [
            recurrence_by_steps(
                *(v if d is None else v[n] for v, d in zip(given_, in_dims, strict=True))
            )
            for n in range(TASKS)
        ]
    )
    torch.testing.assert_close(vmapped, looped, rtol=1e-12, atol=1e-12)
    weight = torch.linspace(0.5, 2.0, looped.numel()).double().view_as(looped)
    wanted = torch.autograd.grad((weight * looped.cos()).sum(), inputs[:3])
    got = torch.autograd.grad((weight * vmapped.cos()).sum(), inputs[:3])
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def test_inputs_are_not_written_to() -> None:
    """The forward pass writes in place into its own result, and into nothing else."""
    inputs = random_inputs(6)
    before = [value.detach().clone() for value in inputs]
    recurrence(*inputs).sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(inputs, before, strict=True))


@pytest.mark.parametrize("state_dim", [4, 8, 14, 30, 32, 36, 70, 128])
def test_a_lane_has_the_same_bits_whatever_others_forget(state_dim: int) -> None:
    """Its results must not depend on how a meta-batch is divided (law 4)."""
    generator = torch.Generator().manual_seed(8)
    drive = torch.randn(2, 20, state_dim, generator=generator)
    decay = 0.5 * torch.randn(state_dim, generator=generator)
    initial = torch.randn(2, state_dim, generator=generator)
    first = torch.zeros(2, 20, dtype=torch.bool)
    alone = recurrence(decay, drive, initial, first, "loop")[0]
    first[1] = torch.rand(20, generator=generator) < 0.5
    assert torch.equal(recurrence(decay, drive, initial, first, "loop")[0], alone)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 8, 37, 64])
def test_doubling_is_right_at_every_length(num_steps: int) -> None:
    """Lengths that are no power of two end in a pass that is only partly needed."""
    inputs = random_inputs(7)
    drive = inputs.drive[:, :1].expand(-1, num_steps, -1)
    first = torch.arange(num_steps).expand(BATCH, -1) % 11 == 5
    wanted = recurrence_by_steps(inputs.decay, drive, inputs.initial, first)
    got = recurrence(inputs.decay, drive, inputs.initial, first, "doubling")
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


def test_an_unknown_algorithm_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be one of \['loop', 'doubling'\], but got 'fft'"):
        recurrence(*random_inputs(8), "fft")


COMPILED = """
import torch
from ssmrl.models.recurrence import recurrence

def function(decay, drive, initial, first):
    return recurrence(decay, drive.tanh(), initial, first).sin()

def gradients(run):
    inputs = [torch.linspace(-0.9, 0.9, n).view(s).requires_grad_() for n, s in SHAPES]
    states = run(*inputs, torch.arange(10).view(2, 5) % 4 == 2)
    return [states, *torch.autograd.grad(states.sum(), inputs)]

SHAPES = [(4, (4,)), (40, (2, 5, 4)), (8, (2, 4))]
plain, compiled = gradients(function), gradients(torch.compile(function, backend="eager"))
print(all(torch.equal(a, b) for a, b in zip(plain, compiled)))
"""


def test_under_torch_compile_the_numbers_are_the_same() -> None:
    """In a process of its own: the checks of shapes in this one cannot be compiled."""
    finished = subprocess.run(
        [sys.executable, "-c", COMPILED], capture_output=True, text=True, check=True, timeout=200
    )
    assert finished.stdout.split() == ["True"]
