"""A training that takes a fraction of a second per iteration, for the tests of what runs it."""

import os
from collections.abc import Mapping

import torch

from cluster.algorithm import MAML, MAMLConfig
from ssmrl.config import TrainConfig

Tensors = Mapping[str, torch.Tensor]


def small_config(algorithm: str = "promp", **knobs: object) -> TrainConfig:
    sizes: dict[str, object] = {
        "meta.num_tasks": 5,  # odd, so that two runners get unequal shares
        "meta.num_episodes": 3,
        "evaluation.num_tasks": 4,
        "evaluation.num_episodes": 3,
    }
    base = TrainConfig.for_task("point", algorithm)
    sizes |= {"meta.outer_lr": 3e-3} if "meta.outer_lr" in base.knobs() else {}
    return base.with_knobs({**sizes, **knobs})


def build(
    config: TrainConfig,
    num_env_runners: int,
    num_learners: int = 0,
    num_cpus: float = 0.5,
    patience_s: float = 600.0,
) -> MAML:
    settings = (
        MAMLConfig()
        .training(train_config=config)
        .env_runners(
            num_env_runners=num_env_runners,
            num_cpus_per_env_runner=num_cpus,
            sample_timeout_s=patience_s,
        )
        .learners(num_learners=num_learners, num_cpus_per_learner=num_cpus)
    )
    algorithm = settings.build_algo()
    assert isinstance(algorithm, MAML)
    return algorithm


def trained(
    config: TrainConfig, num_env_runners: int, num_learners: int = 0, *, num_iterations: int = 3
) -> Tensors:
    algorithm = build(config, num_env_runners, num_learners)
    for _ in range(num_iterations):
        algorithm.train()
    tensors = algorithm.tensors()
    algorithm.stop()
    return tensors


def pids_of_runners(algorithm: MAML) -> list[int]:
    group = algorithm.env_runner_group
    return list(group.foreach_env_runner(lambda runner: os.getpid(), local_env_runner=False))


def assert_equal(one: Tensors, other: Tensors) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
