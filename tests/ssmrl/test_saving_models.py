"""Models of any type of number are saved and loaded, and what does not fit changes nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from ssmrl import GRU, LSTM, MLP, SSM, AdaptationConfig, Adapter, MetaMAML, Transformer
from ssmrl.checkpoint import CheckpointError, read_tensors, write_tensors
from ssmrl.models.policy import SequencePolicy

MODELS: dict[str, Callable[[], SequencePolicy]] = {
    "ssm": lambda: SSM(6, 3, 2, 8, num_layers=2, gated=True),
    "lstm": lambda: LSTM(3, 2, 8),
    "gru": lambda: GRU(3, 2, 8),
    "transformer": lambda: Transformer(3, 2, 8),
    "mlp": lambda: MLP(3, 2, 8),
}


def task(dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    x = torch.linspace(-1, 1, 8).unsqueeze(-1).to(dtype)
    return x, 2 * x, x, 2 * x


@pytest.mark.parametrize("name", MODELS)
def test_a_model_becomes_what_was_saved(name: str, tmp_path: Path) -> None:
    saved, other = MODELS[name](), MODELS[name]()
    x = torch.randn(4, 5, 3)
    assert not torch.equal(saved(x)[0], other(x)[0])
    saved.save(tmp_path / "model.safetensors")
    other.load(str(tmp_path / "model.safetensors"))
    assert torch.equal(saved(x)[0], other(x)[0])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: SSM(8, 3, 2, 8, num_layers=2, gated=True), "same model"),
        (lambda: SSM(6, 3, 2, 8), "same model"),
        (lambda: MODELS["ssm"]().double(), "float64"),
        (lambda: MLP(3, 2, 8), "StateSpaceModel"),
    ],
)
def test_another_model_is_refused_and_stays_what_it_was(
    other: Callable[[], SequencePolicy], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    MODELS["ssm"]().save(path)
    model = other()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        model.load(path)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    MetaMAML(MODELS["ssm"]()).save(tmp_path / "maml")
    with pytest.raises(CheckpointError, match=r"file of `SequencePolicy\.save`"):
        MODELS["ssm"]().load(tmp_path / "maml")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        MODELS["ssm"]().load(tmp_path / "nowhere")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_what_trains_can_be_saved(dtype: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(0)
    maml = MetaMAML(nn.Linear(1, 1).to(dtype), inner_lr=0.1)
    maml.meta_update([task(dtype)])
    maml.save(tmp_path / "maml")
    other = MetaMAML(nn.Linear(1, 1).to(dtype))
    other.load(tmp_path / "maml")
    assert [maml.meta_update([task(dtype)]) for _ in range(3)] == [
        other.meta_update([task(dtype)]) for _ in range(3)
    ]
    adapter = Adapter(maml.model, AdaptationConfig(0.1, 2, ema_decay=0.5))
    adapter.update_step(*task(dtype)[:2])
    adapter.save(tmp_path / "adapter")
    again = Adapter(nn.Linear(1, 1).to(dtype))
    again.load(tmp_path / "adapter")
    assert torch.equal(again.predict(task(dtype)[0])[0], adapter.predict(task(dtype)[0])[0])


@pytest.mark.parametrize("kind", ["maml", "adapter"])
@pytest.mark.parametrize("settings", ["{", "[]", "{}", '{"learning_rate": -1.0}', '{"a": NaN}'])
def test_bad_settings_change_nothing(kind: str, settings: str, tmp_path: Path) -> None:
    path = tmp_path / "saved"
    saved = {"maml": MetaMAML, "adapter": Adapter}[kind](nn.Linear(1, 1))
    saved.save(path)
    tensors, metadata = read_tensors(path)
    if settings == "{}" and kind == "adapter":
        settings = '{"num_steps": "two"}'
    write_tensors(path, tensors, metadata | {kind: settings})
    other = {"maml": MetaMAML, "adapter": Adapter}[kind](nn.Linear(1, 1))
    before = other.functional_forward if kind == "maml" else other.predict
    x = torch.ones(2, 1)
    wanted = before(x)[0].detach().clone()
    with pytest.raises(CheckpointError, match="saved"):
        other.load(path)
    assert torch.equal(before(x)[0], wanted)


def test_an_adapter_shows_the_model_that_predicts() -> None:
    model = SSM(4, 3, 2, 8)
    adapter = Adapter(model, AdaptationConfig(0.1, 3, ema_decay=0.5))
    x = torch.randn(4, 5, 3)
    assert torch.equal(adapter.model(x)[0], model(x)[0])
    adapter.update_step(x, torch.ones(4, 5, 2))
    shown = adapter.model
    assert isinstance(shown, SSM)
    prediction, hidden = adapter.predict(x)
    assert torch.equal(shown(x)[0], prediction)
    assert torch.equal(shown(x)[1], hidden)
    assert not torch.equal(model(x)[0], prediction)
    with torch.no_grad():
        shown.head.weight.zero_()
    assert torch.equal(adapter.predict(x)[0], prediction), "it is a copy"
    assert not torch.equal(adapter.model.head.weight, shown.head.weight)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(4, 3), (4, 5, 3)])
def test_a_state_space_model_says_which_numbers_it_needs(
    dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    """The slowest modes keep exp(-5e-4) of themselves in a step, which is 1 in bfloat16."""
    model, x = SSM(4, 3, 2, 8), torch.zeros(shape)
    with pytest.raises(TypeError, match=r"float32 or float64, but .*16"):
        model.to(dtype)(x.to(dtype))
    model = SSM(4, 3, 2, 8)
    with (
        torch.autocast("cpu", dtype),
        pytest.raises(TypeError, match=r"float32 or float64, but .*16"),
    ):
        model(x)
    maml = MetaMAML(SSM(4, 3, 2, 8).to(dtype))
    sequences = torch.zeros(2, 3, 3, dtype=dtype)
    targets = torch.zeros(2, 3, 2, dtype=dtype)
    with pytest.raises(TypeError, match="float32 or float64"):
        maml.meta_update([(sequences, targets, sequences, targets)])
