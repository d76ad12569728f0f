"""What ``evaluate`` tells of a policy: the same numbers as ``judge``, beside what they took."""

import pytest

from ssmrl.config import TrainConfig
from ssmrl.meta.algorithms import ALGORITHMS
from ssmrl.rollout.evaluate import judge
from ssmrl.rollout.play import LocalCollector, Mode
from ssmrl.rollout.report import PolicyReport
from ssmrl.types import Params

SIZES = {"policy.hidden_dim": 16, "policy.state_dim": 8, "evaluation.num_tasks": 4}
MEMORY = TrainConfig.for_task("point").with_knobs(SIZES | {"meta.episodes_per_task": 2})
GRADIENT = TrainConfig.for_task("point", "promp").with_knobs(SIZES | {"evaluation.num_episodes": 3})


def params_of(config: TrainConfig) -> Params:
    params: Params = ALGORITHMS[config.algorithm].player_type()(config).initial_params()
    return params


def test_by_memory_every_mode_has_each_episode_and_its_halves() -> None:
    params = params_of(MEMORY)
    report = PolicyReport.of(MEMORY, params, draw=1)
    collect = LocalCollector(MEMORY, 1)
    for mode in (Mode.USED, Mode.OFF, Mode.OTHER_REWARDS, Mode.GIVEN):
        lines = [line for line in report.lines if line.mode is mode]
        assert [(line.episode, line.steps, line.env_steps) for line in lines] == [
            *[(0, (1, 20), 0), (0, (1, 10), 0), (0, (11, 20), 10)],
            *[(1, (1, 20), 20), (1, (1, 10), 20), (1, (11, 20), 30)],
        ]
        wanted = judge(MEMORY, params, collect, num_episodes=2, mode=mode, draw=1)
        for episode in (0, 1):
            whole, first, second = lines[3 * episode : 3 * episode + 3]
            assert whole.mean == pytest.approx(wanted.mean_returns()[episode], rel=1e-6)
            assert whole.interval == pytest.approx(wanted.interval(episode), rel=1e-6)
            assert first.mean + second.mean == pytest.approx(whole.mean, rel=1e-6)
    means = {(line.mode, line.episode): line.mean for line in report.lines[::3]}
    assert len(set(means.values())) > 4, "the modes must not all be the same play"


def test_by_gradient_the_env_steps_are_those_of_all_lanes() -> None:
    params = params_of(GRADIENT)
    report = PolicyReport.of(GRADIENT, params)
    assert [(line.episode, line.env_steps) for line in report.lines] == [(0, 0), (1, 60), (3, 180)]
    assert {line.mode for line in report.lines} == {Mode.USED}
    more = PolicyReport.of(GRADIENT, params, num_episodes=3)
    assert [line.episode for line in more.lines] == [0, 1, 2]
    assert more.lines[1].mean == report.lines[1].mean


def test_text_and_json_tell_what_training_saw_and_what_is_reached_blind() -> None:
    report = PolicyReport.of(MEMORY, params_of(MEMORY))
    text, content = report.to_text(), report.to_json()
    assert content["training_saw_hidden_variable"] is True
    assert "training saw the hidden variable" in text
    assert content["returns"].keys() == {"0", "1"}
    assert content["blind_return"] >= content["no_adaptation_bound"] == -20.0
    assert f"on exactly these tasks: {content['blind_return']:.2f}" in text
    for name in ("memory used", "memory switched off", "rewards of another task", "given"):
        assert name in text
    other = PolicyReport.of(GRADIENT, params_of(GRADIENT)).to_json()
    assert other["training_saw_hidden_variable"] is False


def test_one_task_alone_has_no_other_tasks_rewards() -> None:
    config = MEMORY.with_knobs({"evaluation.num_tasks": 1})
    report = PolicyReport.of(config, params_of(config), num_episodes=1)
    assert {line.mode for line in report.lines} == {Mode.USED, Mode.OFF, Mode.GIVEN}
