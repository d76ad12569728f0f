"""The settings of the RLlib algorithms: what counts, and what is refused because it would not."""

import random
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from cluster.algorithm import MAMLConfig
from cluster.context_sac import ContextSACConfig
from cluster.ignored_settings import IGNORED
from cluster.meta_algorithm import MetaConfig
from ssmrl.config import TrainConfig

CONFIGS = {MAMLConfig: "promp", ContextSACConfig: "context-sac"}
every_config = pytest.mark.parametrize("config_type", CONFIGS)


def settings_for(config_type: type[MetaConfig], **knobs: object) -> MetaConfig:
    train_config = TrainConfig.for_task("point", CONFIGS[config_type]).with_knobs(knobs)
    config = config_type()  # type: ignore[call-arg]
    return config.training(train_config=train_config)


@every_config
@pytest.mark.parametrize("seed", [0, 2**32 - 1, 2**32, 2**70])
def test_a_seed_of_any_size_is_one_for_rllib(config_type: type[MetaConfig], seed: int) -> None:
    """Which gives it to global generators, in each of its actors; its own limit is 32 bits."""
    config = settings_for(config_type, seed=seed)
    assert config.train_config.seed == seed
    for generator in (random.seed, np.random.RandomState, torch.Generator().manual_seed):
        generator(config.seed)
    config.validate()


SET: dict[str, tuple[str, dict[str, Any], str]] = {
    "env": ("environment", {"env": "CartPole-v1"}, "`env.task` of"),
    "env_config": ("environment", {"env_config": {"size": 3}}, "`env.task`, `env.horizon`"),
    "action_space": ("environment", {"action_space": gymnasium.spaces.Discrete(2)}, "`env.task`"),
    "clip_rewards": ("environment", {"clip_rewards": True}, "leave it at None"),
    "lr": ("training", {"lr": 0.5}, "`meta.outer_lr`"),
    "gamma": ("training", {"gamma": 0.5}, "`meta.discount`"),
    "model": ("training", {"model": {"fcnet_hiddens": [8]}}, "`policy.method`"),
    "train_batch_size": ("training", {"train_batch_size": 7}, "`meta.num_"),
    "train_batch_size_per_learner": (
        "training",
        {"train_batch_size_per_learner": 7},
        "`meta.num_",
    ),
    "num_epochs": ("training", {"num_epochs": 9}, "`meta."),
    "seed": ("debugging", {"seed": 5}, "`seed` of `train_config`"),
    "rollout_fragment_length": (
        "env_runners",
        {"rollout_fragment_length": 9},
        "`env.horizon`",
    ),
    "explore": ("env_runners", {"explore": False}, "leave it at True"),
    "evaluation_duration": (
        "evaluation",
        {"evaluation_duration": 3},
        "`evaluation.num_tasks`, `evaluation.num_episodes`",
    ),
    "is_multi_agent": ("multi_agent", {"policies": {"a", "b"}}, "has no effect"),
    "input_": ("offline_data", {"input_": "nowhere"}, "has no effect"),
    "callbacks_on_episode_end": ("callbacks", {"on_episode_end": print}, "has no effect"),
    "enable_rl_module_and_learner": (
        "api_stack",
        {"enable_rl_module_and_learner": False, "enable_env_runner_and_connector_v2": False},
        "leave it at True",
    ),
}


@every_config
@pytest.mark.parametrize("name", SET)
def test_a_setting_without_an_effect_is_refused_and_the_one_that_counts_is_named(
    config_type: type[MetaConfig], name: str
) -> None:
    method, arguments, counts = SET[name]
    config = getattr(settings_for(config_type), method)(**arguments)
    with pytest.raises(ValueError, match=f"`{name}` has no effect on") as caught:
        config.validate()
    assert counts in str(caught.value)
    assert config.algo_class.__name__ in str(caught.value)


@every_config
def test_what_is_named_is_a_knob_and_what_is_refused_a_setting(
    config_type: type[MetaConfig],
) -> None:
    """Nothing in the table is misspelt, or gone from RLlib."""
    config = settings_for(config_type)
    assert all(hasattr(config, name) for name in IGNORED)
    algorithms = ("promp", "maml-trpo", "context-sac")
    known = {knob for each in algorithms for knob in TrainConfig(algorithm=each).knobs()}
    assert {knob for knobs in IGNORED.values() for knob in knobs} <= known


@every_config
def test_settings_that_count_are_not_refused(config_type: type[MetaConfig]) -> None:
    """Also when the configuration is copied, or comes back from a checkpoint."""
    config = (
        settings_for(config_type, seed=7)
        .training(num_physics_threads=2)
        .env_runners(num_env_runners=2, num_cpus_per_env_runner=0.5, sample_timeout_s=9.0)
        .learners(num_learners=0, num_gpus_per_learner=0)
        .evaluation(evaluation_interval=3)
        .fault_tolerance(max_num_env_runner_restarts=3)
        .reporting(min_time_s_per_iteration=0)
        .callbacks(on_train_result=print)
        .debugging(log_level="ERROR")
        .resources(num_cpus_for_main_process=1)
    )
    config.validate()
    config.copy(copy_frozen=False).validate()
    config.get_evaluation_config_object().validate()
    MetaConfig.from_state(config.get_state()).validate()


def test_the_seed_that_rllib_is_given_by_us_is_no_refusal() -> None:
    """Whatever comes first."""
    knobs = TrainConfig.for_task("point", "promp").with_knobs({"seed": 2**33 + 5})
    MAMLConfig().debugging(seed=5).training(train_config=knobs).validate()
    config = MAMLConfig().training(train_config=knobs).debugging(seed=6)
    with pytest.raises(ValueError, match="`seed` has no effect on MAML, but is 6; set `seed`"):
        config.validate()
