"""The inner step against sums done by hand."""

import pytest
import torch
from torch import Tensor

from ssmrl.meta.inner import inner_adapt, inner_step, stack_params
from ssmrl.types import Params


def bowl(params: Params) -> Tensor:
    """``(w - 1)^2 + 3 v``; gradients ``2 (w - 1)`` and 3, second derivatives 2 and 0."""
    return (params["w"] - 1.0).square() + 3.0 * params["v"]


def start() -> Params:
    return {"w": torch.tensor(5.0).double(), "v": torch.tensor(2.0).double()}


def test_steps_by_hand() -> None:
    # lr 0.25: w goes 5 -> 5 - 0.25 * 8 = 3 -> 3 - 0.25 * 4 = 2, and v goes 2 -> 1.25 -> 0.5.
    params = start()
    adapted = inner_adapt(bowl, params, lr=0.25, num_steps=2)
    assert (adapted["w"].item(), adapted["v"].item()) == (2.0, 0.5)
    assert (params["w"].item(), params["v"].item()) == (5.0, 2.0), "the start is not changed"
    assert inner_adapt(bowl, params, lr=0.25, num_steps=0) is params


@pytest.mark.parametrize(("first_order", "slope"), [(False, 0.25), (True, 1.0)])
def test_derivative_with_respect_to_the_start(first_order: bool, slope: float) -> None:
    """After two steps ``dw'/dw = (1 - 2 lr)^2 = 0.25``; first order leaves out the factor."""

    def adapted_w(w: Tensor) -> Tensor:
        params = start() | {"w": w}
        return inner_adapt(bowl, params, lr=0.25, num_steps=2, first_order=first_order)["w"]

    assert torch.func.grad(adapted_w)(start()["w"]).item() == slope


@pytest.mark.parametrize("first_order", [False, True])
def test_what_a_step_has_seen_is_differentiable(first_order: bool) -> None:
    """Also in first order, which makes a constant of the gradient alone."""

    def seen_w(w: Tensor) -> Tensor:
        def loss(params: Params) -> tuple[Tensor, Tensor]:
            return bowl(params), params["w"] ** 3

        adapted, seen = inner_step(loss, start() | {"w": w}, lr=0.25, first_order=first_order)
        assert adapted["w"].item() == 3.0
        return seen

    assert seen_w(start()["w"]).item() == 125.0
    assert torch.func.grad(seen_w)(start()["w"]).item() == 75.0


def test_under_vmap_every_task_takes_its_own_steps() -> None:
    targets = torch.tensor([0.0, 1.0, 4.0]).double()

    def adapt(params: Params, target: Tensor) -> Params:
        return inner_adapt(lambda p: (p["w"] - target).square(), params, lr=0.25)

    stacked = stack_params({"w": torch.tensor(2.0).double()}, 3)
    adapted = torch.func.vmap(adapt)(stacked, targets)["w"]
    # 2 - 0.25 * 2 (2 - target): halfway from 2 to each target.
    assert adapted.tolist() == [1.0, 1.5, 3.0]


def test_stacked_params_are_the_same_for_every_task() -> None:
    params = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(1.0)}
    stacked = stack_params(params, 4)
    assert {name: value.shape for name, value in stacked.items()} == {"a": (4, 2, 3), "b": (4,)}
    assert all(torch.equal(stacked[name][n], params[name]) for name in params for n in range(4))
