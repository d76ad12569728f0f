"""The tree of settings: one name for each knob, and no value that makes no sense."""

import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmrl.config import (
    ALGORITHMS,
    MEMORY_RESETS,
    METHODS,
    EnvConfig,
    KnobValue,
    MetaConfig,
    PolicyConfig,
    TrainConfig,
)
from ssmrl.envs.families import FAMILIES
from tests.contracts.property_settings import PROPERTY

positive = st.floats(1e-6, 1e3)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "env.task": st.sampled_from(list(FAMILIES)),
    "env.horizon": st.integers(1, 500),
    "env.action_scale": positive,
    "policy.method": st.sampled_from(METHODS),
    "policy.state_dim": st.integers(1, 64).map(lambda half: 2 * half),
    "policy.hidden_dim": st.integers(1, 256),
    "policy.init_std": positive,
    "policy.num_layers": st.integers(1, 4),
    "policy.gated": st.booleans(),
    "policy.num_heads": st.integers(1, 8),
    "policy.window": st.integers(1, 64),
    "policy.rl2_inputs": st.booleans(),
    "policy.memory_reset": st.sampled_from(MEMORY_RESETS),
    "meta.algorithm": st.sampled_from(ALGORITHMS),
    "meta.inner_lr": positive,
    "meta.outer_lr": positive,
    "meta.num_inner_steps": st.integers(1, 5),
    "meta.num_tasks": st.integers(1, 50),
    "meta.num_episodes": st.integers(1, 50),
    "meta.num_epochs": st.integers(1, 10),
    "meta.clip": positive,
    "meta.discount": st.floats(0, 1),
    "meta.gae_lambda": st.floats(0, 1),
    "meta.inner_kl": st.floats(0, 10),
    "meta.max_kl": positive,
    "meta.first_order": st.booleans(),
    "meta.encoder_lr_scale": positive,
    "evaluation.num_tasks": st.integers(1, 50),
    "evaluation.num_episodes": st.integers(1, 50),
    "seed": st.integers(0, 2**31),
}


@PROPERTY
@given(knobs=st.fixed_dictionaries({}, optional=VALUES))
def test_knobs_make_a_round_trip(knobs: dict[str, KnobValue]) -> None:
    """What the search suggests, the checkpoint stores and the table shows is one and the same."""
    config = TrainConfig().with_knobs(knobs)
    assert config.knobs() == TrainConfig().knobs() | knobs
    assert TrainConfig().with_knobs(config.knobs()) == config
    assert TrainConfig.from_json(config.to_json()) == config
    assert hash(TrainConfig.from_json(config.to_json())) == hash(config)


def test_every_knob_is_tried_and_plain_enough_for_json() -> None:
    knobs = TrainConfig().knobs()
    assert set(VALUES) == set(knobs)
    assert all(type(value) in (int, float, bool, str) for value in knobs.values())
    assert json.loads(TrainConfig().to_json()) == knobs
    assert "\n" not in TrainConfig().to_json()


def test_a_knob_is_the_attribute_of_that_name() -> None:
    config = TrainConfig().with_knobs({"policy.state_dim": 10, "meta.inner_lr": 0.7, "seed": 3})
    assert (config.policy.state_dim, config.meta.inner_lr, config.seed) == (10, 0.7, 3)
    assert TrainConfig().policy.state_dim != 10, "the original is not changed"
    with pytest.raises(FrozenInstanceError):
        config.seed = 4  # type: ignore[misc]


@pytest.mark.parametrize("name", ["policy.state_dims", "state_dim", "meta", "", "meta.", "seed.x"])
def test_an_unknown_knob_is_refused_with_the_known_ones(name: str) -> None:
    """A misspelt knob that is silently dropped makes a whole sweep worthless."""
    with pytest.raises(KeyError, match="unknown knob") as caught:
        TrainConfig().with_knobs({name: 1})
    message = str(caught.value)
    assert repr(name) in message
    assert all(known in message for known in TrainConfig().knobs())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("policy.state_dim", "32"),
        ("policy.state_dim", 32.5),
        ("policy.state_dim", True),
        ("policy.state_dim", None),
        ("meta.inner_lr", "0.1"),
        ("meta.inner_lr", True),
        ("meta.first_order", 1),
        ("meta.first_order", "false"),
        ("policy.gated", 0),
        ("policy.rl2_inputs", "yes"),
        ("policy.memory_reset", True),
        ("policy.method", 3),
        ("seed", [0]),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"`{name}` must be of type") as caught:
        TrainConfig().with_knobs({name: value})
    assert repr(value) in str(caught.value)


def test_whole_numbers_pass_between_int_and_float() -> None:
    """Samplers and tables turn 32 into 32.0 and 1.0 into 1; the value is meant all the same."""
    config = TrainConfig().with_knobs({"meta.inner_lr": 1, "policy.state_dim": 16.0})
    assert type(config.meta.inner_lr) is float
    assert type(config.policy.state_dim) is int
    assert config == TrainConfig().with_knobs({"meta.inner_lr": 1.0, "policy.state_dim": 16})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("policy.method", "rnn"),
        ("policy.state_dim", 7),
        ("policy.state_dim", 0),
        ("policy.hidden_dim", 0),
        ("policy.num_layers", 0),
        ("policy.num_heads", 0),
        ("policy.window", 0),
        ("policy.memory_reset", "never"),
        ("meta.algorithm", "maml"),
        ("meta.max_kl", 0.0),
        ("meta.max_kl", float("nan")),
        ("meta.encoder_lr_scale", 0.0),
        ("env.horizon", 0),
        ("env.action_scale", 0.0),
        ("policy.init_std", -1.0),
        ("meta.inner_lr", 0.0),
        ("meta.inner_lr", float("nan")),
        ("meta.outer_lr", float("inf")),
        ("meta.clip", 0.0),
        ("meta.num_inner_steps", 0),
        ("meta.num_tasks", 0),
        ("meta.num_episodes", -2),
        ("meta.num_epochs", 0),
        ("meta.discount", 1.01),
        ("meta.discount", float("nan")),
        ("meta.gae_lambda", -0.1),
        ("meta.inner_kl", -1e-9),
        ("evaluation.num_tasks", 0),
        ("evaluation.num_episodes", 0),
        ("seed", -1),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name: str, value: KnobValue) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be") as caught:
        TrainConfig().with_knobs({name: value})
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("policy.method", METHODS),
        ("policy.memory_reset", MEMORY_RESETS),
        ("meta.algorithm", ALGORITHMS),
    ],
)
def test_a_name_that_is_not_known_is_refused_with_those_that_are(
    name: str, known: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be one of") as caught:
        TrainConfig().with_knobs({name: "nonsense"})
    assert all(repr(each) in str(caught.value) for each in known)


@pytest.mark.parametrize(
    "make",
    [
        lambda: TrainConfig(policy=PolicyConfig(state_dim=3)),
        lambda: TrainConfig(meta=MetaConfig(inner_lr=-1.0)),
        lambda: TrainConfig(env=EnvConfig(horizon=0)),
    ],
)
def test_it_is_checked_however_it_is_made(make: Callable[[], TrainConfig]) -> None:
    with pytest.raises(ValueError, match="must be"):
        make()


def test_an_unknown_task_is_refused_with_the_known_ones() -> None:
    for make in (
        lambda: TrainConfig.for_task("ant"),
        lambda: TrainConfig(env=EnvConfig(task="ant")),
        lambda: TrainConfig().with_knobs({"env.task": "ant"}),
    ):
        with pytest.raises(KeyError, match="unknown task 'ant'") as caught:
            make()
        assert all(task in str(caught.value) for task in FAMILIES)


@pytest.mark.parametrize("task", FAMILIES)
def test_the_defaults_of_a_task_are_its_familys(task: str) -> None:
    config = TrainConfig.for_task(task)
    family = FAMILIES[task]
    assert config.env == EnvConfig(task, family.horizon, family.action_scale)
    assert config.meta == MetaConfig()


def test_text_may_leave_knobs_out_but_not_invent_any() -> None:
    """A checkpoint of an older version lacks the knobs that came later; they take defaults."""
    assert TrainConfig.from_json('{"seed": 5}') == TrainConfig(seed=5)
    with pytest.raises(KeyError, match="unknown knob 'sede'"):
        TrainConfig.from_json('{"sede": 5}')
