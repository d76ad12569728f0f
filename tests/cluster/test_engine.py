"""A training run whose work RLlib does: the rows of one that needs no Ray."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.engine import rllib_engine
from cluster.session import session
from ssmrl.config import TrainConfig
from ssmrl.rollout.play import Mode
from ssmrl.run import Engine, LocalEngine, Row, TrainingRun
from tests.cluster.small_training import assert_equal, small_config

NUM_ITERATIONS = 4


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with session(num_cpus=4):
        yield


def run_of(config: TrainConfig, folder: Path, engine: Engine) -> TrainingRun:
    budget = NUM_ITERATIONS * engine.learner.env_steps_per_iteration
    return TrainingRun(
        config, max_env_steps=budget, folder=folder, engine=engine, num_evaluations=2
    )


def comparable(row: Row) -> Row:
    """Without what clocks and actors add."""
    return replace(row, seconds=0.0, train_cpu_seconds=0.0, curve_cpu_seconds=(), metrics=None)


@pytest.mark.parametrize("name", ["context-sac", "promp"])
def test_a_run_stopped_and_gone_on_has_the_rows_of_an_undisturbed_one(
    name: str, tmp_path: Path
) -> None:
    config = small_config(name)
    twin = LocalEngine(config)
    undisturbed = run_of(config, tmp_path / "local", twin)
    rows = [undisturbed.advance() for _ in range(NUM_ITERATIONS)]
    assert rows[-1].finished
    for half in (rows[: NUM_ITERATIONS // 2], rows[NUM_ITERATIONS // 2 :]):
        engine = rllib_engine(config, num_env_runners=0)
        run = run_of(config, tmp_path / "rllib", engine)
        for expected in half:
            row = run.advance()
            assert comparable(row) == comparable(expected)
            assert row.metrics is not None
            assert expected.metrics is not None
            assert row.metrics.env_steps == expected.metrics.env_steps
            assert row.metrics.return_after == pytest.approx(expected.metrics.return_after)
            assert expected.metrics.statistics.items() <= row.metrics.statistics.items()
        tensors = engine.tensors()
        run.close()
    assert_equal(tensors, twin.tensors())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["context-sac", "promp"])  # the others play as promp does
def test_runners_judge_like_one_process_in_every_mode(name: str) -> None:
    config = small_config(name)
    plain, engine = LocalEngine(config), rllib_engine(config, num_env_runners=2)
    plain.iterate()
    engine.iterate()
    modes = [Mode.USED, Mode.OFF, Mode.OTHER_REWARDS]
    for mode in [*modes, Mode.GIVEN] if name == "context-sac" else modes:
        one, other = (
            someone.judge(num_episodes=2, mode=mode, draw=1) for someone in (plain, engine)
        )
        assert (one.task_returns == other.task_returns).all(), mode
        assert one.env_steps == other.env_steps
    engine.stop()


def test_a_run_is_named_after_its_trial() -> None:
    engine = rllib_engine(small_config(), num_env_runners=0, run_name="a/t0001 seed 0")
    runner = engine.algorithm.env_runner_group.local_env_runner  # type: ignore[attr-defined]
    assert repr(runner) == "a/t0001 seed 0 runner 0"
    engine.stop()
