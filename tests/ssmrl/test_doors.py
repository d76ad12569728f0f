"""What ``from ssmrl import ...`` gives: names, signatures, numbers, and the documented examples."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ssmrl
from ssmrl import (
    GRU,
    LSTM,
    MLP,
    SSM,
    AdaptationConfig,
    Adapter,
    Environment,
    MetaMAML,
    StateSpaceModel,
    Transformer,
)
from ssmrl.meta.supervised import SupervisedTask
from ssmrl.models.policy import SequencePolicy

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs/supervised.md").read_text(), re.DOTALL)

# What a caller may rely on: argument names, their order, and defaults. Later arguments may be
# added behind these, or by keyword only.
SIGNATURES = {
    StateSpaceModel: "state_dim, input_dim, output_dim, hidden_dim=128, device='cpu'",
    StateSpaceModel.forward: "self, x, hidden_state=None",
    StateSpaceModel.init_hidden: "self, batch_size",
    LSTM: "input_dim, output_dim, hidden_dim=128",
    GRU: "input_dim, output_dim, hidden_dim=128",
    Transformer: "input_dim, output_dim, hidden_dim=128",
    MLP: "input_dim, output_dim, hidden_dim=64",
    MetaMAML: "model, inner_lr=0.01, outer_lr=0.001, first_order=False",
    MetaMAML.adapt_task: (
        "self, support_x, support_y, initial_hidden_state=None, loss_fn=None, num_steps=1"
    ),
    MetaMAML.meta_update: "self, tasks, initial_hidden_state=None, loss_fn=None, num_steps=1",
    MetaMAML.functional_forward: "self, x, hidden_state=None, params=None",
    Adapter: "model, config=AdaptationConfig(), device='cpu'",
    Adapter.update_step: "self, x, y, hidden_state=None",
    Adapter.predict: "self, x, hidden_state=None",
    AdaptationConfig: (
        "learning_rate=0.01, num_steps=1, grad_clip_norm=None, trust_region=None, ema_decay=None"
    ),
    Environment: "env_name, batch_size=1, seed=None",
    Environment.reset: "self",
    Environment.step: "self, action",
}


@pytest.mark.parametrize(
    ("door", "wanted"), SIGNATURES.items(), ids=lambda each: getattr(each, "__qualname__", "")
)
def test_signatures_stay(door: object, wanted: str) -> None:
    assert callable(door)
    parameters = [
        p.name if p.default is p.empty else f"{p.name}={_default(p.default)}"
        for p in inspect.signature(door).parameters.values()
        if p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    pinned = wanted.split(", ")
    assert parameters[: len(pinned)] == pinned
    assert all("=" in added for added in parameters[len(pinned) :])


def _default(value: object) -> str:
    return "AdaptationConfig()" if value == AdaptationConfig() else repr(value)


def test_every_exported_name_is_that_of_its_defining_file() -> None:
    assert ssmrl.ALGORITHMS is importlib.import_module("ssmrl.meta.algorithms").ALGORITHMS
    for name in set(ssmrl.__all__) - {"ALGORITHMS"}:
        exported = getattr(ssmrl, name)
        assert exported is getattr(importlib.import_module(exported.__module__), name)
        assert name in dir(ssmrl)
    assert SSM is StateSpaceModel
    with pytest.raises(AttributeError, match="no attribute 'SMS'; it exports"):
        _ = ssmrl.SMS  # type: ignore[attr-defined]


def test_importing_the_package_loads_no_torch() -> None:
    """Command lines answer --help and refuse bad settings without waiting for it."""
    code = (
        "import sys, ssmrl, gymnasium, ssmrl.config; "
        "print('torch' in sys.modules, 'ssmrl/AntVel-v0' in gymnasium.registry); "
        "from ssmrl import SSM; print('torch' in sys.modules)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert finished.stdout.split() == ["False", "True", "True"]


def make_tasks(seed: int, num_tasks: int = 3) -> list[SupervisedTask]:
    generator = torch.Generator().manual_seed(seed)
    return [tuple(torch.randn(4, 4, 5, 4, generator=generator).double()) for _ in range(num_tasks)]


def with_known_weights(model: SequencePolicy) -> SequencePolicy:
    """In float64, the same whatever the order in which a constructor draws random numbers."""
    model = model.double()
    with torch.no_grad():
        for name, value in sorted(model.named_parameters()):
            wave = torch.sin(torch.arange(value.numel()) + len(name)).view_as(value)
            value.copy_(0.4 * wave)
    return model


DOORS = {
    "ssm": lambda: SSM(state_dim=6, input_dim=4, output_dim=4, hidden_dim=8),
    "lstm": lambda: LSTM(4, 4, 8),
    "gru": lambda: GRU(4, 4, 8),
    "transformer": lambda: Transformer(4, 4, 8),
    "mlp": lambda: MLP(4, 4, 8),
}

# Meta-loss of two updates with two inner steps, then loss and prediction after adapting.
GOLDEN = {
    "ssm": (1.0872890, 1.1281423, 1.0321385, 0.1069408),
    "lstm": (1.1871944, 1.1847099, 0.8870025, 0.0444405),
    "gru": (1.1116781, 1.1390555, 1.0114001, 0.0940091),
    "transformer": (1.4533653, 1.3726909, 0.8603326, 0.1056102),
    "mlp": (1.1048130, 1.1906010, 1.0188663, 0.1382958),
}


@pytest.mark.parametrize("name", DOORS)
def test_numbers_stay(name: str) -> None:
    """Meta-train, save nothing, adapt: a change of any formula on the way shows here."""
    model = with_known_weights(DOORS[name]())
    maml = MetaMAML(model, inner_lr=0.1, outer_lr=0.01, grad_clip_norm=1.0)
    losses = [maml.meta_update(make_tasks(seed), num_steps=2) for seed in (0, 1)]
    adapter = Adapter(model, AdaptationConfig(0.1, 3, grad_clip_norm=0.5, ema_decay=0.5))
    x, y, query_x, _ = make_tasks(2)[0]
    loss, steps_taken = adapter.update_step(x, y, model.init_hidden(4))
    output, _ = adapter.predict(query_x)
    assert steps_taken == 3
    got = (*losses, loss, float(output.square().mean()))
    assert got == pytest.approx(GOLDEN[name], rel=1e-5)


@pytest.mark.parametrize("name", DOORS)
def test_every_model_adapts_all_tasks_at_once_as_it_adapts_them_one_by_one(name: str) -> None:
    maml = MetaMAML(DOORS[name]().double(), inner_lr=0.1)
    tasks = make_tasks(0)
    together = maml.meta_loss(tasks, num_steps=2)
    alone = []
    for support_x, support_y, query_x, query_y in tasks:
        output, _ = maml.functional_forward(
            query_x, None, maml.adapt_task(support_x, support_y, num_steps=2)
        )
        alone.append((output - query_y).square().mean())
    parameters = list(maml.model.parameters())
    wanted = torch.stack(alone).mean()
    torch.testing.assert_close(together, wanted, rtol=1e-11, atol=1e-12)
    for ours, theirs in zip(
        torch.autograd.grad(together, parameters, materialize_grads=True),
        torch.autograd.grad(wanted, parameters, materialize_grads=True),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_documented_examples_run_as_they_are_written(example: str) -> None:
    namespace: dict[str, object] = {}
    with torch.random.fork_rng():
        exec(compile(example, "docs/supervised.md", "exec"), namespace)
    if "losses" in namespace:
        losses, adapter = namespace["losses"], namespace["adapter"]
        assert isinstance(losses, list)
        assert isinstance(adapter, Adapter)
        assert adapter.last_report is not None
        assert losses[-1] < 0.8 * losses[0]
        assert adapter.last_report.loss_after < adapter.last_report.loss_before
        assert namespace["steps_taken"] == 3


def test_there_are_examples_of_both_kinds() -> None:
    assert len(EXAMPLES) == 2
    assert "MetaMAML(" in EXAMPLES[0]
    assert "Environment(" in EXAMPLES[1]
