"""Models of one's own in MetaMAML: their gradients are right, or they are refused."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ssmrl.meta.maml import MetaMAML
from ssmrl.meta.supervised import SupervisedTask

INNER_LR = 0.1


def tasks_of(num: int = 3, *, dtype: torch.dtype = torch.float64) -> list[SupervisedTask]:
    """Random ones, with five examples to adapt to and six to be judged by."""
    generator = torch.Generator().manual_seed(0)

    def normal(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=generator).to(dtype)

    return [(normal(5, 3), normal(5, 2), normal(6, 3), normal(6, 2)) for _ in range(num)]


def model_with(layer: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 8), layer, nn.Linear(8, 2)).double()


def gradient_of_a_loop(model: nn.Module, tasks: list[SupervisedTask]) -> list[Tensor]:
    """One task after another, by automatic differentiation alone."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    total = torch.zeros((), dtype=torch.float64)
    for support_x, support_y, query_x, query_y in tasks:
        own = dict(zip(names, parameters, strict=True))
        loss = functional.mse_loss(torch.func.functional_call(model, own, support_x), support_y)
        slopes = torch.autograd.grad(loss, parameters, create_graph=True)
        adapted = {
            name: value - INNER_LR * slope
            for name, value, slope in zip(names, parameters, slopes, strict=True)
        }
        output = torch.func.functional_call(model, adapted, query_x)
        total = total + functional.mse_loss(output, query_y) / len(tasks)
    return list(torch.autograd.grad(total, parameters))


@pytest.mark.parametrize(
    "layer",
    [
        nn.LayerNorm(8),
        nn.LayerNorm((2, 4)),
        nn.LayerNorm(8, elementwise_affine=False),
        nn.LayerNorm(8, bias=False),
        nn.BatchNorm1d(8, track_running_stats=False),
        nn.BatchNorm1d(8, affine=False, track_running_stats=False),
        nn.GroupNorm(2, 8),
        nn.RMSNorm(8),
        nn.GELU(),
        nn.Softmax(-1),
        nn.PReLU(),
    ],
    ids=str,
)
def test_the_meta_gradient_is_that_of_a_loop(layer: nn.Module) -> None:
    if getattr(layer, "normalized_shape", None) == (2, 4):
        layer = nn.Sequential(nn.Unflatten(1, (2, 4)), layer, nn.Flatten())
    model, tasks = model_with(layer), tasks_of()
    wanted = gradient_of_a_loop(model, tasks)
    _, found = MetaMAML(model, INNER_LR).meta_gradient(tasks)
    scale = max(float(each.norm()) for each in wanted)
    for ours, theirs in zip(found.values(), wanted, strict=True):
        assert float((ours - theirs).norm()) <= 1e-10 * scale


def test_the_norms_themselves_are_torchs() -> None:
    """Outside of any gradient the stand-ins give what torch gives."""
    generator = torch.Generator().manual_seed(2)
    for layer, shape in (
        (nn.LayerNorm(8), (5, 8)),
        (nn.BatchNorm1d(8, track_running_stats=False), (5, 8)),
        (nn.BatchNorm1d(4, track_running_stats=False), (5, 4, 3)),
        (nn.BatchNorm1d(8).eval(), (5, 8)),
    ):
        for parameter in layer.parameters():
            nn.init.normal_(parameter)
        x = torch.randn(shape, generator=generator)
        found, _ = MetaMAML(layer).functional_forward(x)
        torch.testing.assert_close(found, layer(x))


class _Doubled(torch.autograd.Function):
    """Twice its input; under ``vmap`` its gradient is three times what it should be."""

    generate_vmap_rule = False

    @staticmethod
    def forward(x: Tensor, factor: float) -> Tensor:
        return 2.0 * x

    @staticmethod
    def setup_context(ctx: object, inputs: tuple[Tensor, float], output: Tensor) -> None:
        ctx.factor = inputs[1]  # type: ignore[attr-defined]

    @staticmethod
    def backward(ctx: object, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return 2.0 * ctx.factor * grad_outputs[0], None  # type: ignore[attr-defined]

    @staticmethod
    def vmap(info: object, in_dims: tuple[int | None, ...], x: Tensor, factor: float) -> object:
        return _Doubled.apply(x, 3.0), in_dims[0]  # type: ignore[no-untyped-call]


class Wrong(nn.Module):
    """A layer whose derivative is wrong for many tasks at once, and right for one."""

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = _Doubled.apply(x, 1.0)  # type: ignore[no-untyped-call]
        return result


def test_a_layer_that_is_differentiated_wrongly_is_refused_before_anything_changes() -> None:
    model = model_with(Wrong())
    before = [parameter.detach().clone() for parameter in model.parameters()]
    maml = MetaMAML(model, INNER_LR)
    for call in (maml.meta_loss, maml.meta_gradient, maml.meta_update):
        with pytest.raises(ValueError, match=r"`torch.func.vmap` is \d.* % off that of a plain"):
            call(tasks_of())
    assert all(map(torch.equal, before, model.parameters()))


def test_a_right_model_is_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    compare = MetaMAML._compare_with_loop
    monkeypatch.setattr(
        MetaMAML,
        "_compare_with_loop",
        lambda self, *arguments: (calls.append(1), compare(self, *arguments)),
    )
    maml = MetaMAML(model_with(nn.Tanh()), INNER_LR)
    maml.meta_update(tasks_of())
    maml.meta_update(tasks_of())
    assert len(calls) == 1


# ------------------------------------------------------------------------------------ optimiser


def test_what_is_unfrozen_later_learns() -> None:
    model = model_with(nn.Tanh())
    first = next(iter(model.parameters()))
    first.requires_grad_(False)
    maml = MetaMAML(model, INNER_LR)
    before = first.detach().clone()
    maml.meta_update(tasks_of())
    assert torch.equal(first, before)
    first.requires_grad_(True)
    maml.meta_update(tasks_of())
    assert not torch.equal(first, before)


def test_a_changed_learning_rate_is_kept_and_a_scheduler_outlives_a_load(tmp_path: Path) -> None:
    maml = MetaMAML(model_with(nn.Tanh()), INNER_LR, outer_lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(maml.optimizer, step_size=1, gamma=0.5)
    maml.meta_update(tasks_of())
    scheduler.step()
    maml.save(tmp_path / "maml")
    other = MetaMAML(model_with(nn.Tanh()), INNER_LR)
    other.load(tmp_path / "maml")
    assert other.optimizer.param_groups[0]["lr"] == 0.005
    assert other.settings["outer_lr"] == 0.01
    maml.load(tmp_path / "maml")
    scheduler.step()
    assert maml.optimizer.param_groups[0]["lr"] == 0.0025
    before = [parameter.detach().clone() for parameter in maml.model.parameters()]
    maml.meta_update(tasks_of())
    assert not all(map(torch.equal, before, maml.model.parameters()))


# ---------------------------------------------------------------------------------------- tasks


@pytest.mark.parametrize(
    ("tasks", "match"),
    [
        (lambda: [tuple(each[:0] for each in task) for task in tasks_of()], "must not be empty"),
        (lambda: [tuple(each[:, :0] for each in task) for task in tasks_of()], "must not be empty"),
        (list, "at least one task"),
    ],
)
def test_empty_tasks_are_refused(tasks: Callable[[], list[SupervisedTask]], match: str) -> None:
    maml = MetaMAML(model_with(nn.Tanh()))
    for call in (maml.meta_update, maml.meta_loss, maml.meta_gradient):
        with pytest.raises(ValueError, match=match):
            call(tasks())


COLLATED = """
import torch
from ssmrl.meta.maml import MetaMAML
maml = MetaMAML(torch.nn.Linear(3, 2))
parts = tuple(torch.randn(4, 5, width) for width in (3, 2, 3, 2))
for tasks in (parts, parts[0]):
    try:
        maml.meta_update(tasks)
    except ValueError as error:
        print(error)
print(maml.meta_update(list(zip(*parts))) > 0.0)
"""


def test_four_collated_tensors_are_not_taken_for_four_tasks() -> None:
    """In a process of its own, without the types that these tests check at every call."""
    done = subprocess.run(
        [sys.executable, "-c", COLLATED], capture_output=True, text=True, check=True
    )
    first, second, last = done.stdout.splitlines()
    assert "but holds tensors" in first
    assert "but holds tensors" in second
    assert last == "True"
