"""A training that takes a fraction of a second per iteration, for the tests of what runs it."""

import os
import time
from collections.abc import Mapping

import torch

from cluster.algorithms import config_type
from cluster.meta_algorithm import MetaAlgorithm
from ssmrl.config import TrainConfig
from tests.cluster.private_ray import is_alive

Tensors = Mapping[str, torch.Tensor]


SIZES: Mapping[str, object] = {
    "meta.num_tasks": 5,  # odd, so that two runners get unequal shares
    "meta.num_episodes": 3,
    "meta.num_lanes": 5,
    "meta.batch_size": 32,
    "meta.actor_hidden_dim": 16,
    "meta.critic_hidden_dim": 16,
    "meta.random_env_steps": 100,  # one iteration
    "meta.outer_lr": 3e-3,
    "evaluation.num_tasks": 4,
    "evaluation.num_episodes": 3,
}


def small_config(algorithm: str = "promp", **knobs: object) -> TrainConfig:
    base = TrainConfig.for_task("point", algorithm)
    sizes = {name: value for name, value in SIZES.items() if name in base.knobs()}
    return base.with_knobs({**sizes, **knobs})


def build(
    config: TrainConfig,
    num_env_runners: int,
    num_learners: int = 0,
    num_cpus: float = 0.5,
    patience_s: float = 600.0,
) -> MetaAlgorithm:
    settings = (
        config_type(config.algorithm)()  # type: ignore[call-arg]
        .training(train_config=config)
        .env_runners(
            num_env_runners=num_env_runners,
            num_cpus_per_env_runner=num_cpus,
            sample_timeout_s=patience_s,
        )
        .learners(num_learners=num_learners, num_cpus_per_learner=num_cpus)
    )
    algorithm = settings.build_algo()
    assert isinstance(algorithm, MetaAlgorithm)
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


def pids_of_runners(algorithm: MetaAlgorithm) -> list[int]:
    group = algorithm.env_runner_group
    return list(group.foreach_env_runner(lambda runner: os.getpid(), local_env_runner=False))


def wait_for_runners(algorithm: MetaAlgorithm, number: int) -> None:
    """Until so many are alive; RLlib takes up those that Ray has started anew."""
    deadline = time.monotonic() + 60.0
    while algorithm.env_runner_group.num_healthy_remote_workers() < number:
        assert time.monotonic() < deadline, "a lost runner was not replaced"
        algorithm.restore_env_runners(algorithm.env_runner_group)
        time.sleep(0.1)


def wait_for_end(pid: int) -> None:
    """Ray asks a process to end for some seconds, then it kills it."""
    deadline = time.monotonic() + 60.0
    while is_alive(pid):
        assert time.monotonic() < deadline, "the lost runner was not ended"
        time.sleep(0.1)


def assert_equal(one: Tensors, other: Tensors) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
