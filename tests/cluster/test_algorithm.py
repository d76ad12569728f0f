"""MAML as an RLlib algorithm: the same numbers as one process, whatever happens to the runners."""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from cluster.algorithm import MAML, MAMLConfig
from cluster.meta_algorithm import MetaAlgorithm
from cluster.session import session
from cluster.work_item import NUM_LOST_PARTS, RolloutResult
from ssmrl.meta.diverged import DivergedError
from ssmrl.meta.initial_actor import initial_actor
from ssmrl.train import evaluate, train
from tests.cluster.small_training import (
    Tensors,
    assert_equal,
    build,
    pids_of_runners,
    small_config,
    trained,
    wait_for_end,
    wait_for_runners,
)

NUM_ITERATIONS = 5


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with session(num_cpus=4):
        yield


@pytest.fixture(scope="module")
def in_process() -> Tensors:
    return trained(small_config(), 0, num_iterations=NUM_ITERATIONS)


@pytest.fixture(scope="module")
def start() -> Tensors:
    return trained(small_config(), 0, num_iterations=0)


def test_in_process_equals_plain_training(in_process: Tensors) -> None:
    """RLlib adds actors, not numbers: ``ssmrl.train`` is the twin."""
    config = small_config()
    actor = initial_actor(config)
    list(islice(train(config, actor), NUM_ITERATIONS))
    for name, value in actor.state_dict().items():
        assert torch.equal(value, in_process[f"actor.{name}"]), name


@pytest.mark.slow
# Two of them below, where one is killed; one below, with remote learners, and in the other kind.
@pytest.mark.parametrize("num_env_runners", [3])
def test_any_number_of_runners_gives_the_same_parameters(
    num_env_runners: int, in_process: Tensors
) -> None:
    assert_equal(trained(small_config(), num_env_runners, num_iterations=5), in_process)


@pytest.mark.slow
def test_learners_that_share_a_meta_batch_make_the_steps_of_one(
    in_process: Tensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their sums add up in another order; but it is the same order for any number of runners."""
    algorithm = build(small_config(), 1, num_learners=2)
    start = algorithm.tensors()

    def learnt() -> Tensors:
        for _ in range(NUM_ITERATIONS):
            algorithm.train()
        return algorithm.tensors()

    shared = learnt()
    for name, value in in_process.items():
        assert torch.allclose(value, shared[name], rtol=1e-6, atol=1e-6), name
        if name.startswith("actor."):
            assert not torch.allclose(value, start[name], rtol=1e-4, atol=1e-4), name
    # The same learners from the start again, and no runner.
    algorithm.load(start, 0, tmp_path)
    alone = MAMLConfig().training(train_config=small_config()).learners(num_learners=2)
    monkeypatch.setattr(algorithm._divided_play, "_config", alone)
    assert_equal(learnt(), shared)
    assert algorithm.env_runner_group.local_env_runner.env_steps > 0
    algorithm.stop()


@pytest.mark.slow
def test_learners_share_a_step_in_the_trust_region() -> None:
    config = small_config("maml-trpo")
    alone = trained(config, 0, num_iterations=2)
    shared = trained(config, 0, num_learners=2, num_iterations=2)
    for name, value in alone.items():
        assert torch.allclose(value, shared[name], rtol=1e-5, atol=1e-5), name


@pytest.fixture(scope="module")
def by_two() -> Iterator[MetaAlgorithm]:
    """Two runners, which own nothing that matters and take long to start."""
    algorithm = build(small_config(), 2, patience_s=3.0)
    yield algorithm
    algorithm.stop()


def lost_parts(result: Mapping[str, Any]) -> int:
    return int(result["env_runners"].get(NUM_LOST_PARTS, 0))


@pytest.mark.slow
def test_a_killed_runner_is_replaced_and_leaves_no_trace(
    by_two: MetaAlgorithm,
    start: Tensors,
    in_process: Tensors,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    by_two.load(start, 0, tmp_path)
    lost_before = lost_parts(by_two.train())
    # Death is noticed at once, not for want of patience.
    monkeypatch.setattr(by_two._divided_play._collector, "_max_patience_s", 600.0)
    pids = pids_of_runners(by_two)
    os.kill(pids[0], signal.SIGKILL)
    for _ in range(NUM_ITERATIONS - 1):
        result = by_two.train()
    assert lost_parts(result) > lost_before
    assert_equal(by_two.tensors(), in_process)
    wait_for_runners(by_two, 2)
    assert pids[0] not in pids_of_runners(by_two)


@pytest.mark.slow
def test_a_runner_that_hangs_is_replaced_and_leaves_no_trace(
    by_two: MetaAlgorithm, start: Tensors, in_process: Tensors, tmp_path: Path
) -> None:
    by_two.load(start, 0, tmp_path)
    lost_before = lost_parts(by_two.train())
    pids = pids_of_runners(by_two)
    os.kill(pids[0], signal.SIGSTOP)
    started = time.monotonic()
    result = by_two.train()
    assert time.monotonic() - started < 15.0
    assert lost_parts(result) == lost_before + 1
    for _ in range(NUM_ITERATIONS - 2):
        by_two.train()
    assert_equal(by_two.tensors(), in_process)
    wait_for_end(pids[0])
    wait_for_runners(by_two, 2)
    assert pids[0] not in pids_of_runners(by_two)


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


def test_own_tensors_go_on_bit_for_bit(tmp_path: Path, in_process: Tensors) -> None:
    algorithm = build(small_config(), 0)
    algorithm.train()
    tensors = algorithm.tensors()
    algorithm.stop()
    other = build(small_config(), 0)
    other.load(tensors, 1, tmp_path)
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


def test_what_was_stopped_trains_and_plays_no_more_and_a_seed_may_have_more_than_32_bits() -> None:
    """Runners and learners are gone: it would wait for them, or learn on without a word."""
    algorithm = build(small_config(seed=2**32), 0)
    algorithm.train()
    algorithm.stop()
    for _ in range(2):
        for call in (algorithm.train, algorithm.iterate, algorithm.evaluate):
            with pytest.raises(RuntimeError, match="`stop` has ended this MAML, which cannot run"):
                call()
    algorithm.stop()


@pytest.mark.slow
def test_trajectories_that_died_with_their_runner_are_played_again(in_process: Tensors) -> None:
    """With remote learners they stay with the runner until their learner fetches them."""
    algorithm = build(small_config(), 2, num_learners=1)
    assert isinstance(algorithm, MAML)
    deliver, num_kills = algorithm._deliver, 0

    def kill_before(played: Mapping[int, RolloutResult]) -> set[int]:
        nonlocal num_kills
        if num_kills == 0:
            num_kills += 1
            os.kill(pids_of_runners(algorithm)[0], signal.SIGKILL)
            time.sleep(5.0)  # until Ray has seen it, on a busy machine too
        return deliver(played)

    algorithm._deliver = kill_before  # type: ignore[method-assign]
    for _ in range(NUM_ITERATIONS):
        result = algorithm.train()
    assert result["env_runners"][NUM_LOST_PARTS] >= 1
    assert_equal(algorithm.tensors(), in_process)
    algorithm.stop()


def test_more_learners_than_tasks_are_refused_before_anything_starts() -> None:
    config = MAMLConfig().training(train_config=small_config()).learners(num_learners=6)
    with pytest.raises(ValueError, match="`num_learners` must not exceed"):
        config.build_algo()


@pytest.mark.slow
def test_a_divergence_in_a_remote_learner_is_told_as_one() -> None:
    algorithm = build(small_config(**{"meta.inner_lr": 1e6}), 0, 2)
    with pytest.raises(DivergedError, match="the meta-gradient is not finite"):
        algorithm.train()
    algorithm.stop()
