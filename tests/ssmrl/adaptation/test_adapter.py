"""The adapter: what each setting does, what is taken back, and what it never touches."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ssmrl.adaptation.adapter import AdaptationConfig, AdaptationReport, Adapter
from ssmrl.checkpoint import CheckpointError
from ssmrl.meta.diverged import DivergedError
from ssmrl.meta.maml import MetaMAML
from ssmrl.models.mlp import MLP
from ssmrl.models.ssm import SSM
from ssmrl.types import Params
from tests.contracts.property_settings import PROPERTY

MODELS: dict[str, Callable[[], nn.Module]] = {
    "ssm": lambda: SSM(4, 3, 2, hidden_dim=5),
    "mlp": lambda: MLP(3, 2, hidden_dim=5),
    "plain": lambda: nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)),
}
every_model = pytest.mark.parametrize("name", MODELS)


def make_model(name: str = "ssm") -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MODELS[name]().double()


def make_batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4, 5, 3, generator=generator).double()
    return x, torch.randn(4, 5, 2, generator=generator).double()


def flat(params: Params) -> Tensor:
    return torch.cat([value.flatten() for value in params.values()])


def own(model: nn.Module) -> Params:
    return {key: value.detach().clone() for key, value in model.named_parameters()}


def report_of(adapter: Adapter) -> AdaptationReport:
    assert adapter.last_report is not None
    return adapter.last_report


def weight() -> nn.Module:
    """One number, from 0; the loss on (1, target) is ``(w - target)^2``."""
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.zeros_(model.weight)
    return model


def target(value: float) -> tuple[Tensor, Tensor]:
    return torch.ones(1, 1).double(), torch.full((1, 1), value).double()


@every_model
def test_without_options_it_is_the_inner_loop_of_maml(name: str) -> None:
    """What was meta-trained for is what happens at test time."""
    model, (x, y) = make_model(name), make_batch()
    adapter = Adapter(model, AdaptationConfig(learning_rate=0.05, num_steps=3))
    loss, steps_taken = adapter.update_step(x, y)
    adapted = MetaMAML(model, inner_lr=0.05).adapt_task(x, y, num_steps=3)
    assert steps_taken == 3
    for key, value in adapter.params().items():
        torch.testing.assert_close(value, adapted[key].detach(), rtol=1e-12, atol=1e-13)
    output, _ = adapter.predict(x)
    assert loss == pytest.approx(float((output - y).square().mean()))
    assert loss == report_of(adapter).loss_after < report_of(adapter).loss_before


@every_model
def test_the_callers_model_is_never_touched(name: str) -> None:
    model, (x, y) = make_model(name).train(), make_batch()
    before = own(model)
    adapter = Adapter(model, AdaptationConfig(learning_rate=0.05, num_steps=2))
    adapter.update_step(x, y)
    adapter.reset()
    adapter.params()[next(iter(before))].zero_()
    assert all(torch.equal(value, before[key]) for key, value in model.named_parameters())
    assert all(value.grad is None for value in model.parameters())
    assert model.training
    torch.testing.assert_close(flat(adapter.params()), flat(before), rtol=0.0, atol=0.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(flat(adapter.params()), flat(before)), "nor does it follow the caller's"


def test_settings_by_hand() -> None:
    # w = 0, target 1: gradient 2 (w - 1) = -2.
    for options, wanted in (
        ({}, 0.5),  # 0 + 0.25 * 2
        ({"num_steps": 2}, 0.75),  # 0.5 + 0.25 * 1
        ({"num_steps": 0}, 0.0),
        ({"grad_clip_norm": 0.4}, 0.1),  # 0.25 * 0.4
        ({"grad_clip_norm": 3.0}, 0.5),  # already shorter
        ({"trust_region": 0.3}, 0.3),  # put back onto the surface
        ({"trust_region": 0.6}, 0.5),  # inside
        ({"trust_region": 0.6, "num_steps": 2}, 0.6),
        ({"ema_decay": 0.75}, 0.125),  # 0.75 * 0 + 0.25 * 0.5
        ({"ema_decay": 0.75, "num_steps": 2}, 0.28125),  # 0.75 * 0.125 + 0.25 * 0.75
        ({"ema_decay": 0.0}, 0.5),
    ):
        adapter = Adapter(weight(), AdaptationConfig(learning_rate=0.25, **options))
        loss, steps_taken = adapter.update_step(*target(1.0))
        assert adapter.params()["weight"].item() == pytest.approx(wanted, rel=1e-12), options
        assert adapter.predict(torch.ones(1, 1).double())[0].item() == pytest.approx(wanted)
        assert loss == pytest.approx((1.0 - wanted) ** 2)
        assert steps_taken == options.get("num_steps", 1)


def test_the_average_predicts_but_gradients_are_taken_at_the_weights() -> None:
    adapter = Adapter(weight(), AdaptationConfig(learning_rate=0.25, ema_decay=0.5))
    adapter.update_step(*target(1.0))  # weights 0.5, average 0.25
    adapter.update_step(*target(1.0))  # weights 0.75, average 0.5
    assert adapter.params()["weight"].item() == 0.5
    assert report_of(adapter) == AdaptationReport(0.75**2, 0.5**2, False, 0.75)


def test_clipping_and_trust_region_take_all_parameters_together() -> None:
    model, (x, y) = make_model(), make_batch()
    free = Adapter(model, AdaptationConfig(learning_rate=0.05))
    free.update_step(x, y)
    step = flat(free.params()) - flat(own(model))
    for options, length in (({"grad_clip_norm": 0.1}, 0.005), ({"trust_region": 0.002}, 0.002)):
        assert step.norm() > length
        adapter = Adapter(model, AdaptationConfig(learning_rate=0.05, **options))
        adapter.update_step(x, y)
        moved = flat(adapter.params()) - flat(own(model))
        torch.testing.assert_close(moved, step * (length / step.norm()), rtol=1e-9, atol=1e-12)


@PROPERTY
@given(
    seed=st.integers(0, 2**20),
    learning_rate=st.sampled_from([1e-3, 0.1, 3.0, 100.0]),
    num_steps=st.integers(1, 3),
    trust_region=st.sampled_from([None, 0.01, 0.5]),
    ema_decay=st.sampled_from([None, 0.5, 0.99]),
)
def test_an_update_never_makes_the_loss_worse_nor_leaves_the_trust_region(
    seed: int,
    learning_rate: float,
    num_steps: int,
    trust_region: float | None,
    ema_decay: float | None,
) -> None:
    """Over several updates in a row, whatever the step size."""
    config = AdaptationConfig(
        learning_rate, num_steps, trust_region=trust_region, ema_decay=ema_decay
    )
    adapter = Adapter(make_model("mlp"), config)
    for index in range(3):
        before = adapter.params()
        loss, steps_taken = adapter.update_step(*make_batch(seed + index))
        report = report_of(adapter)
        assert loss <= report.loss_before
        assert steps_taken == (0 if report.rolled_back else num_steps)
        assert report.rolled_back == (not report.loss_after <= report.loss_before)
        assert report.distance <= (trust_region or float("inf")) * (1 + 1e-9)
        if report.rolled_back:
            assert all(torch.equal(before[key], value) for key, value in adapter.params().items())


@pytest.mark.parametrize("ema_decay", [None, 0.1])
def test_steps_that_raise_the_loss_are_taken_back(ema_decay: float | None) -> None:
    # From 0.5 with learning rate 1.5 a step lands at 2 * target - 0.5 twice over: worse.
    config = AdaptationConfig(learning_rate=0.25, ema_decay=ema_decay)
    adapter = Adapter(weight(), config)
    adapter.update_step(*target(1.0))
    kept, distance = adapter.params()["weight"].item(), report_of(adapter).distance
    adapter.config = dataclasses.replace(config, learning_rate=1.5)
    loss, steps_taken = adapter.update_step(*target(1.0))
    report = report_of(adapter)
    assert (loss, steps_taken) == (report.loss_before, 0)
    assert report.rolled_back
    assert report.loss_after > report.loss_before == pytest.approx((1.0 - kept) ** 2)
    assert report.distance == distance
    assert adapter.params()["weight"].item() == kept
    adapter.config = config
    adapter.update_step(*target(1.0))
    twin = Adapter(weight(), config)
    for _ in range(2):
        twin.update_step(*target(1.0))
    assert torch.equal(adapter.params()["weight"], twin.params()["weight"])


def test_a_step_to_infinity_is_taken_back_and_bad_data_is_refused() -> None:
    adapter = Adapter(weight(), AdaptationConfig(learning_rate=1e300, num_steps=3))
    assert adapter.update_step(*target(1.0)) == (1.0, 0)
    assert not report_of(adapter).loss_after < float("inf")
    assert adapter.params()["weight"].item() == 0.0
    with pytest.raises(DivergedError, match="must be finite, but is nan"):
        adapter.update_step(*target(float("nan")))
    assert adapter.params()["weight"].item() == 0.0
    with pytest.raises(ValueError, match="must have the output's shape"):
        adapter.update_step(torch.ones(2, 1).double(), torch.ones(2).double())


def test_an_interrupted_update_changes_nothing() -> None:
    """Ctrl-C, or a loss that fails, in the second of three steps."""
    adapter = Adapter(weight(), AdaptationConfig(learning_rate=0.1, num_steps=3))
    calls = []

    def failing(prediction: Tensor, wanted: Tensor) -> Tensor:
        calls.append(prediction)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return (prediction - wanted).square().mean()

    with pytest.raises(KeyboardInterrupt):
        adapter.update_step(*target(1.0), loss_fn=failing)
    assert adapter.params()["weight"].item() == 0.0
    assert adapter.last_report is None


def test_reset_goes_back_to_the_first_weights_and_average() -> None:
    model, (x, y) = make_model(), make_batch()
    config = AdaptationConfig(learning_rate=0.05, num_steps=2, ema_decay=0.5)
    adapter = Adapter(model, config)
    first = adapter.update_step(x, y)
    assert not torch.equal(flat(adapter.params()), flat(own(model)))
    adapter.reset()
    assert torch.equal(flat(adapter.params()), flat(own(model)))
    assert adapter.update_step(x, y) == first


def test_the_memory_is_part_of_the_data() -> None:
    model, (x, y) = make_model(), make_batch()
    assert isinstance(model, SSM)
    memory = torch.randn(4, 4, generator=torch.Generator().manual_seed(1)).double()
    losses = []
    for hidden_state in (None, model.init_hidden(4), memory):
        adapter = Adapter(model, AdaptationConfig(learning_rate=0.05))
        losses.append(adapter.update_step(x, y, hidden_state)[0])
        output, after = adapter.predict(x[:, 0], hidden_state)
        assert after is not None
        assert (output.shape, after.shape) == ((4, 2), (4, 4))
        assert not output.requires_grad
    assert losses[0] == losses[1] != losses[2]
    with pytest.raises(ValueError, match="hidden state must have the shape"):
        adapter.update_step(x, y, memory[:1])


def test_dropout_and_batch_statistics_do_not_disturb_the_comparison() -> None:
    """The copy is in evaluation mode: the two losses differ by the weights alone."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    x, y = torch.randn(2, 16, 3, generator=torch.Generator().manual_seed(0))
    adapter = Adapter(model, AdaptationConfig(learning_rate=0.05))
    loss, steps_taken = adapter.update_step(x, y[:, :2])
    assert steps_taken == 1
    assert loss == pytest.approx(float((adapter.predict(x)[0] - y[:, :2]).square().mean()))
    assert torch.equal(model.get_buffer("1.running_mean"), torch.zeros(8))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"learning_rate": 0.0}, "`learning_rate` must be positive"),
        ({"learning_rate": float("inf")}, "`learning_rate` must be positive and finite"),
        ({"num_steps": -1}, "`num_steps` must be a whole number of at least 0, but got -1"),
        ({"grad_clip_norm": 0.0}, "`grad_clip_norm` must be positive"),
        ({"trust_region": float("nan")}, "`trust_region` must be positive"),
        ({"ema_decay": 1.0}, "0 <= ema_decay < 1"),
        ({"ema_decay": -0.1}, "but got -0.1"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, float], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        AdaptationConfig(**options)  # type: ignore[arg-type]


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        AdaptationConfig().num_steps = 2  # type: ignore[misc]


def test_a_saved_adapter_goes_on_as_if_never_stopped(tmp_path: Path) -> None:
    """Weights, average, the centre of the trust region, and the settings."""
    model, (x, y) = make_model(), make_batch()
    config = AdaptationConfig(0.05, 2, grad_clip_norm=1.0, trust_region=0.08, ema_decay=0.3)
    adapter = Adapter(model, config)
    adapter.update_step(x, y)
    adapter.save(tmp_path / "new" / "adapter.safetensors")
    with torch.random.fork_rng():
        torch.manual_seed(9)
        other = Adapter(MODELS["ssm"]().double())
    other.load(tmp_path / "new" / "adapter.safetensors")
    assert other.config == config
    assert torch.equal(flat(other.params()), flat(adapter.params()))
    for _ in range(3):
        assert other.update_step(x, y) == adapter.update_step(x, y)
        assert other.last_report == adapter.last_report
    other.reset()
    assert torch.equal(flat(other.params()), flat(own(model)))


def test_a_wrong_file_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    adapter = Adapter(make_model(), AdaptationConfig(0.05))
    before = flat(adapter.params())
    Adapter(make_model("mlp")).save(tmp_path / "mlp")
    MetaMAML(make_model()).save(tmp_path / "maml")
    adapter.save(tmp_path / "cut")
    (tmp_path / "cut").write_bytes((tmp_path / "cut").read_bytes()[:-1])
    for name, match in {
        "mlp": "must hold the same model",
        "maml": "must be a file of `Adapter.save`",
        "cut": "not a complete checkpoint",
    }.items():
        with pytest.raises(CheckpointError, match=match):
            adapter.load(tmp_path / name)
    assert torch.equal(flat(adapter.params()), before)
    assert adapter.config == AdaptationConfig(0.05)


@pytest.mark.parametrize("name", ["x", "y", "hidden_state"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.int64, torch.complex64])
def test_data_of_another_type_than_the_weights_is_named(name: str, dtype: torch.dtype) -> None:
    model = make_model()
    x, y = make_batch()
    hidden = model.init_hidden(len(x))  # type: ignore[operator]
    batch = {"x": x, "y": y, "hidden_state": hidden}
    with pytest.raises(ValueError, match=rf"`{name}` must be {hidden.dtype}.*{dtype}"):
        Adapter(model).update_step(**batch | {name: batch[name].to(dtype)})
