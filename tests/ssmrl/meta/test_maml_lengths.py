"""MetaMAML with another loss for the query, and with tasks of unequal lengths."""

import pytest
import torch
from torch import Tensor

from ssmrl.meta import task_parts
from ssmrl.meta.maml import MetaMAML
from ssmrl.meta.masks import Lengths, masked_mean
from ssmrl.meta.supervised import SupervisedTask
from tests.ssmrl.meta.supervised_problem import B, I, N, O, T, make_model

LENGTHS = torch.tensor([2, 5, 3])


def absolute(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).abs().mean()


def masked_absolute(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return masked_mean((prediction - target).abs().mean(-1), mask)


def make_tasks() -> list[SupervisedTask]:
    """Support and query have the same number of steps, so that lengths fit both."""
    generator = torch.Generator().manual_seed(0)
    widths = (I, O, I, O)
    return [[torch.randn(B, T, w, generator=generator).double() for w in widths] for _ in range(N)]


def test_padded_tasks_are_those_of_their_own_length() -> None:
    maml, tasks = MetaMAML(make_model(), inner_lr=0.3), make_tasks()
    alone = [
        maml.meta_loss([[part[:, :length] for part in task]], num_steps=2)
        for task, length in zip(tasks, LENGTHS.tolist(), strict=True)
    ]
    padded = maml.meta_loss(tasks, num_steps=2, lengths=LENGTHS)
    torch.testing.assert_close(padded, torch.stack(alone).mean())


def test_what_is_padded_with_does_not_matter() -> None:
    maml, tasks = MetaMAML(make_model(), inner_lr=0.3), make_tasks()
    value, gradient = maml.meta_gradient(tasks, lengths=LENGTHS)
    for task, length in zip(tasks, LENGTHS.tolist(), strict=True):
        for part in task:
            part[:, length:] = 7.0
    again, same = maml.meta_gradient(tasks, lengths=LENGTHS)
    assert value == pytest.approx(again, rel=1e-12)
    for name in gradient:
        torch.testing.assert_close(gradient[name], same[name], rtol=1e-10, atol=1e-12)
    assert maml.meta_gradient(tasks)[0] != pytest.approx(value)


def test_support_and_query_have_lengths_or_masks_of_their_own() -> None:
    maml, tasks = MetaMAML(make_model(), inner_lr=0.3), make_tasks()
    rest = torch.arange(T) >= LENGTHS[:, None] - 1
    alone = []
    for task, length in zip(tasks, LENGTHS.tolist(), strict=True):
        adapted = maml.adapt_task(task[0][:, :length], task[1][:, :length])
        output, _ = maml.functional_forward(task[2], None, adapted)
        alone.append((output - task[3])[:, length - 1 :].abs().mean())
    got = maml.meta_loss(tasks, query_loss_fn=masked_absolute, lengths=(LENGTHS, rest))
    torch.testing.assert_close(got, torch.stack(alone).mean())


def test_a_task_that_has_seen_nothing_keeps_the_parameters() -> None:
    maml, tasks = MetaMAML(make_model(), inner_lr=0.3), make_tasks()
    nothing, everything = torch.zeros(N, dtype=torch.long), torch.full((N,), T)
    got = maml.meta_loss(tasks, lengths=(nothing, everything))
    torch.testing.assert_close(got, maml.meta_loss(tasks, num_steps=0))


def test_the_query_has_a_loss_of_its_own() -> None:
    maml, tasks = MetaMAML(make_model(), inner_lr=0.3), make_tasks()
    alone = []
    for task in tasks:
        output, _ = maml.functional_forward(task[2], None, maml.adapt_task(*task[:2]))
        alone.append((output - task[3]).abs().mean())
    got = maml.meta_loss(tasks, query_loss_fn=absolute)
    torch.testing.assert_close(got, torch.stack(alone).mean())
    value, _ = maml.meta_gradient(tasks, query_loss_fn=absolute)
    assert (
        maml.meta_update(tasks, query_loss_fn=absolute)
        == value
        == pytest.approx(float(got.detach()))
    )


def test_parts_of_a_meta_batch_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    maml, tasks = MetaMAML(make_model(), inner_lr=0.3), make_tasks()
    value, gradient = maml.meta_gradient(tasks, lengths=LENGTHS)
    monkeypatch.setattr(task_parts, "ROWS_AT_ONCE", 1)
    in_parts, same = maml.meta_gradient(tasks, lengths=LENGTHS)
    assert in_parts == pytest.approx(value, rel=1e-12)
    for name in gradient:
        torch.testing.assert_close(gradient[name], same[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (torch.tensor([1, 2]), "must be 3 whole numbers"),
        (torch.ones(N), "must be 3 whole numbers"),
        (torch.tensor([1, T + 1, -1]), r"tasks \[1, 2\] are \[6, -1\]"),
        (torch.ones(N, T + 1).bool(), r"must have the shape \(3, 5\)"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(lengths: Lengths, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MetaMAML(make_model()).meta_loss(make_tasks(), lengths=lengths)


def test_single_steps_have_no_lengths() -> None:
    steps = [[part[:, 0] for part in task] for task in make_tasks()]
    with pytest.raises(ValueError, match="leave `lengths` out"):
        MetaMAML(make_model()).meta_loss(steps, lengths=LENGTHS)
