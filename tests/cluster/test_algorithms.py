"""RLlib runs what the engine trains: one table of names here, and one there."""

import pytest

from cluster.algorithms import ALGORITHMS, config_type
from ssmrl.config import TrainConfig
from ssmrl.meta import algorithms


def test_the_names_are_those_of_the_engine() -> None:
    assert ALGORITHMS.keys() == algorithms.ALGORITHMS.keys()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_each_takes_a_configuration_of_its_name(name: str) -> None:
    config = TrainConfig.for_task("point", name)
    settings = config_type(name)()  # type: ignore[call-arg]
    assert settings.training(train_config=config).train_config is config


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match="context-sac, promp, e-maml, maml-trpo, but got 'ppo'"):
        config_type("ppo")
