"""How long a runner is waited for: by what it has to play, with a clock that the test moves."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from cluster import collector as collector_module
from cluster.collector import MAX_LOSSES, Collector
from cluster.divided_play import DividedPlay
from cluster.work_item import Delivery, split
from ssmrl.config import TrainConfig
from ssmrl.rollout.assignment import held_out_assignment
from ssmrl.rollout.play import Mode, Play

CONFIG = TrainConfig.for_task("point", "promp")


class Runners:
    """Two runners that take a second for so many episodes, and say how long they may take."""

    def __init__(self, episodes_a_second: float) -> None:
        self.now, self.rate = 0.0, episodes_a_second
        self.patience: list[float] = []

    def healthy_env_runner_ids(self) -> list[int]:
        return [1, 2]

    def foreach_env_runner(
        self, calls: Any, *, kwargs: Any, timeout_seconds: float, **_: Any
    ) -> Any:
        self.patience.append(timeout_seconds)
        parts = [each["part"] for each in kwargs]
        self.now += max(part.num_episodes for part in parts) / self.rate
        return [SimpleNamespace(number=part.number) for part in parts]


@pytest.fixture
def runners(monkeypatch: pytest.MonkeyPatch) -> Runners:
    runners = Runners(20.0)
    monkeypatch.setattr(collector_module, "time", SimpleNamespace(monotonic=lambda: runners.now))
    return runners


def played(collector: Collector, *, num_lanes: int, num_episodes: int = 1) -> None:
    config = CONFIG.with_knobs({"evaluation.num_tasks": 20})
    play = Play(held_out_assignment(config, 0), num_lanes, num_episodes, Mode.USED)
    parts = {part.number: part for part in split(play, 2, 1)}
    assert collector.play(parts, {}).keys() == parts.keys()


def made(runners: Any, max_patience_s: float = 600.0) -> Collector:
    return Collector(
        runners,
        restore=lambda: None,
        report_lost=lambda number: None,
        max_patience_s=max_patience_s,
    )


def test_an_evaluation_that_takes_longer_than_any_training_is_waited_for(runners: Runners) -> None:
    collector = made(runners)
    played(collector, num_lanes=2)  # 20 episodes of each runner, a second
    played(collector, num_lanes=2)
    played(collector, num_lanes=30, num_episodes=3)  # 900, which take 45 s
    assert runners.patience == [600.0, 30.0, pytest.approx(5 * 45.0)]


def test_no_work_is_waited_for_longer_than_was_asked_for(runners: Runners) -> None:
    collector = made(runners, max_patience_s=40.0)
    played(collector, num_lanes=2)
    played(collector, num_lanes=30, num_episodes=3)
    assert runners.patience == [40.0, 40.0]


@pytest.mark.parametrize("num_bad", [3, 1000])
def test_trajectories_that_are_lost_on_their_way_to_the_learners_are_collected_a_few_times_more(
    num_bad: int, runners: Runners, monkeypatch: pytest.MonkeyPatch
) -> None:
    algorithm = Mock(env_runner_group=runners)
    algorithm.config = SimpleNamespace(num_env_runners=2, num_learners=1, sample_timeout_s=60.0)
    monkeypatch.setattr("cluster.divided_play.ray.put", lambda params: params)
    delivered: list[set[int]] = []

    def deliver(played: Any) -> set[int]:
        delivered.append(set(played))
        return {1} if len(delivered) <= num_bad else set()

    config = CONFIG.with_knobs({"evaluation.num_tasks": 20})
    play = Play(held_out_assignment(config, 0), 1, 1, Mode.USED)
    divided = DividedPlay(algorithm)
    if num_bad < MAX_LOSSES:
        results = divided({}, play, Delivery.REFERENCE, deliver)
        assert [part.number for part in results] == [0, 1]
        assert delivered == [{0, 1}, {1}, {1}, {1}]
    else:
        with pytest.raises(RuntimeError, match="1 parts were lost 11 times"):
            divided({}, play, Delivery.REFERENCE, deliver)
    assert algorithm.metrics.log_value.call_count == min(num_bad, 1 + MAX_LOSSES)
