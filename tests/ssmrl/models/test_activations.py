"""The nonlinearities equal torch's own, and do not round by an element's place."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ssmrl.models.activations import gelu, sigmoid

PAIRS = {"sigmoid": (sigmoid, torch.sigmoid), "gelu": (gelu, functional.gelu)}
every_pair = pytest.mark.parametrize(("ours", "theirs"), PAIRS.values(), ids=PAIRS)


def slope_of(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The derivative, element by element."""
    slope: Callable[[Tensor], Tensor] = torch.func.grad(lambda x: function(x).sum())
    return slope


@every_pair
def test_equals_torchs_own_in_value_and_two_derivatives(
    ours: Callable[[Tensor], Tensor], theirs: Callable[[Tensor], Tensor]
) -> None:
    x = torch.linspace(-8.0, 8.0, 101).double()
    for _ in range(3):
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-12)
        ours, theirs = slope_of(ours), slope_of(theirs)


@every_pair
def test_the_bits_do_not_depend_on_the_place_in_the_tensor(
    ours: Callable[[Tensor], Tensor], theirs: Callable[[Tensor], Tensor]
) -> None:
    """Else a task's actions depend on how many tasks there are; torch's own fail this."""
    x = torch.randn(225, generator=torch.Generator().manual_seed(0))
    for function in (ours, slope_of(ours)):
        whole = function(x)
        for start in range(0, 200, 7):
            for size in (1, 3, 15, 24):
                part = x[start : start + size].clone()
                assert torch.equal(function(part), whole[start : start + size])
