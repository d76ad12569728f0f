"""Search spaces: what they refuse when made, what they contain, and the way to JSON and back."""

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmrl.config import TrainConfig
from tuning.space import Choice, Float, Int, Range, SearchSpace, default_space

BASE = TrainConfig()


def space(**changes: Range) -> SearchSpace:
    ranges: dict[str, Range] = {
        "policy.state_dim": Int(8, 128, step=8),
        "meta.inner_lr": Float(0.01, 1.0, log=True),
        "meta.first_order": Choice((False, True)),
    }
    return SearchSpace(ranges | changes, BASE)


@st.composite
def int_ranges(draw: st.DrawFn) -> Int:
    low, step, count = (draw(st.integers(1, 500)) for _ in range(3))
    return Int(low, low + step * count, step=step)


@st.composite
def float_ranges(draw: st.DrawFn) -> Float:
    positive = st.floats(1e-9, 1e9, allow_nan=False)
    low, high = sorted(draw(st.lists(positive, min_size=2, max_size=2, unique=True)))
    return Float(low, high, log=draw(st.booleans()))


@given(int_ranges(), st.data())
def test_an_int_range_contains_its_steps_and_nothing_between(a: Int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, (a.high - a.low) // a.step))
    value = a.low + k * a.step
    assert a.contains(value)
    assert not a.contains(float(value))
    assert a.contains(value + 1) == (a.step == 1 and value < a.high)
    assert not a.contains(a.high + a.step)
    assert not a.contains(a.low - a.step)


@given(int_ranges(), float_ranges(), st.data())
def test_json_brings_the_same_space_back(a: Int, b: Float, data: st.DataObject) -> None:
    before = SearchSpace({"policy.hidden_dim": a, "meta.inner_lr": b}, BASE)
    after = SearchSpace.from_json(before.to_json(), BASE)
    assert after == before
    value = data.draw(st.floats(b.low, b.high))
    assert after.contains({"policy.hidden_dim": a.high, "meta.inner_lr": value})


def test_every_kind_of_range_survives_json_and_pickle() -> None:
    before = space(
        **{"policy.method": Choice(("ssm", "mlp")), "meta.num_epochs": Int(1, 9, log=True)}
    )
    assert SearchSpace.from_json(before.to_json(), BASE) == before
    assert pickle.loads(pickle.dumps(before)) == before
    assert SearchSpace.from_json(before.to_json(), BASE).ranges["policy.method"].contains("mlp")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Float(1.0, 1.0), ValueError, "`low < high` must hold.*low=1.0, high=1.0"),
        (lambda: Float(0.0, 1.0, log=True), ValueError, "use a linear scale for ranges that inc"),
        (lambda: Float(0.0, float("inf")), ValueError, "finite ends"),
        (lambda: Float(float("nan"), 1.0), ValueError, "finite ends"),
        (lambda: Int(1, 10, step=4), ValueError, "divide `high - low`.*use high=9"),
        (lambda: Int(1, 10, step=0), ValueError, "step=0; use step=1"),
        (lambda: Int(1, 9, step=2, log=True), ValueError, "must be 1 with `log`"),
        (lambda: Int(0, 9, log=True), ValueError, "use a linear scale"),
        (lambda: Int(1.0, 9), TypeError, "`low` must be an integer"),  # type: ignore[arg-type]
        (lambda: Choice((3, 3)), ValueError, "at least 2 different values"),
        (lambda: Choice(("a",)), ValueError, "at least 2 different values"),
        (lambda: SearchSpace({}, BASE), ValueError, "at least 1 range"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused(make: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("knob", "a_range", "error", "message"),
    [
        ("policy.size", Int(1, 2), KeyError, "unknown knob 'policy.size'.*policy.state_dim"),
        ("policy.state_dim", Int(31, 65), ValueError, "`policy.state_dim`.*reaches 31.*even"),
        ("policy.state_dim", Int(32, 64), ValueError, "`policy.state_dim`.*reaches 33.*step"),
        ("policy.state_dim", Float(1.0, 9.0), TypeError, "of type int, must be Int or Choice"),
        ("meta.inner_lr", Int(1, 9), TypeError, "of type float, must be Float or Choice"),
        ("meta.first_order", Int(1, 2), TypeError, "of type bool, must be Choice"),
        ("meta.inner_lr", Float(0.0, 1.0), ValueError, "`meta.inner_lr`.*reaches 0.0.*positive"),
        ("meta.discount", Float(0.5, 1.5), ValueError, "`meta.discount`.*reaches 1.5"),
        ("policy.method", Choice(("ssm", "rnn")), ValueError, "reaches 'rnn'"),
        ("env.task", Choice(("point", "moon")), ValueError, "reaches 'moon'.*unknown task"),
        ("meta.first_order", Choice((True, 3)), ValueError, "reaches 3.*of type bool"),
    ],
)
def test_a_range_that_does_not_fit_its_knob_is_refused_when_made(
    knob: str, a_range: Range, error: Any, message: str
) -> None:
    with pytest.raises(error, match=message):
        SearchSpace({knob: a_range}, BASE)


def test_a_choice_tells_true_from_one() -> None:
    assert Choice((1, True)).options == (1, True)
    assert not Choice((1, 2)).contains(True)
    assert not Float(0.0, 1.0).contains(True)
    assert not Int(0, 1).contains(True)


def test_configure_changes_the_point_and_nothing_else() -> None:
    point = {"policy.state_dim": 64, "meta.inner_lr": 0.5, "meta.first_order": True}
    assert space().configure(point).knobs() == BASE.knobs() | point
    assert space().configure(space().default_point()) == BASE
    for broken, message in [
        ({"meta.inner_lr": 0.5}, r"missing=\['meta.first_order', 'policy.state_dim'\]"),
        (point | {"seed": 3}, r"extra=\['seed'\]"),
        (point | {"policy.state_dim": 12}, r"has \{'policy.state_dim': 12\}.*Int\(low=8"),
    ]:
        assert not space().contains(broken)
        with pytest.raises(ValueError, match=message):
            space().configure(broken)


def test_a_base_outside_of_its_space_is_named() -> None:
    outside = SearchSpace({"meta.inner_lr": Float(0.2, 1.0)}, BASE)
    with pytest.raises(ValueError, match=r"base configuration.*\{'meta.inner_lr': 0.1\}"):
        outside.default_point()


def test_ranges_cannot_be_changed_afterwards() -> None:
    with pytest.raises(TypeError):
        space().ranges["seed"] = Int(0, 3)  # type: ignore[index]


@pytest.mark.parametrize(
    "text", ["[]", '{"seed": 3}', '{"seed": {"kind": "set"}}', '{"seed": {"kind": "int", "lo": 1}}']
)
def test_text_that_is_no_space_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be a JSON object|must have a kind|cannot be read"):
        SearchSpace.from_json(text, BASE)


@pytest.mark.parametrize("outer_lr", [1e-3, 5e-3])
@pytest.mark.parametrize("method", ["ssm", "mlp"])
def test_the_default_space_holds_the_default_point(method: str, outer_lr: float) -> None:
    base = BASE.with_knobs({"policy.method": method, "meta.outer_lr": outer_lr})
    point = default_space(base).default_point()
    assert default_space(base).configure(point) == base
    assert ("policy.state_dim" in point) == (method == "ssm")
    assert {"policy.hidden_dim", "meta.inner_lr", "meta.num_inner_steps"} <= point.keys()
