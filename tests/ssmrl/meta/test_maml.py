"""MetaMAML on supervised tasks: its gradient, its twins, its memories, and that it learns."""

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ssmrl.meta.maml import MetaMAML
from ssmrl.meta.supervised import SupervisedTask
from tests.ssmrl.meta.supervised_problem import (
    MODELS,
    B,
    I,
    N,
    O,
    flat,
    make_model,
    make_tasks,
)


class Elman(nn.Module):
    """A plain module with a memory, outside the contract of ``SequencePolicy``."""

    def __init__(self) -> None:
        super().__init__()
        self.inward, self.around, self.out = nn.Linear(I, 4), nn.Linear(4, 4), nn.Linear(4, O)

    def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.tanh(self.inward(x) + self.around(hidden))
        return self.out(hidden), hidden


every_model = pytest.mark.parametrize("name", MODELS)
every_depth = pytest.mark.parametrize("num_steps", [1, 2])
every_order = pytest.mark.parametrize("first_order", [False, True])


def meta_gradient(maml: MetaMAML, loss: Tensor) -> Tensor:
    gradients = torch.autograd.grad(loss, list(maml.model.parameters()), materialize_grads=True)
    return flat(list(gradients))


def looped_loss(maml: MetaMAML, tasks: list[SupervisedTask], num_steps: int) -> Tensor:
    """The plain twin: one task after the other, by ordinary autograd and no ``torch.func``."""
    first_order = maml.settings["first_order"]
    losses = []
    for support_x, support_y, query_x, query_y in tasks:
        params: dict[str, Tensor] = dict(maml.model.named_parameters())
        for _ in range(num_steps):
            output, _ = maml.functional_forward(support_x, None, params)
            gradients = torch.autograd.grad(
                functional.mse_loss(output, support_y),
                list(params.values()),
                create_graph=not first_order,
            )
            params = {
                key: value - maml.settings["inner_lr"] * gradient
                for (key, value), gradient in zip(params.items(), gradients, strict=True)
            }
        output, _ = maml.functional_forward(query_x, None, params)
        losses.append(functional.mse_loss(output, query_y))
    return torch.stack(losses).mean()


@every_depth
@every_model
def test_meta_gradient_equals_finite_differences(name: str, num_steps: int) -> None:
    """Law 8, through the same function that the update differentiates."""
    maml = MetaMAML(make_model(name), inner_lr=0.3)
    tasks = make_tasks()
    got = meta_gradient(maml, maml.meta_loss(tasks, num_steps=num_steps))
    parameters = list(maml.model.parameters())
    start = flat([parameter.detach() for parameter in parameters])
    # An error in any one of the numbers has a share in every random direction.
    generator, width = torch.Generator().manual_seed(1), 1e-5
    directions = torch.randn(8, len(start), generator=generator).double()
    slopes = []
    for direction in directions:
        losses = []
        for sign in (1.0, -1.0):
            nn.utils.vector_to_parameters(start + sign * width * direction, parameters)
            losses.append(float(maml.meta_loss(tasks, num_steps=num_steps).detach()))
        slopes.append((losses[0] - losses[1]) / (2.0 * width))
    wanted = torch.tensor(slopes).double()
    assert (directions @ got - wanted).norm() / wanted.norm() < 1e-7


@every_order
@every_depth
@every_model
def test_all_tasks_at_once_equal_a_loop_over_tasks(
    name: str, num_steps: int, first_order: bool
) -> None:
    """First order against its own definition: there the loop builds no second graph."""
    maml = MetaMAML(make_model(name), inner_lr=0.3, first_order=first_order)
    tasks = make_tasks()
    loss, twin = maml.meta_loss(tasks, num_steps=num_steps), looped_loss(maml, tasks, num_steps)
    torch.testing.assert_close(loss, twin, rtol=1e-12, atol=1e-12)
    got, wanted = meta_gradient(maml, loss), meta_gradient(maml, twin)
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-11)
    other = MetaMAML(maml.model, inner_lr=0.3, first_order=not first_order)
    assert (meta_gradient(other, other.meta_loss(tasks, num_steps=num_steps)) - got).norm() > 1e-3


@every_model
def test_permuting_the_tasks_changes_nothing(name: str) -> None:
    maml, tasks = MetaMAML(make_model(name), inner_lr=0.3), make_tasks()
    in_order = meta_gradient(maml, maml.meta_loss(tasks))
    permuted = meta_gradient(maml, maml.meta_loss([tasks[2], tasks[0], tasks[1]]))
    torch.testing.assert_close(in_order, permuted, rtol=1e-12, atol=1e-13)


@every_model
def test_an_update_is_a_step_of_adam_along_the_meta_gradient(name: str) -> None:
    """Adam's first step is ``outer_lr * g / (|g| + eps)``; the returned loss is from before it."""
    maml, tasks = MetaMAML(make_model(name), inner_lr=0.3, outer_lr=0.01), make_tasks()
    loss = maml.meta_loss(tasks, num_steps=2)
    gradient = meta_gradient(maml, loss)
    before = flat([p.detach().clone() for p in maml.model.parameters()])
    assert maml.meta_update(tasks, num_steps=2) == float(loss.detach())
    after = flat([p.detach() for p in maml.model.parameters()])
    torch.testing.assert_close(before - after, 0.01 * gradient / (gradient.abs() + 1e-8))
    assert all(p.grad is None for p in maml.model.parameters())


def test_the_meta_gradient_is_clipped_as_a_whole_and_only_if_longer() -> None:
    tasks = make_tasks()
    gradients = {}
    for clip in (None, 1e-3, 1e3):
        maml = MetaMAML(make_model(), grad_clip_norm=clip)
        maml.meta_update(tasks)
        moments = [maml.optimizer.state[p]["exp_avg"] for p in maml.model.parameters()]
        gradients[clip] = flat(moments) / 0.1  # Adam's first moment is (1 - 0.9) times it.
    whole = gradients[None]
    assert whole.norm() > 1e-3
    torch.testing.assert_close(gradients[1e3], whole)
    torch.testing.assert_close(gradients[1e-3], whole * (1e-3 / whole.norm()))


@every_model
def test_adapted_parameters_carry_the_graph_and_leave_the_model_alone(name: str) -> None:
    maml = MetaMAML(make_model(name), inner_lr=0.3)
    tasks = make_tasks()
    before = flat([p.detach().clone() for p in maml.model.parameters()])
    losses = []
    for support_x, support_y, query_x, query_y in tasks:
        adapted = maml.adapt_task(support_x, support_y, num_steps=2)
        assert isinstance(adapted, OrderedDict)
        output, _ = maml.functional_forward(query_x, None, adapted)
        losses.append(functional.mse_loss(output, query_y))
    torch.stack(losses).mean().backward()  # type: ignore[no-untyped-call]
    got = flat([p.grad if p.grad is not None else p * 0 for p in maml.model.parameters()])
    torch.testing.assert_close(got, meta_gradient(maml, maml.meta_loss(tasks, num_steps=2)))
    assert torch.equal(flat([p.detach() for p in maml.model.parameters()]), before)


def test_without_gradients_around_only_the_graph_is_left_out() -> None:
    """The inner gradient is needed even there, and an update always makes its own."""
    maml, tasks = MetaMAML(make_model(), inner_lr=0.3), make_tasks()
    loss, adapted = maml.meta_loss(tasks), maml.adapt_task(*tasks[0][:2])
    with torch.no_grad():
        assert not maml.meta_loss(tasks).requires_grad
        assert torch.equal(maml.meta_loss(tasks), loss)
        without = maml.adapt_task(*tasks[0][:2])
        assert all(torch.equal(without[key], adapted[key]) for key in adapted)
        assert not any(value.requires_grad for value in without.values())
        maml.meta_update(tasks)
    assert not torch.equal(maml.meta_loss(tasks), loss)


def test_no_steps_are_training_on_all_tasks() -> None:
    maml, tasks = MetaMAML(make_model("mlp")), make_tasks()
    adapted = maml.adapt_task(*tasks[0][:2], num_steps=0)
    for key, parameter in maml.model.named_parameters():
        assert torch.equal(adapted[key], parameter)
        assert adapted[key].data_ptr() != parameter.data_ptr(), "the optimiser writes in place"
    plain = torch.stack([functional.mse_loss(maml.model(task[2])[0], task[3]) for task in tasks])
    torch.testing.assert_close(maml.meta_loss(tasks, num_steps=0), plain.mean())


def test_2d_inputs_are_one_step() -> None:
    maml = MetaMAML(make_model(), inner_lr=0.3)
    steps = [(x[:, 0], y[:, 0], u[:, 0], v[:, 0]) for x, y, u, v in make_tasks()]
    sequences = [tuple(part.unsqueeze(1) for part in task) for task in steps]
    torch.testing.assert_close(maml.meta_loss(steps), maml.meta_loss(sequences))


def test_a_hidden_state_is_shared_or_one_for_each_task() -> None:
    maml = MetaMAML(make_model(), inner_lr=0.3)
    generator = torch.Generator().manual_seed(3)
    memories = torch.randn(N, B, 4, generator=generator).double()
    tasks = [(x, y, x.flip(0), y.flip(0)) for x, y, _, _ in make_tasks()]
    with torch.no_grad():
        alone = [float(maml.meta_loss([t], h)) for t, h in zip(tasks, memories, strict=True)]
        assert len(set(alone)) == N
        mean = torch.tensor(alone).double().mean()
        for per_task in (memories, list(memories), tuple(memories)):
            torch.testing.assert_close(maml.meta_loss(tasks, per_task), mean)
        shared = maml.meta_loss(tasks, memories[0])
        torch.testing.assert_close(shared, maml.meta_loss(tasks, [memories[0]] * N))
        assert abs(float(shared - mean)) > 1e-4
        empty = maml.meta_loss(tasks, torch.zeros(B, 4).double())
        torch.testing.assert_close(maml.meta_loss(tasks), empty)


def test_a_plain_module_with_a_memory() -> None:
    """No ``init_hidden``: the memory has to come from the caller, and then it matters."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        maml = MetaMAML(Elman().double(), inner_lr=0.3)
    tasks = [(x[:, 0], y[:, 0], x[:, 1], y[:, 1]) for x, y, _, _ in make_tasks()]
    with pytest.raises(ValueError, match="needs a hidden state, but got none"):
        maml.meta_loss(tasks)
    memory = torch.ones(B, 4).double()
    losses = [maml.meta_loss(tasks, scale * memory) for scale in (0.0, 1.0)]
    assert not torch.equal(*losses)
    output, after = maml.functional_forward(tasks[0][0], memory)
    assert after is not None
    assert (output.shape, after.shape) == ((B, O), (B, 4))


def test_a_loss_of_ones_own_is_used_inside_and_outside() -> None:
    """Class labels are integers of another shape than the output."""
    model = nn.Linear(I, 3).double()
    maml = MetaMAML(model, inner_lr=0.5)
    x = make_tasks()[0][0][:, 0]
    labels = torch.tensor([0, 1, 2, 1])
    before = functional.cross_entropy(model(x), labels)
    adapted = maml.adapt_task(x, labels, loss_fn=functional.cross_entropy)
    wanted = model.weight - 0.5 * torch.autograd.grad(before, model.weight)[0]
    torch.testing.assert_close(adapted["weight"], wanted)
    assert maml.meta_loss([(x, labels, x, labels)], loss_fn=functional.cross_entropy) < before


def test_frozen_parameters_stay_and_are_not_adapted() -> None:
    model = make_model("plain")
    model.get_parameter("0.weight").requires_grad_(False)
    frozen = model.get_parameter("0.weight").clone()
    maml, tasks = MetaMAML(model), make_tasks()
    assert set(maml.adapt_task(*tasks[0][:2])) == {"0.bias", "2.weight", "2.bias"}
    maml.meta_update(tasks)
    assert torch.equal(model.get_parameter("0.weight"), frozen)
    with pytest.raises(ValueError, match="nothing to adapt"):
        MetaMAML(nn.Tanh())


def test_it_learns_to_adapt() -> None:
    """Slopes of either sign: without adapting nothing beats predicting zero."""
    generator = torch.Generator().manual_seed(0)

    def draw(num_tasks: int) -> list[SupervisedTask]:
        tasks = []
        for index in range(num_tasks):
            x, u = torch.randn(2, 10, 1, generator=generator)
            slope = 1.0 if index % 2 else -1.0
            tasks.append((x, slope * x, u, slope * u))
        return tasks

    with torch.random.fork_rng():
        torch.manual_seed(0)
        maml = MetaMAML(nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1)), 0.1, 0.01)
    for _ in range(150):
        maml.meta_update(draw(8))
    tasks = draw(40)
    zero = torch.stack([task[3].square().mean() for task in tasks]).mean()
    with torch.no_grad():
        assert maml.meta_loss(tasks, num_steps=0) > 0.8 * zero
        assert maml.meta_loss(tasks) < 0.3 * zero
