"""Every sequence model of this project, held to the rules that other people's are."""

from collections.abc import Iterator

import pytest
import torch

from ssmrl.config import METHODS, SequenceConfig
from ssmrl.models.own_model import OwnModel
from ssmrl.models.policy import SequencePolicy
from ssmrl.testing import SequenceModelContract
from ssmrl.testing.sequences import (
    INPUT_DIM,
    Sequences,
    check_same,
    loop,
    random_model,
    random_sequences,
)

MODELS = {
    "ssm": SequenceConfig("ssm", state_dim=6, hidden_dim=8),
    "ssm, deep and gated": SequenceConfig(
        "ssm", state_dim=4, hidden_dim=5, num_layers=2, gated=True
    ),
    "lstm": SequenceConfig("lstm", hidden_dim=6),
    "gru": SequenceConfig("gru", hidden_dim=6),
    # A window that neither divides a scan's length nor covers it.
    "transformer": SequenceConfig("transformer", hidden_dim=6, num_layers=2, num_heads=2, window=5),
    "transformer, wide window": SequenceConfig("transformer", hidden_dim=5, num_heads=2, window=16),
    "mlp": SequenceConfig("mlp", hidden_dim=8),
}

every_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(autouse=True, scope="module")
def _one_torch_thread() -> Iterator[None]:
    """Tensors are tiny here: more threads only wait for each other on a shared machine."""
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(usual)


class TestEveryModel(SequenceModelContract):
    @pytest.fixture(autouse=True, params=MODELS)
    def _model(self, request: pytest.FixtureRequest) -> None:
        self.config = MODELS[request.param]


def test_the_suite_covers_every_method_and_every_policy_class() -> None:
    assert set(METHODS) <= set(MODELS)
    own = {kind for kind in SequencePolicy.__subclasses__() if kind.__module__.startswith("ssmrl.")}
    assert {type(random_model(config)) for config in MODELS.values()} == own - {OwnModel}


@every_model
def test_scan_equals_the_loop_from_any_memory(name: str) -> None:
    """Also from one that no step has left behind, where every tensor is a memory."""
    if name.startswith("transformer"):
        pytest.skip("not every tensor is a memory there")
    model = random_model(MODELS[name])
    x, hidden, first = random_sequences(model, seed=6)
    generator = torch.Generator().manual_seed(6)
    given = torch.randn(hidden.shape, generator=generator).double()
    sequences = Sequences(x, given, first)
    check_same("scan = loop", model.scan(*sequences), loop(model, sequences))


@every_model
@pytest.mark.parametrize(
    "shape", [(INPUT_DIM,), (4, INPUT_DIM + 1), (4, 5, INPUT_DIM - 1), (4, 5, 6, INPUT_DIM)]
)
def test_a_wrong_shape_is_refused_with_both_shapes(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be \(B, 3\) or \(B, T, 3\), but got") as caught:
        random_model(MODELS[name])(torch.zeros(shape).double())
    assert str(shape) in str(caught.value)
