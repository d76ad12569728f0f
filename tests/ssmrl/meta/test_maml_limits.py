"""What MetaMAML refuses, and what a file of it holds."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ssmrl.checkpoint import Checkpoint, CheckpointError
from ssmrl.config import TrainConfig
from ssmrl.meta.diverged import DivergedError
from ssmrl.meta.maml import MetaMAML
from ssmrl.meta.supervised import SupervisedTask
from ssmrl.models.ssm import SSM
from tests.ssmrl.meta.supervised_problem import (
    MODELS,
    B,
    I,
    N,
    O,
    T,
    flat,
    make_model,
    make_tasks,
)

every_model = pytest.mark.parametrize("name", MODELS)


def cut(task: SupervisedTask, part: int, batch: int, time: int) -> SupervisedTask:
    return tuple(
        value[:batch, :time] if index == part else value for index, value in enumerate(task)
    )


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize(("batch", "time"), [(B - 1, T), (B, 1)])
def test_ragged_tasks_are_refused_with_their_shapes(part: int, batch: int, time: int) -> None:
    tasks = make_tasks()
    tasks[1] = cut(tasks[1], part, batch, time)
    with pytest.raises(ValueError, match="all tasks must have the same shapes") as caught:
        MetaMAML(make_model()).meta_update(tasks)
    for shape in (tasks[0][part].shape, tasks[1][part].shape):
        assert str(tuple(shape)) in str(caught.value)
    assert "task 1" in str(caught.value)


@every_model
@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda x, y: (x[:2], y), "same batch size"),
        (lambda x, y: (x, y[:1]), "same batch size"),
        (lambda x, y: (x, y[..., :1]), "must have the output's shape"),
        (lambda x, y: (x, y[:, :1]), "must have the output's shape"),
        (lambda x, y: (x, y[:, 0]), "must have the output's shape"),
        (lambda x, y: (x[0, 0], y), r"must be \(B, I\) or \(B, T, I\)"),
        (lambda x, y: (x[:0], y[:0]), "not (be )?empty"),
        (lambda x, y: (x[:, :0], y[:, :0]), "not (be )?empty"),
    ],
)
def test_what_torch_would_broadcast_is_refused(
    name: str, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], match: str
) -> None:
    """In the support as in the query, of one task as of many."""
    maml, tasks = MetaMAML(make_model(name)), make_tasks()
    changed = [(*change(x, y), u, v) for x, y, u, v in tasks]
    swapped = [(u, v, *change(x, y)) for x, y, u, v in tasks]
    with pytest.raises(ValueError, match=match):
        maml.adapt_task(*changed[0][:2])
    for wrong in (changed, swapped, changed[:1]):
        with pytest.raises(ValueError, match=match):
            maml.meta_update(wrong)


@pytest.mark.parametrize(
    "shape", [(1, 4), (B, 2), (B, 1), (B - 1, 4), (N, 1, 4), (2, B, 4), (1, B, 4), (4,)]
)
def test_a_hidden_state_that_does_not_fit_is_refused(shape: tuple[int, ...]) -> None:
    tasks = [(x, y, x, y) for x, y, _, _ in make_tasks()]
    with pytest.raises(ValueError, match=r"hidden.state.* must") as caught:
        MetaMAML(make_model()).meta_update(tasks, torch.zeros(shape).double())
    assert str(shape[-2:]) in str(caught.value) or str(shape) in str(caught.value)


def test_other_misuse_is_refused() -> None:
    maml, tasks = MetaMAML(make_model()), make_tasks()
    memory = torch.zeros(B, 4).double()
    for bad, match in (
        (lambda: maml.meta_update([]), "at least one task"),
        (lambda: maml.meta_update([tasks[0][:3]]), "task 0 has 3 parts"),
        (lambda: maml.meta_update(tasks, [memory] * 2), "one for each task"),
        (lambda: maml.meta_update(tasks, memory), "hidden state must have the shape"),
        (
            lambda: maml.meta_update(tasks, num_steps=-1),
            "`num_steps` must be a whole number of at least 0",
        ),
        (lambda: maml.meta_update(tasks, loss_fn=lambda p, t: p - t), "must return a scalar"),
        (lambda: MetaMAML(nn.Linear(I, O).double()).adapt_task(*tasks[0][:2], memory), "no memory"),
        (lambda: MetaMAML(make_model(), inner_lr=0.0), "`inner_lr` must be positive"),
        (lambda: MetaMAML(make_model(), outer_lr=float("nan")), "`outer_lr` must be positive"),
        (lambda: MetaMAML(make_model(), grad_clip_norm=-1.0), "`grad_clip_norm` must be"),
    ):
        with pytest.raises(ValueError, match=match):
            bad()
    with pytest.raises(ValueError, match="must have the output's shape"):
        maml.meta_update([(x, y[..., 0], u, v) for x, y, u, v in tasks], loss_fn=absolute)
    with pytest.raises(KeyError, match="must name the model's parameters"):
        maml.functional_forward(tasks[0][0], None, {"head": memory})
    with pytest.raises(TypeError, match=r"must return \(output, next_hidden\)"):
        MetaMAML(nn.Bilinear(I, I, O).double()).functional_forward(
            torch.ones(1, I).double(), torch.ones(1, I).double()
        )


def absolute(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).abs().mean()


def test_a_meta_loss_that_is_not_finite_changes_nothing() -> None:
    maml, tasks = MetaMAML(make_model()), make_tasks()
    maml.meta_update(tasks)
    before = {key: value.clone() for key, value in maml.model.state_dict().items()}
    steps = [float(maml.optimizer.state[p]["step"]) for p in maml.model.parameters()]
    tasks[1][3][0, 0, 0] = float("nan")
    with pytest.raises(DivergedError, match="meta-loss must be finite, but got nan"):
        maml.meta_update(tasks)
    assert all(torch.equal(value, before[key]) for key, value in maml.model.state_dict().items())
    assert [float(maml.optimizer.state[p]["step"]) for p in maml.model.parameters()] == steps


def test_training_goes_on_after_loading_as_if_never_stopped(tmp_path: Path) -> None:
    """Weights alone would not do: Adam's moments and the settings are part of the next step."""
    tasks, path = make_tasks(), tmp_path / "new" / "maml.safetensors"
    maml = MetaMAML(make_model(), 0.3, 0.02, first_order=True, grad_clip_norm=0.5)
    for _ in range(3):
        maml.meta_update(tasks)
    maml.save(path)
    other = MetaMAML(make_model(seed=1))
    other.meta_update(tasks)
    other.load(path)
    assert other.settings == maml.settings
    for _ in range(2):
        assert maml.meta_update(tasks) == other.meta_update(tasks)
    for key, value in maml.model.state_dict().items():
        assert torch.equal(other.model.state_dict()[key], value)


def test_before_any_update_there_are_no_moments_to_save(tmp_path: Path) -> None:
    tasks = make_tasks()
    maml, other = MetaMAML(make_model()), MetaMAML(make_model(seed=1))
    other.meta_update(tasks)
    maml.save(tmp_path / "m")
    other.load(tmp_path / "m")
    assert maml.meta_update(tasks) == other.meta_update(tasks)
    for ours, theirs in zip(maml.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_wrong_or_damaged_file_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    maml = MetaMAML(make_model())
    before = flat([p.detach().clone() for p in maml.model.parameters()])
    MetaMAML(SSM(6, I, O, hidden_dim=5).double()).save(tmp_path / "wider")
    MetaMAML(make_model("mlp")).save(tmp_path / "mlp")
    MetaMAML(make_model().float()).save(tmp_path / "single")
    Checkpoint(TrainConfig.for_task("point", "promp"), {}, {}).save(tmp_path / "training")
    save_file({"weight": torch.ones(2)}, tmp_path / "foreign")
    maml.save(tmp_path / "damaged")
    whole = bytearray((tmp_path / "damaged").read_bytes())
    whole[-3] ^= 1
    (tmp_path / "damaged").write_bytes(whole)
    for name, match in {
        "wider": "must hold the same model",
        "mlp": "is missing",
        "single": "float32",
        "training": "of another kind",
        "foreign": "SHA-256",
        "damaged": "SHA-256",
    }.items():
        with pytest.raises(CheckpointError, match=match):
            maml.load(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        maml.load(tmp_path / "nowhere")
    assert torch.equal(flat([p.detach() for p in maml.model.parameters()]), before)
    maml.save(tmp_path / "mine")
    with pytest.raises(CheckpointError, match="not a checkpoint of a training run"):
        Checkpoint.load(tmp_path / "mine")
