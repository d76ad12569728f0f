"""RLlib's evaluation says what the policy earns after adaptation, on held-out tasks."""

from types import SimpleNamespace

import pytest
import torch
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

from cluster.algorithm import MAMLConfig
from cluster.held_out import evaluate_held_out, held_out
from ssmrl.config import TrainConfig
from ssmrl.rollout.assignment import held_out_assignment
from ssmrl.rollout.play import Mode, Play
from tests.cluster.small_training import small_config
from tests.ssmrl.two_sides import NAME, two_sides


class Fake:
    """An algorithm whose policies earn, in episode ``k``, ten to the power of ``k``."""

    def __init__(self, config: TrainConfig, num_episodes: int) -> None:
        self.config = MAMLConfig().training(train_config=config)
        self.metrics = MetricsLogger(stats_cls_lookup=self.config.stats_cls_lookup, root=True)
        self.learner = SimpleNamespace(num_episodes=num_episodes, num_reported_episodes=5)
        self.asked: list[Play] = []

    def play(self, play: Play) -> list[SimpleNamespace]:
        """In two parts, as runners do."""
        self.asked.append(play)
        means = 10.0 ** torch.arange(play.num_episodes)
        returns = means[:, None, None] + torch.tensor([-0.1, 0.1])[None, :, None].expand(-1, -1, 2)
        part = SimpleNamespace(returns=returns.expand(play.num_episodes, 2, 2), env_steps=7)
        return [part, part]


@pytest.mark.parametrize(("num_episodes", "adapted"), [(2, 10.0), (3, 100.0), (5, 10000.0)])
def test_the_adapted_return_is_that_of_the_last_episode_that_was_trained_for(
    num_episodes: int, adapted: float
) -> None:
    fake = Fake(small_config(), num_episodes)
    results, env_steps, agent_steps = evaluate_held_out(fake)  # type: ignore[arg-type]
    assert results["return_adapted"] == pytest.approx(adapted)
    assert results["return_adapted_low"] < adapted < results["return_adapted_high"]
    middle = (results["return_adapted_low"] + results["return_adapted_high"]) / 2.0
    assert middle == pytest.approx(adapted)
    assert results["returns"] == {
        str(k): pytest.approx(10.0**k) for k in sorted({0, 1, 3, num_episodes - 1})
    }
    assert env_steps == agent_steps == 14
    (play,) = fake.asked
    assert (play.num_episodes, play.mode) == (5, Mode.USED)


def test_what_is_played_is_held_out_and_of_the_draw_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two_sides(monkeypatch)
    config = TrainConfig.for_task(NAME, "promp").with_knobs(
        {"evaluation.num_tasks": 4, "evaluation.num_episodes": 2}
    )
    fake = Fake(config, 2)
    held_out(fake, num_episodes=1)  # type: ignore[arg-type]
    held_out(fake, num_episodes=3, mode=Mode.OFF, draw=5)  # type: ignore[arg-type]
    for play, draw in zip(fake.asked, (0, 5), strict=True):
        assert play.assignment.tasks == held_out_assignment(config, draw).tasks
        assert all(task.parameters[0] < 0.0 for task in play.assignment.tasks)
        assert play.num_lanes == 2
    assert [(play.num_episodes, play.mode) for play in fake.asked] == [
        (1, Mode.USED),
        (3, Mode.OFF),
    ]
