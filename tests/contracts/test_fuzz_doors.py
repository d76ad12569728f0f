"""Whatever is given to the public doors, they take it or say in a line what is wrong with it.

A few dozen cases in every run, always the same; 2,000 others in all by

    SSMRL_FUZZ_CASES=200 python -m pytest tests/contracts/test_fuzz_doors.py

A refusal is a ValueError or a TypeError that names the argument, or a KeyError that lists the known
names; nothing has changed and nothing was written then. Any other exception is a fault of the door,
and so is a door that turns a fault from inside of it into a refusal.
"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from typer.testing import CliRunner

import ssmrl.envs.registration  # noqa: F401
from ssmrl import MLP, SSM, AdaptationConfig, Adapter, Environment, MetaMAML
from ssmrl.__main__ import app
from ssmrl.checkpoint import CheckpointError
from ssmrl.config import TrainConfig
from ssmrl.deployed import load
from ssmrl.meta.diverged import DivergedError
from tests.contracts.property_settings import PROPERTY
from tests.ssmrl.test_bad_checkpoints import KNOBS, TENSORS, signed
from tuning.spaces import space_file
from tuning.spaces.space_file import load_space_file
from tuning.table import trial
from tuning.table.trial import Trial, TrialState, TrialTable

CASES = int(os.environ.get("SSMRL_FUZZ_CASES", "8"))
FUZZ = settings(PROPERTY, max_examples=CASES, derandomize=CASES < 50, database=None)


@pytest.fixture(autouse=True, scope="module")
def _as_users_have_it() -> Iterator[None]:
    """The tests check types before a call reaches a door; users have no such check."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([10**30, -(10**30)]),
    st.floats(width=32),
    st.text(max_size=4),
    st.binary(max_size=2),
    st.lists(st.integers(-1, 1), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=1),
    st.sampled_from([1j, np.float32(0.1), np.int64(2), object, ()]),
)
SHAPES = st.lists(st.integers(0, 4), max_size=4)


@st.composite
def tensors(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """Mostly what fits; else another shape or type, numbers that are not finite, or no tensor."""
    kind = draw(st.sampled_from(["fits", "fits", "fits", "shape", "type", "value", "junk"]))
    if kind == "junk":
        return draw(JUNK)
    tensor = torch.zeros(draw(SHAPES) if kind == "shape" else shape)
    if kind == "type":
        types = [torch.float64, torch.int64, torch.bool, torch.complex64, torch.float16]
        return tensor.to(draw(st.sampled_from(types)))
    if kind == "value" and tensor.numel():
        return tensor + draw(st.sampled_from([float("nan"), float("inf"), 1e38]))
    return tensor


def refusal(call: Callable[[], Any], *names: str) -> str | None:
    """What a door says no with, if it does; anything that is no refusal goes through."""
    try:
        call()
    except KeyError as error:
        message = str(error.args[0])
        assert message.startswith("unknown ")
        return message
    except (ValueError, TypeError) as error:
        message = str(error)
        assert any(name in message for name in names), f"{message!r} names none of {names}"
        assert "\n" not in message
        return message
    return None


def state(model: torch.nn.Module) -> list[Tensor]:
    return [value.clone() for value in model.state_dict().values()]


def is_same(model: torch.nn.Module, before: list[Tensor]) -> bool:
    return all(map(torch.equal, model.state_dict().values(), before))


MODELS: dict[str, Callable[[], torch.nn.Module]] = {
    "ssm": lambda: SSM(4, 3, 2, hidden_dim=4),
    "mlp": lambda: MLP(3, 2, hidden_dim=4),
}
PARTS = ("support_x", "support_y", "query_x", "query_y", "`x`", "`y`", "tasks")


@FUZZ
@given(name=st.sampled_from(["inner_lr", "outer_lr", "grad_clip_norm"]), value=JUNK)
def test_settings_of_maml(name: str, value: Any) -> None:
    refusal(lambda: MetaMAML(MLP(3, 2, hidden_dim=4), **{name: value}), f"`{name}`")


@FUZZ
@given(data=st.data(), method=st.sampled_from(list(MODELS)))
def test_tasks_of_maml(data: st.DataObject, method: str) -> None:
    model = MODELS[method]()
    maml, before = MetaMAML(model), state(model)
    shapes = ((2, 3, 3), (2, 3, 2)) * 2
    task = st.tuples(*(tensors(shape) for shape in shapes))
    tasks = data.draw(st.one_of(st.lists(st.one_of(task, task, JUNK), max_size=2), JUNK))
    hidden = data.draw(st.one_of(st.none(), tensors((2, 4)), st.lists(tensors((2, 4)), max_size=2)))
    steps = data.draw(st.one_of(st.just(1), st.just(1), JUNK))
    names = (*PARTS, "hidden", "`num_steps`", "has no memory")
    loss = float("nan")

    def update() -> None:
        nonlocal loss
        loss = maml.meta_update(tasks, hidden, num_steps=steps)

    try:
        refused = refusal(update, *names)
    except DivergedError:
        refused = "not finite"
    assert refused is None or is_same(model, before)
    assert refused is not None or np.isfinite(loss)


@FUZZ
@given(
    name=st.sampled_from(["learning_rate", "num_steps", "grad_clip_norm", "trust_region"]),
    value=JUNK,
)
def test_settings_of_an_adapter(name: str, value: Any) -> None:
    refusal(lambda: AdaptationConfig(**{name: value}), f"`{name}`")
    refusal(lambda: AdaptationConfig(ema_decay=value), "ema_decay")


@FUZZ
@given(data=st.data(), method=st.sampled_from(list(MODELS)))
def test_updates_of_an_adapter(data: st.DataObject, method: str) -> None:
    adapter = Adapter(MODELS[method]())
    before = adapter.params()
    x, y = data.draw(tensors((2, 3, 3))), data.draw(tensors((2, 3, 2)))
    hidden = data.draw(st.one_of(st.none(), tensors((2, 4))))
    try:
        refused = refusal(lambda: adapter.update_step(x, y, hidden), "`x`", "`y`", "hidden")
    except DivergedError:
        refused = "not finite"
    if refused is not None:
        assert all(torch.equal(value, before[name]) for name, value in adapter.params().items())
        assert adapter.last_report is None


@FUZZ
@given(
    env_name=st.one_of(st.just("CartPole-v1"), st.just("ssmrl/Point-v0"), JUNK),
    batch_size=st.one_of(st.just(2), st.integers(-1, 3), st.floats(), st.text(max_size=2)),
    seed=st.one_of(st.none(), st.integers(-2, 3), st.lists(JUNK, max_size=2), st.text(max_size=2)),
)
def test_arguments_of_an_environment(env_name: Any, batch_size: Any, seed: Any) -> None:
    def make() -> None:
        with Environment(env_name, batch_size, seed) as environment:
            environment.reset()

    refusal(make, "`env_name`", "unknown environment", "`batch_size`", "seed")


@FUZZ
@given(
    env_name=st.sampled_from(["CartPole-v1", "ssmrl/Point-v0"]),
    action=st.one_of(
        JUNK,
        SHAPES.map(np.zeros),
        st.lists(JUNK, min_size=2, max_size=2),
        tensors((2, 2)),
        st.just(np.array([0, 1])),
    ),
)
def test_actions_of_an_environment(env_name: str, action: Any) -> None:
    with Environment(env_name, 2, seed=0) as environment:
        environment.reset()
        refused = refusal(lambda: environment.step(action), "`action`", "a choice out of")
        assert refused is None or not environment.step(valid_action(env_name))[3]["first"].any()


def valid_action(env_name: str) -> np.ndarray:
    return np.array([0, 1]) if env_name == "CartPole-v1" else np.zeros((2, 2))


ARGUMENTS = (
    "split",
    "horizon",
    "action_scale",
    "num_episodes_per_trial",
    "render_mode",
    "num_threads",
)


@FUZZ
@given(name=st.sampled_from(ARGUMENTS), value=JUNK, num_envs=st.integers(1, 3))
def test_arguments_of_make_vec(name: str, value: Any, num_envs: int) -> None:
    def make() -> None:
        arguments = {name: value}
        envs = gymnasium.make_vec("ssmrl/Point-v0", num_envs=num_envs, **arguments)
        envs.close()

    if name == "num_threads" and isinstance(value, int) and value > 64:
        return  # as many are asked of the system
    refusal(make, name)


SPACE: dict[str, Any] = {
    "format": 2,
    "knobs": {
        "meta.inner_lr": {"kind": "float", "low": 0.01, "high": 1.0, "log": True},
        "policy.hidden_dim": {"kind": "int", "low": 16, "high": 128, "step": 16},
        "policy.method": {"kind": "choice", "options": ["ssm", "mlp"]},
    },
    "base": {"policy.method": "ssm"},
}
FUZZED = st.one_of(JUNK, st.text(max_size=12), st.just("!!int x"), st.just("[" * 30))


@st.composite
def spaces(draw: st.DrawFn) -> str:
    """A space file of which a value, or a few characters, are something else."""
    content = json.loads(json.dumps(SPACE))
    knob = draw(st.sampled_from(sorted(content["knobs"])))
    place = draw(st.sampled_from([content, content["knobs"], content["knobs"][knob]]))
    key = draw(st.one_of(st.sampled_from(sorted(place)), st.text(max_size=5)))
    place[key] = draw(FUZZED)
    text = json.dumps(content, default=repr)
    if draw(st.booleans()):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.text(max_size=5)) + text[at + draw(st.integers(0, 5)) :]
    return text


@FUZZ
@given(text=spaces())
def test_space_files(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("space") / "space.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    message = refusal(
        lambda: load_space_file(path, TrainConfig.for_task("point", "promp")), str(path)
    )
    assert message is None or len(message) < 2000
    assert list(path.parent.iterdir()) == [path]


@st.composite
def checkpoints(draw: st.DrawFn) -> Callable[[Path], None]:
    """A checkpoint with other knobs, or with bytes that differ."""
    knobs = dict(KNOBS)
    if draw(st.booleans()):
        key = draw(st.one_of(st.sampled_from(sorted(knobs)), st.text(max_size=4)))
        knobs[key] = draw(JUNK.filter(is_plain))
    write = signed(TENSORS, json.dumps(knobs), draw(st.sampled_from(["{}", "[]", "{", "null"])))
    if draw(st.booleans()):
        return write
    at, byte, cut = draw(st.integers(0, 4000)), draw(st.binary(max_size=3)), draw(st.booleans())

    def harmed(path: Path) -> None:
        write(path)
        content = path.read_bytes()
        end = len(content) if not cut else at
        path.write_bytes((content[:at] + byte + content[at + len(byte) :])[:end])

    return harmed


def is_plain(value: Any) -> bool:
    """Whether JSON has such a value."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


@FUZZ
@given(write=checkpoints())
def test_checkpoints(
    write: Callable[[Path], None], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("checkpoint") / "policy.safetensors"
    write(path)
    content = path.read_bytes()
    refused = refusal(lambda: load(path), path.name)
    if refused is not None:
        result = CliRunner().invoke(app, ["evaluate", str(path)])
        assert result.exit_code == 2, result.output
        assert len(result.output.splitlines()) == 1
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


ROW = Trial("t0000", 0, TrialState.COMPLETE, 1.0, {"meta.inner_lr": 0.1}, seeds=(0,))


@FUZZ
@given(data=st.data())
def test_tables_of_trials(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("table") / "trials.jsonl"
    line = ROW.to_json()
    record = json.loads(line)
    if data.draw(st.booleans()):
        record[data.draw(st.sampled_from(sorted(record)))] = data.draw(JUNK.filter(is_plain))
        line = json.dumps(record)
    else:
        at = data.draw(st.integers(0, len(line)))
        line = line[:at] + data.draw(st.text(max_size=3)) + line[at + 1 :]
    # Not at the end of the file, where a line may be torn.
    path.write_text(f"{line}\n{ROW.to_json()}\n", encoding="utf-8", errors="surrogatepass")
    before = path.read_bytes()
    refused = refusal(lambda: TrialTable(path), str(path))
    assert refused is None or path.read_bytes() == before


PLANTED = [AssertionError, AttributeError, IndexError, KeyError, RuntimeError, ZeroDivisionError]


@pytest.mark.parametrize("error", PLANTED)
def test_a_fault_inside_of_a_door_comes_through(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No door takes its own faults for the caller's: what is planted in it is what comes out."""

    def planted(*_: Any, **__: Any) -> Any:
        raise error("planted")

    space, policy, table = (tmp_path / name for name in ("s.yaml", "p.safetensors", "t.jsonl"))
    space.write_text(json.dumps(SPACE))
    signed()(policy)
    table.write_text(ROW.to_json() + "\n")
    maml, adapter = MetaMAML(MLP(3, 2, hidden_dim=4)), Adapter(MLP(3, 2, hidden_dim=4))
    task = tuple(torch.zeros(2, width) for width in (3, 2, 3, 2))
    environment = Environment("ssmrl/Point-v0", 2, seed=0)
    environment.reset()
    monkeypatch.setattr(MLP, "step", planted)
    monkeypatch.setattr(space_file, "SearchSpace", planted)
    monkeypatch.setattr(trial.Trial, "__post_init__", planted)
    monkeypatch.setattr(environment.vector_env, "step", planted)
    doors: dict[str, Callable[[], Any]] = {
        "maml": lambda: maml.meta_update([task]),
        "adapter": lambda: adapter.update_step(task[0], task[1]),
        "environment": lambda: environment.step(np.zeros((2, 2))),
        "space file": lambda: load_space_file(space, TrainConfig.for_task("point", "promp")),
        "table": lambda: TrialTable(table),
    }
    for door in doors.values():
        with pytest.raises(error, match="planted"):
            door()
    monkeypatch.setattr(TrainConfig, "from_json", planted)
    with pytest.raises(error, match="planted"):
        load(policy)
    result = CliRunner().invoke(app, ["evaluate", str(policy)])
    assert isinstance(result.exception, error), "the command line does not hide it either"


def test_what_is_refused_is_of_a_kind() -> None:
    assert issubclass(CheckpointError, ValueError)
