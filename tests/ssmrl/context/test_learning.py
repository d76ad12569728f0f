"""That a memory learns to adapt at all; how far it comes is measured by a benchmark."""

import pytest

from ssmrl.config import TrainConfig
from ssmrl.envs.point import best_return
from ssmrl.rollout.assignment import held_out_assignment
from ssmrl.rollout.play import LocalCollector, Mode, Play
from ssmrl.rollout.returns import episode_return
from ssmrl.run import LocalEngine
from tests.ssmrl.unchecked_types import unchecked_types

SMALL = {
    "meta.batch_size": 128,
    "meta.critic_hidden_dim": 64,
    "meta.actor_hidden_dim": 64,
    "policy.state_dim": 64,
    "seed": 1,
}


@pytest.mark.slow
@unchecked_types()
def test_on_point_the_memory_finds_the_goal_and_switched_off_it_does_not() -> None:
    """In a few seconds a fifth of the way from the blind return to the best."""
    config = TrainConfig.for_task("point").with_knobs(SMALL)
    engine = LocalEngine(config, num_threads=1)
    while engine.iterate().env_steps < 4800:
        pass
    assignment, collect = held_out_assignment(config, 0), LocalCollector(config, num_threads=1)

    def way(mode: Mode) -> float:
        trajectories = collect(engine.learner.params(), Play(assignment, 1, 1, mode))
        earned, blind = float(episode_return(trajectories[0]).mean()), -float(config.env.horizon)
        return (earned - blind) / (best_return(config.env.horizon) - blind)

    assert way(Mode.USED) > 0.2
    assert way(Mode.OFF) < 0.05
    assert way(Mode.OTHER_REWARDS) < 0.05
