"""Search spaces: what they refuse when made, what they contain, and the way to JSON and back."""

import pickle
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ssmrl.config import TrainConfig
from tuning.spaces.space import (
    Choice,
    Condition,
    Float,
    Int,
    Range,
    SearchSpace,
    default_limits,
    default_space,
)

BASE = TrainConfig(algorithm="promp")


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
        (
            lambda: Float(1e-4, 1.0000000000000009e-4, log=True),
            ValueError,
            "must differ on the log",
        ),
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
    assert {"policy.hidden_dim", "meta.inner_lr", "meta.outer_lr"} <= point.keys()


NESTED = SearchSpace(
    {
        "policy.num_layers": Int(1, 3),
        "policy.gated": Choice((False, True)),
        "policy.state_dim": Int(8, 128, step=8),
        "policy.method": Choice(("ssm", "gru", "transformer")),
        "policy.window": Int(4, 64),
        "meta.inner_lr": Float(0.01, 1.0, log=True),
    },
    BASE,
    {
        "policy.gated": Condition("policy.num_layers", (2, 3)),
        "policy.num_layers": Condition("policy.method", ("ssm", "transformer")),
        "policy.state_dim": Condition("policy.method", ("ssm",)),
        "policy.window": Condition("meta.first_order", (True,)),  # not searched, and False
    },
)


@given(float_ranges(), st.floats(-2.0, 3.0), st.floats(0.0, 1.0))
def test_a_float_range_and_its_unit_scale(a: Float, anywhere: float, inside: float) -> None:
    assume(a.high > 1.001 * a.low)  # below, the places between the ends are no floats
    assert a.contains(a.from_unit(anywhere))
    assert (a.from_unit(0.0), a.from_unit(1.0)) == (a.low, a.high)
    assert a.to_unit(a.from_unit(inside)) == pytest.approx(inside, abs=1e-6)
    assert a.from_unit(-1e300) == a.low
    ratio, share = a.high / a.low, (a.from_unit(0.5) - a.low) / (a.high - a.low)
    assert share == pytest.approx(1 / (1 + ratio**0.5) if a.log else 0.5, rel=1e-3, abs=1e-9)


@given(int_ranges(), st.booleans(), st.floats(-2.0, 3.0), st.data())
def test_an_int_range_and_its_unit_scale(
    a: Int, log: bool, anywhere: float, data: st.DataObject
) -> None:
    a = Int(a.low, a.high, log=True) if log else a
    value = a.low + a.step * data.draw(st.integers(0, (a.high - a.low) // a.step))
    assert a.from_unit(a.to_unit(value)) == value
    assert a.contains(a.from_unit(anywhere))
    steps = range(a.low, a.high + 1, a.step)
    if not log:
        nearest = min(abs(a.to_unit(step) - anywhere) for step in steps)
        assert abs(a.to_unit(a.from_unit(anywhere)) - anywhere) == pytest.approx(nearest)


def test_the_unit_scale_refuses_what_has_no_place() -> None:
    for a in (Float(0.1, 1.0, log=True), Int(1, 9, log=True)):
        assert a.to_unit(100) > 1
        assert a.to_unit(1e-3) < 0
        with pytest.raises(ValueError, match="must be positive on the logarithmic scale"):
            a.to_unit(0)
        with pytest.raises(ValueError, match="between 0 and 1, but got nan"):
            a.from_unit(float("nan"))


@given(int_ranges(), int_ranges())
def test_an_int_range_covers_another_if_it_contains_all_of_it(a: Int, b: Int) -> None:
    values = range(b.low, b.high + 1, b.step)
    assert a.covers(b) == all(a.contains(value) for value in values)
    assert a.covers(a)
    assert not a.covers(Float(b.low, b.high))


@pytest.mark.parametrize(
    ("values", "active"),
    [
        ({"policy.method": "gru"}, {"policy.method", "meta.inner_lr"}),
        (
            {"policy.method": "ssm", "policy.num_layers": 1},
            {"policy.method", "policy.num_layers", "policy.state_dim", "meta.inner_lr"},
        ),
        (
            {"policy.method": "transformer", "policy.num_layers": 3},
            {"policy.method", "policy.num_layers", "policy.gated", "meta.inner_lr"},
        ),
        # What depends on an inactive knob is inactive, whatever value is given for that.
        ({"policy.method": "gru", "policy.num_layers": 3}, {"policy.method", "meta.inner_lr"}),
        ({}, {"policy.method", "meta.inner_lr"}),
    ],
)
def test_a_knob_is_active_while_its_condition_holds(values: Any, active: set[str]) -> None:
    knobs = NESTED.active_knobs(values)
    assert set(knobs) == active
    assert list(knobs) == [knob for knob in NESTED.ranges if knob in active]


@given(st.data())
def test_a_point_grows_to_its_active_knobs_and_has_no_other(data: st.DataObject) -> None:
    point: dict[str, Any] = {}
    while waiting := [knob for knob in NESTED.active_knobs(point) if knob not in point]:
        assert not NESTED.contains(point)
        a_range = NESTED.ranges[waiting[0]]
        if isinstance(a_range, Choice):
            point[waiting[0]] = data.draw(st.sampled_from(a_range.options))
        else:
            point[waiting[0]] = a_range.from_unit(data.draw(st.floats(0.0, 1.0)))
    assert NESTED.contains(point)
    assert NESTED.configure(point).knobs() == BASE.knobs() | point
    for knob in NESTED.ranges.keys() - point.keys():
        assert not NESTED.contains(point | {knob: BASE.knobs()[knob]})
    for knob in point:
        with pytest.raises(ValueError, match="must have exactly the searched knobs"):
            NESTED.configure({k: v for k, v in point.items() if k != knob})


def test_the_default_point_has_the_knobs_that_are_active_in_the_base() -> None:
    assert NESTED.default_point().keys() == {
        *("policy.num_layers", "policy.state_dim", "policy.method", "meta.inner_lr")
    }
    gru = SearchSpace(NESTED.ranges, BASE.with_knobs({"policy.method": "gru"}), NESTED.conditions)
    assert gru.default_point().keys() == {"policy.method", "meta.inner_lr"}


def test_conditions_survive_json_and_pickle() -> None:
    again = SearchSpace.from_json(NESTED.to_json(), BASE)
    assert again == NESTED == pickle.loads(pickle.dumps(NESTED))
    assert again.conditions["policy.gated"].values == (2, 3)
    assert again != SearchSpace(NESTED.ranges, BASE)
    with pytest.raises(TypeError):
        again.conditions["seed"] = Condition("seed", (1,))  # type: ignore[index]


def test_json_of_a_space_without_conditions_is_as_sweeps_have_written_it() -> None:
    assert space().to_json() == (
        '{"policy.state_dim": {"kind": "int", "low": 8, "high": 128, "step": 8, "log": false}, '
        '"meta.inner_lr": {"kind": "float", "low": 0.01, "high": 1.0, "log": true}, '
        '"meta.first_order": {"kind": "choice", "options": [false, true]}}'
    )


@pytest.mark.parametrize(
    ("conditions", "error", "message"),
    [
        ({"seed": Condition("policy.method", ("ssm",))}, KeyError, "`seed` is not searched; the "),
        ({"meta.inner_lr": Condition("policy.kind", ("ssm",))}, KeyError, "unknown knob"),
        (
            {"meta.inner_lr": Condition("policy.method", ("rnn",))},
            ValueError,
            "`meta.inner_lr` must depend on values that `policy.method` can have.*'rnn'",
        ),
        (
            {"meta.first_order": Condition("policy.state_dim", ("8",))},
            ValueError,
            "must depend on values",
        ),
        (
            {"meta.first_order": Condition("meta.inner_lr", (0.1,))},
            ValueError,
            "varies continuously; make it a Choice",
        ),
        (
            {"meta.first_order": Condition("meta.first_order", (True,))},
            ValueError,
            "no knob may depend on itself",
        ),
        (
            {
                "meta.inner_lr": Condition("meta.first_order", (True,)),
                "policy.state_dim": Condition("meta.first_order", (True,)),
                "meta.first_order": Condition("policy.state_dim", (8,)),
            },
            ValueError,
            "no knob may depend on itself, but .* depends on",
        ),
        (
            {
                knob: Condition("policy.method", ("gru",))
                for knob in ("meta.inner_lr", "policy.state_dim", "meta.first_order")
            },
            ValueError,
            "must have a knob that is active",
        ),
    ],
)
def test_a_condition_that_cannot_be_meant_is_refused_when_made(
    conditions: Any, error: Any, message: str
) -> None:
    with pytest.raises(error, match=message):
        SearchSpace(space().ranges, BASE, conditions)


def test_a_condition_names_each_value_once() -> None:
    for values in [(), ("ssm", "ssm"), (1, 1.0)]:
        with pytest.raises(ValueError, match="at least 1 value, each only once"):
            Condition("policy.method", values)
    assert Condition("meta.first_order", (True,)).holds(True)
    assert not Condition("meta.first_order", (True,)).holds(1)
    text = '{"seed": {"kind": "int", "low": 1, "high": 2, "when": {"knob": "seed"}}}'
    with pytest.raises(ValueError, match="condition of `seed` must have a knob and a list"):
        SearchSpace.from_json(text, BASE)


def test_ranges_are_replaced_and_all_else_stays() -> None:
    moved = NESTED.replace_ranges({"policy.method": Choice(("gru", "transformer"))})
    assert moved.ranges["policy.method"] == Choice(("gru", "transformer"))
    assert (moved.base, moved.conditions) == (NESTED.base, NESTED.conditions)
    assert moved.replace_ranges(NESTED.ranges) == NESTED
    assert NESTED.covers(moved)
    assert not moved.covers(NESTED)
    assert not SearchSpace(NESTED.ranges, BASE).covers(NESTED)
    with pytest.raises(KeyError, match=r"`seed` is not a searched knob; .* knobs are: policy"):
        NESTED.replace_ranges({"seed": Int(0, 3)})
    with pytest.raises(ValueError, match=r"reaches 9: .*even"):
        NESTED.replace_ranges({"policy.state_dim": Int(8, 9)})


@pytest.mark.parametrize("method", ["ssm", "mlp"])
def test_the_default_limits_are_wider_than_the_default_space(method: str) -> None:
    base = BASE.with_knobs({"policy.method": method})
    space, limits = default_space(base), default_limits(base)
    assert limits.covers(space)
    for knob in space.ranges:
        assert not space.covers(space.replace_ranges({knob: limits.ranges[knob]})), knob
