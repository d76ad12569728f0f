"""The tree of settings: one name for each knob, and no value that makes no sense."""

import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmrl.config import (
    MEMORY_RESETS,
    METHODS,
    EnvConfig,
    KnobValue,
    PolicyConfig,
    SequenceConfig,
    TrainConfig,
)
from ssmrl.context.settings import MATMULS, ContextSettings
from ssmrl.envs.families import FAMILIES
from ssmrl.format import FormatError
from ssmrl.import_path import ImportPathError
from ssmrl.meta.algorithms import ALGORITHMS, Algorithm
from ssmrl.meta.settings import ProMPSettings, TrustRegionSettings
from tests.contracts.property_settings import PROPERTY

positive = st.floats(1e-6, 1e3)
share = st.floats(0, 1)
count = st.integers(1, 50)
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
    "meta.num_lanes": count,
    "meta.lane_groups": st.integers(0, 5),
    "meta.episodes_per_task": count,
    "meta.random_env_steps": st.integers(0, 50),
    "meta.replay_env_steps": count,
    "meta.batch_size": count,
    "meta.learning_rate": positive,
    "meta.target_rate": st.floats(1e-6, 1.0),
    "meta.average_rate": st.floats(1e-6, 1.0),
    "meta.ends_free": st.booleans(),
    "meta.critic_hidden_dim": count,
    "meta.actor_hidden_dim": count,
    "meta.updates_per_env_step": positive,
    "meta.actor_every": count,
    "meta.matmul": st.sampled_from(MATMULS),
    "meta.relabelled": share,
    "meta.own_estimate": share,
    "meta.inference_updates_per_meta_episode": positive,
    "meta.inference_batch": count,
    "meta.inference_env_steps": count,
    "meta.target_entropy": st.floats(-3.0, 3.0),
    "meta.init_temperature": positive,
    "evaluation.num_tasks": st.integers(1, 50),
    "evaluation.num_episodes": st.integers(1, 50),
    "seed": st.integers(0, 2**31),
}


@PROPERTY
@given(data=st.data())
def test_knobs_make_a_round_trip(data: st.DataObject) -> None:
    """What the search suggests, the checkpoint stores and the table shows is one and the same."""
    start = TrainConfig(algorithm=data.draw(st.sampled_from(list(ALGORITHMS))))
    optional = {knob: values for knob, values in VALUES.items() if knob in start.knobs()}
    knobs = data.draw(st.fixed_dictionaries({}, optional=optional))
    config = start.with_knobs(knobs)
    assert config.knobs() == start.knobs() | knobs
    assert start.with_knobs(config.knobs()) == config
    assert TrainConfig.of_knobs(config.knobs()) == config
    assert TrainConfig.from_json(config.to_json()) == config
    assert hash(TrainConfig.from_json(config.to_json())) == hash(config)


def test_every_knob_is_tried_and_plain_enough_for_json() -> None:
    of_all: set[str] = set()
    for algorithm in ALGORITHMS:
        config = TrainConfig(algorithm=algorithm)
        knobs = config.knobs()
        of_all |= knobs.keys()
        assert all(type(value) in (int, float, bool, str) for value in knobs.values())
        assert json.loads(config.to_json()) == {"format": 2} | knobs
        assert "\n" not in config.to_json()
    assert set(VALUES) | {"algorithm"} == of_all


def test_a_knob_is_the_attribute_of_that_name() -> None:
    config = TrainConfig(algorithm="promp").with_knobs(
        {"policy.state_dim": 10, "meta.inner_lr": 0.7, "seed": 3}
    )
    assert (config.policy.state_dim, config.meta.inner_lr, config.seed) == (10, 0.7, 3)
    assert TrainConfig(algorithm="promp").policy.state_dim != 10, "the original is not changed"
    with pytest.raises(FrozenInstanceError):
        config.seed = 4  # type: ignore[misc]


@pytest.mark.parametrize("name", ["policy.state_dims", "state_dim", "meta", "", "meta.", "seed.x"])
def test_an_unknown_knob_is_refused_with_the_known_ones(name: str) -> None:
    """A misspelt knob that is silently dropped makes a whole sweep worthless."""
    with pytest.raises(KeyError, match="unknown knob") as caught:
        TrainConfig(algorithm="promp").with_knobs({name: 1})
    message = str(caught.value)
    assert repr(name) in message
    assert all(known in message for known in TrainConfig(algorithm="promp").knobs())


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
        ("algorithm", 3),
        ("seed", [0]),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"`{name}` must be of type") as caught:
        TrainConfig(algorithm="promp").with_knobs({name: value})
    assert repr(value) in str(caught.value)


def test_whole_numbers_pass_between_int_and_float() -> None:
    """Samplers and tables turn 32 into 32.0 and 1.0 into 1; the value is meant all the same."""
    config = TrainConfig(algorithm="promp").with_knobs(
        {"meta.inner_lr": 1, "policy.state_dim": 16.0}
    )
    assert type(config.meta.inner_lr) is float
    assert type(config.policy.state_dim) is int
    assert config == TrainConfig(algorithm="promp").with_knobs(
        {"meta.inner_lr": 1.0, "policy.state_dim": 16}
    )


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
        ("algorithm", "maml"),
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
    algorithm = "maml-trpo" if name == "meta.max_kl" else "promp"
    with pytest.raises(ValueError, match=f"`{name}` must be") as caught:
        TrainConfig(algorithm=algorithm).with_knobs({name: value})
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("policy.method", METHODS),
        ("policy.memory_reset", MEMORY_RESETS),
        ("algorithm", tuple(ALGORITHMS)),
    ],
)
def test_a_name_that_is_not_known_is_refused_with_those_that_are(
    name: str, known: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be one of") as caught:
        TrainConfig(algorithm="promp").with_knobs({name: "nonsense"})
    assert all(repr(each) in str(caught.value) for each in known)


@pytest.mark.parametrize(
    "make",
    [
        lambda: TrainConfig(policy=PolicyConfig(state_dim=3)),
        lambda: TrainConfig(meta=ProMPSettings(inner_lr=-1.0), algorithm="promp"),
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
        lambda: TrainConfig(algorithm="promp").with_knobs({"env.task": "ant"}),
    ):
        with pytest.raises(KeyError, match="unknown task 'ant'") as caught:
            make()
        assert all(task in str(caught.value) for task in FAMILIES)


@pytest.mark.parametrize("task", FAMILIES)
def test_the_defaults_of_a_task_are_its_familys(task: str) -> None:
    family = FAMILIES[task]
    for algorithm, settings in (("promp", ProMPSettings()), ("maml-trpo", TrustRegionSettings())):
        config = TrainConfig.for_task(task, algorithm)
        assert config.env == EnvConfig(task, family.horizon, family.action_scale)
        assert (config.algorithm, config.policy, config.meta) == (
            algorithm,
            PolicyConfig(),
            settings,
        )


@pytest.mark.parametrize("task", FAMILIES)
def test_an_algorithms_defaults_win_over_the_familys(task: str) -> None:
    config = TrainConfig.for_task(task)
    assert config.env == EnvConfig(task, FAMILIES[task].horizon, 1.0)
    sizes = SequenceConfig(state_dim=128, hidden_dim=48)
    assert (config.policy, config.meta) == (sizes, ContextSettings())
    assert (config.evaluation.num_tasks, config.evaluation.num_episodes) == (100, 1)
    assert TrainConfig().env.action_scale == 1.0, "also where no task is named"


def test_another_algorithm_starts_from_its_own_defaults() -> None:
    """But what no algorithm has a default for stays, and what is given counts."""
    start = TrainConfig.for_task("halfcheetah-vel", "promp").with_knobs(
        {"env.horizon": 7, "seed": 5, "meta.inner_lr": 0.3, "policy.hidden_dim": 9}
    )
    other = start.with_knobs({"algorithm": "context-sac", "meta.batch_size": 8})
    assert other == TrainConfig.for_task("halfcheetah-vel").with_knobs(
        {"env.horizon": 7, "seed": 5, "meta.batch_size": 8}
    )
    back = other.with_knobs({"algorithm": "promp"})
    assert back == TrainConfig.for_task("halfcheetah-vel", "promp").with_knobs(
        {"env.horizon": 7, "seed": 5}
    )
    assert start.with_knobs({"algorithm": "promp"}) == start
    with pytest.raises(KeyError, match=r"unknown knob 'meta\.clip' for algorithm 'context-sac'"):
        start.with_knobs({"meta.clip": 0.1, "algorithm": "context-sac"})


@pytest.mark.parametrize(
    ("knob", "algorithm", "owners"),
    [
        ("meta.clip", "context-sac", "promp and e-maml have it"),
        ("meta.max_kl", "promp", "maml-trpo has it"),
        ("meta.inner_lr_", "promp", None),
        ("policy.init_std", "context-sac", "promp, e-maml and maml-trpo have it"),
    ],
)
def test_a_knob_of_another_algorithm_is_refused_with_its_owners(
    knob: str, algorithm: str, owners: str | None
) -> None:
    with pytest.raises(KeyError, match=f"unknown knob '{knob}' for") as caught:
        TrainConfig(algorithm=algorithm).with_knobs({knob: 0.1})
    message = str(caught.value.args[0])
    wanted = f"algorithm {algorithm!r}; " + (f"{owners}; " if owners else "") + "the knobs are: "
    assert wanted in message
    assert "have it" in message or "has it" in message or owners is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: TrainConfig(meta=ProMPSettings()),
        lambda: TrainConfig(policy=PolicyConfig()),
        lambda: TrainConfig(meta=TrustRegionSettings(), algorithm="e-maml"),
        lambda: TrainConfig(policy=SequenceConfig(), algorithm="promp"),
    ],
)
def test_settings_of_another_algorithm_are_refused(make: Callable[[], TrainConfig]) -> None:
    with pytest.raises(TypeError, match=r"`(meta|policy)` of algorithm '.*' must be a .* got a"):
        make()


def test_text_may_neither_leave_knobs_out_nor_invent_any() -> None:
    """A knob that a file lacks never becomes a default without a word."""
    content = json.loads(TrainConfig(algorithm="promp", seed=5).to_json())
    for knob in content.keys() - {"format"}:
        lacking = {name: value for name, value in content.items() if name != knob}
        with pytest.raises(ValueError, match=f"here must hold every knob.* lacks `{knob}`"):
            TrainConfig.from_json(json.dumps(lacking), "here")
    with pytest.raises(KeyError, match="unknown knob 'sede'"):
        TrainConfig.from_json(json.dumps(content | {"sede": 5}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "here has no format: version 0.1 of the project wrote it"),
        ({"format": 1}, "here has format 1: another version of the project wrote it"),
        ({"format": 3}, "here has format 3: another version"),
        ({"format": 2.0}, "here has format 2.0: another version"),
        ({"format": True}, "here has format True: another version"),
        ({"format": [2]}, r"here has format \[2\]: another version"),
    ],
)
def test_text_of_another_format_is_refused(change: dict[str, Any], message: str) -> None:
    text = json.dumps(TrainConfig().knobs() | change)
    with pytest.raises(FormatError, match=message):
        TrainConfig.from_json(text, "here")


def test_what_is_not_an_object_is_refused() -> None:
    with pytest.raises(ValueError, match="must be a JSON object"):
        TrainConfig.from_json("[2]")


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_entry_has_the_name_of_its_place_and_parts_that_are_there(name: str) -> None:
    algorithm = ALGORITHMS[name]
    assert algorithm.name == name
    assert type(TrainConfig(algorithm=name).meta) is algorithm.settings_type()
    assert type(TrainConfig(algorithm=name).policy) is algorithm.policy_type()
    assert algorithm.defaults.keys() <= TrainConfig(algorithm=name).knobs().keys()
    assert callable(algorithm.learner_type())
    assert callable(algorithm.player_type())
    assert bool(algorithm.outer) is (algorithm.kind == "gradient")


@pytest.mark.parametrize("path", ["nowhere:Settings", "ssmrl.config:Nothing", "ssmrl.config", ""])
def test_a_part_that_is_not_there_is_named(path: str) -> None:
    algorithm = Algorithm("own", "gradient", path, path, path, path)
    with pytest.raises(ImportPathError, match=f"the settings of algorithm 'own': .*'{path}'"):
        algorithm.settings_type()
