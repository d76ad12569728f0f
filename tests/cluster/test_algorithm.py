"""MAML as an RLlib algorithm: the same numbers as one process, whatever happens to the runners."""

import os
import signal
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch

from cluster.algorithm import MAML, NUM_LOST_PARTS, MAMLConfig
from cluster.session import session
from ssmrl.config import TrainConfig
from ssmrl.train import evaluate, initial_actor, train

NUM_ITERATIONS = 3

Tensors = dict[str, torch.Tensor]


def small_config(**knobs: object) -> TrainConfig:
    """A training that takes a fraction of a second per iteration."""
    sizes = {
        "meta.num_tasks": 5,  # odd, so that two runners get unequal shares
        "meta.num_episodes": 3,
        "meta.outer_lr": 3e-3,
        "evaluation.num_tasks": 4,
        "evaluation.num_episodes": 3,
    }
    return TrainConfig.for_task("point").with_knobs({**sizes, **knobs})


def build(config: TrainConfig, num_env_runners: int) -> MAML:
    settings = MAMLConfig().training(train_config=config)
    algorithm = settings.env_runners(
        num_env_runners=num_env_runners, num_cpus_per_env_runner=0.5
    ).build_algo()
    assert isinstance(algorithm, MAML)
    return algorithm


def pids_of_runners(algorithm: MAML) -> list[int]:
    group = algorithm.env_runner_group
    return list(group.foreach_env_runner(lambda runner: os.getpid(), local_env_runner=False))


def trained(config: TrainConfig, num_env_runners: int) -> Tensors:
    algorithm = build(config, num_env_runners)
    for _ in range(NUM_ITERATIONS):
        algorithm.train()
    tensors = algorithm.tensors()
    algorithm.stop()
    return tensors


def assert_equal(one: Tensors, other: Tensors) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with session(num_cpus=4):
        yield


@pytest.fixture(scope="module")
def in_process() -> Tensors:
    return trained(small_config(), 0)


def test_in_process_equals_plain_training(in_process: Tensors) -> None:
    """RLlib adds actors, not numbers: ``ssmrl.train`` is the twin."""
    config = small_config()
    actor = initial_actor(config)
    list(islice(train(config, actor), NUM_ITERATIONS))
    for name, value in actor.state_dict().items():
        assert torch.equal(value, in_process[f"actor.{name}"]), name


@pytest.mark.slow
def test_one_runner_equals_two_equals_none(in_process: Tensors) -> None:
    one, two = trained(small_config(), 1), trained(small_config(), 2)
    assert_equal(one, two)
    assert_equal(one, in_process)


@pytest.mark.slow
def test_a_killed_runner_is_replaced_and_leaves_no_trace(in_process: Tensors) -> None:
    algorithm = build(small_config(), 2)
    algorithm.train()
    pids = pids_of_runners(algorithm)
    os.kill(pids[0], signal.SIGKILL)
    for _ in range(NUM_ITERATIONS - 1):
        result = algorithm.train()
    assert result["env_runners"][NUM_LOST_PARTS] >= 1
    assert_equal(algorithm.tensors(), in_process)
    deadline = time.monotonic() + 60.0
    while algorithm.env_runner_group.num_healthy_remote_workers() < 2:
        assert time.monotonic() < deadline, "the killed runner was not replaced"
        algorithm.train()
    assert pids[0] not in pids_of_runners(algorithm)
    algorithm.stop()


def test_rllib_checkpoint_goes_on_bit_for_bit(tmp_path: Path, in_process: Tensors) -> None:
    algorithm = build(small_config(), 0)
    algorithm.train()
    algorithm.save_to_path(tmp_path)
    algorithm.stop()
    restored = MAML.from_checkpoint(str(tmp_path))
    assert restored.training_iteration == 1
    for _ in range(NUM_ITERATIONS - 1):
        restored.train()
    assert_equal(restored.tensors(), in_process)
    restored.stop()


def test_own_tensors_go_on_bit_for_bit(in_process: Tensors) -> None:
    algorithm = build(small_config(), 0)
    algorithm.train()
    tensors = algorithm.tensors()
    algorithm.stop()
    other = build(small_config(), 0)
    other.load_tensors(tensors, iteration=1)
    for _ in range(NUM_ITERATIONS - 1):
        other.train()
    assert_equal(other.tensors(), in_process)
    other.stop()


def test_evaluation_reports_held_out_returns_per_adaptation_step() -> None:
    config = small_config()
    settings = MAMLConfig().training(train_config=config).evaluation(evaluation_interval=2)
    algorithm = settings.build_algo()
    assert "evaluation" not in algorithm.train()
    reported = algorithm.train()["evaluation"]["env_runners"]["returns"]
    actor = initial_actor(config)
    list(islice(train(config, actor), 2))
    expected = evaluate(config, actor, num_steps=3).mean_returns()
    assert {int(k): v for k, v in reported.items()} == pytest.approx(
        {k: expected[k] for k in (0, 1, 3)}
    )
    algorithm.stop()


def test_train_reports_returns_and_env_steps() -> None:
    config = small_config()
    algorithm = build(config, 0)
    first = algorithm.train()["env_runners"]
    second = algorithm.train()["env_runners"]
    per_iteration = 5 * 3 * 2 * config.env.horizon
    assert first["num_env_steps_sampled_lifetime"] == per_iteration
    assert second["num_env_steps_sampled_lifetime"] == 2 * per_iteration
    metrics = next(iter(train(config)))
    assert first["return_before"] == pytest.approx(metrics.return_before)
    assert first["return_after"] == pytest.approx(metrics.return_after)
    algorithm.stop()


def test_more_than_one_learner_is_refused_before_anything_starts() -> None:
    config = MAMLConfig().training(train_config=small_config()).learners(num_learners=2)
    with pytest.raises(ValueError, match="num_learners"):
        config.build_algo()
