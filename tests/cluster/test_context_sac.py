"""Context-sac as an RLlib algorithm: the same numbers as one process, whoever plays the lanes."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID

from cluster.algorithm import MAMLConfig
from cluster.context_sac import ContextSAC, ContextSACConfig
from cluster.held_out import held_out
from cluster.meta_algorithm import MetaAlgorithm
from cluster.session import session
from cluster.work_item import NUM_LOST_PARTS
from ssmrl.config import TrainConfig
from ssmrl.meta.diverged import DivergedError
from ssmrl.rollout.play import Mode
from ssmrl.run import LocalEngine
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

NUM_ITERATIONS = 4


def context_config(**knobs: object) -> TrainConfig:
    return small_config("context-sac", **knobs)


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with session(num_cpus=4):
        yield


@pytest.fixture(scope="module")
def plain() -> LocalEngine:
    """The twin without Ray, after all iterations."""
    engine = LocalEngine(context_config())
    for _ in range(NUM_ITERATIONS):
        engine.iterate()
    return engine


@pytest.fixture(scope="module")
def expected(plain: LocalEngine) -> Tensors:
    start = LocalEngine(context_config()).tensors()
    tensors = plain.tensors()
    for part in ("actor.flat", "critic.flat", "inference.model.encoder.weight"):
        assert not torch.equal(start[f"networks.{part}"], tensors[f"networks.{part}"]), part
    return tensors


def test_in_process_equals_plain_training(expected: Tensors) -> None:
    assert_equal(trained(context_config(), 0, num_iterations=NUM_ITERATIONS), expected)


class Pair(NamedTuple):
    """An algorithm with two runners, and its twin without Ray: what one does the other does.

    They go on from test to test, since a runner takes long to start.
    """

    algorithm: MetaAlgorithm
    twin: LocalEngine

    def iterate(self, num_iterations: int) -> dict[str, Any]:
        """Returns what the algorithm reported last."""
        for _ in range(num_iterations):
            self.twin.iterate()
            result = self.algorithm.train()
        return dict(result["env_runners"])


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    made = Pair(build(context_config(), 2, patience_s=5.0), LocalEngine(context_config()))
    yield made
    made.algorithm.stop()


@pytest.mark.slow
def test_one_runner_gives_the_same_networks(expected: Tensors) -> None:
    assert_equal(trained(context_config(), 1, num_iterations=NUM_ITERATIONS), expected)


@pytest.mark.slow
def test_two_runners_give_the_same_networks(pair: Pair) -> None:
    pair.iterate(NUM_ITERATIONS)
    assert_equal(pair.algorithm.tensors(), pair.twin.tensors())


@pytest.mark.slow
def test_the_lanes_are_played_in_processes_of_their_own(pair: Pair) -> None:
    group, horizon = pair.algorithm.env_runner_group, context_config().env.horizon

    def played() -> dict[int, int]:
        pids_and_env_steps = group.foreach_env_runner(
            lambda runner: (os.getpid(), runner.env_steps), local_env_runner=False
        )
        return dict(pids_and_env_steps)

    before = played()
    pair.iterate(1)
    assert len(before.keys() - {os.getpid()}) == 2
    added = [env_steps - before[pid] for pid, env_steps in played().items()]
    assert sorted(added) == [lanes * horizon for lanes in (2, 3)]
    assert group.local_env_runner.env_steps == 0


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_runner_that_dies_or_hangs_is_replaced_without_a_trace(
    how: signal.Signals, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost_before = pair.iterate(1).get(NUM_LOST_PARTS, 0)
    if how == signal.SIGKILL:  # which is noticed at once, not for want of patience
        collector = pair.algorithm._divided_play._collector
        monkeypatch.setattr(collector, "_max_patience_s", 600.0)
    lost, _ = pids_of_runners(pair.algorithm)
    os.kill(lost, how)
    assert pair.iterate(NUM_ITERATIONS - 1)[NUM_LOST_PARTS] > lost_before
    assert_equal(pair.algorithm.tensors(), pair.twin.tensors())
    wait_for_end(lost)
    wait_for_runners(pair.algorithm, 2)
    assert lost not in pids_of_runners(pair.algorithm)


@pytest.mark.parametrize(
    "num_runners", [0, *(pytest.param(number, marks=pytest.mark.slow) for number in (1, 2))]
)
def test_groups_of_lanes_take_turns_the_same_way_on_any_number_of_runners(num_runners: int) -> None:
    """Three lanes play at once: unequal shares of two runners."""
    config = context_config(**{"meta.num_lanes": 6, "meta.lane_groups": 2})
    plain, algorithm = LocalEngine(config), build(config, num_runners)
    for _ in range(2):
        metrics, result = plain.iterate(), algorithm.train()
    assert_equal(algorithm.tensors(), plain.tensors())
    runners = result["env_runners"]
    assert runners["num_env_steps_sampled_lifetime"] == metrics.env_steps
    assert runners["return_after"] == pytest.approx(metrics.return_after, rel=1e-5)
    algorithm.stop()


def test_what_is_kept_and_lost_is_among_the_metrics() -> None:
    config = context_config()
    algorithm, plain = build(config, 0), LocalEngine(config)
    for iteration in (1, 2):
        result, metrics = algorithm.train(), plain.iterate()
        learnt = result["learners"][DEFAULT_MODULE_ID]
        assert learnt["replay_env_steps"] == iteration * 5 * config.env.horizon
        assert {"critic_loss", "actor_loss", "inference_loss"} <= metrics.statistics.keys()
        assert {name: learnt[name] for name in metrics.statistics} == metrics.statistics
        played = result["env_runners"]
        assert played["return_after"] == metrics.return_after
        assert played["num_env_steps_sampled_lifetime"] == metrics.env_steps
    algorithm.stop()


def test_evaluation_is_that_of_plain_training(plain: LocalEngine, expected: Tensors) -> None:
    settings = ContextSACConfig().training(train_config=context_config())
    algorithm = settings.evaluation(evaluation_interval=NUM_ITERATIONS).build_algo()
    for _ in range(NUM_ITERATIONS):
        result = algorithm.train()
    reported = result["evaluation"]["env_runners"]["returns"]
    means = plain.judge(num_episodes=1, mode=Mode.USED, draw=0).mean_returns()
    assert reported == {"0": pytest.approx(means[0])}
    algorithm.stop()


def test_an_rllib_checkpoint_can_be_judged_but_not_trained_on(tmp_path: Path) -> None:
    algorithm = build(context_config(), 0)
    for _ in range(2):
        algorithm.train()
    algorithm.save_to_path(tmp_path)
    tensors = algorithm.tensors()
    returns = held_out(algorithm, num_episodes=1).task_returns
    algorithm.stop()
    restored = ContextSAC.from_checkpoint(str(tmp_path))
    assert (restored.training_iteration, restored.learner.iteration) == (2, 2)
    assert_equal(restored.tensors(), tensors)
    assert (held_out(restored, num_episodes=1).task_returns == returns).all()
    with pytest.raises(RuntimeError, match="the replay must hold the experience"):
        restored.train()
    restored.stop()


def test_a_divergence_is_told_as_one() -> None:
    algorithm = build(context_config(**{"meta.init_temperature": 1e3}), 0)
    with pytest.raises(DivergedError, match="the temperature must stay below"):
        algorithm.train()
    algorithm.stop()


def test_learners_elsewhere_and_runners_without_lanes_are_refused_before_anything_starts() -> None:
    with pytest.raises(ValueError, match="`num_learners` must be 0 for 'context-sac', but got 1"):
        build(context_config(), 0, num_learners=1)
    with pytest.raises(ValueError, match=r"exceed `meta.num_lanes`, but got 6 and 5"):
        build(context_config(), 6)


def test_runners_without_lanes_of_a_group_are_refused() -> None:
    config = context_config(**{"meta.num_lanes": 6, "meta.lane_groups": 2})
    with pytest.raises(ValueError, match=r"must not exceed .* in 2 groups, but got 4 and 3"):
        build(config, 4)


def test_knobs_of_the_other_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="adapts by memory, but got 'promp'"):
        ContextSACConfig().training(train_config=small_config("promp"))
    with pytest.raises(ValueError, match="adapts by gradient, but got 'context-sac'"):
        MAMLConfig().training(train_config=context_config())
