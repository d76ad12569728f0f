"""The settings of the RLlib algorithms: what counts, and what is refused because it would not."""

import random

import numpy as np
import pytest
import torch

from cluster.algorithm import MAMLConfig
from cluster.context_sac import ContextSACConfig
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
