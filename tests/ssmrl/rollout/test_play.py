"""What can be played, by each kind of policy, and that no mode changes what is paid."""

import pytest
import torch

from ssmrl.adaptation.adaptation import Adaptation
from ssmrl.adaptation.on_device import OnDevice
from ssmrl.config import TrainConfig
from ssmrl.meta.algorithms import ALGORITHMS
from ssmrl.rollout import play as play_module
from ssmrl.rollout.assignment import train_assignment
from ssmrl.rollout.play import LocalCollector, Mode, Play, Player
from ssmrl.types import Trajectory
from tests.ssmrl.context.small_context import small_context

N, B, K = 3, 2, 2
EVERY = pytest.mark.parametrize("algorithm", ALGORITHMS)


def configured(algorithm: str) -> TrainConfig:
    """Of the point, with small networks."""
    if ALGORITHMS[algorithm].kind == "memory":
        return small_context()
    small = {"policy.method": "mlp", "policy.hidden_dim": 8, "env.horizon": 10}
    return TrainConfig.for_task("point", algorithm).with_knobs(small)


def player_of(config: TrainConfig) -> Player:
    player: Player = ALGORITHMS[config.algorithm].player_type()(config)
    return player


def played(config: TrainConfig, mode: Mode) -> list[Trajectory]:
    play = Play(train_assignment(config, 0, N), B, K, mode)
    return LocalCollector(config, 1)(player_of(config).initial_params(), play)


def modes_of(algorithm: str) -> list[Mode]:
    """All but those for which a policy that adapts by gradient has no input."""
    by_memory = ALGORITHMS[algorithm].kind == "memory"
    return [mode for mode in Mode if by_memory or mode is not Mode.GIVEN]


@EVERY
def test_every_mode_plays_as_many_episodes_as_asked(algorithm: str) -> None:
    config = configured(algorithm)
    for mode in modes_of(algorithm):
        trajectories = played(config, mode)
        assert [each.reward.shape for each in trajectories] == [(N, B, config.env.horizon)] * K
        assert all(each.first[:, :, 0].all() for each in trajectories)
        keeps = player_of(config).keeps_motion
        assert all((each.motion.shape[-1] > 0) is keeps for each in trajectories)


@EVERY
def test_rewards_are_those_that_were_paid_whatever_the_adaptation_is_told(algorithm: str) -> None:
    """Also where it is told another task's: otherwise the control would measure something else."""
    config = configured(algorithm)
    goals = torch.tensor([task.parameters for task in train_assignment(config, 0, N).tasks])
    for mode in modes_of(algorithm):
        for each in played(config, mode):
            reached = torch.cat([each.observation[:, :, 1:], each.last_observation[:, :, None]], 2)
            wanted = -(reached - goals[:, None, None]).norm(dim=-1)
            torch.testing.assert_close(each.reward, wanted, rtol=1e-5, atol=1e-5)


@EVERY
def test_other_rewards_change_what_is_adapted_to(algorithm: str) -> None:
    """In the second episode at the latest; before anything was observed all is the same."""
    config = configured(algorithm)
    modes = (Mode.USED, Mode.OTHER_REWARDS, Mode.OFF)
    own, other, off = (played(config, mode) for mode in modes)
    assert torch.equal(own[0].action[:, :, 0], other[0].action[:, :, 0])
    assert not torch.equal(own[1].action, other[1].action)
    assert not torch.equal(off[1].action, other[1].action), "it does adapt, to something else"


@EVERY
def test_without_adaptation_tasks_do_not_differ(algorithm: str) -> None:
    """The same noise for every task: the actions show nothing of what a task pays."""
    config = configured(algorithm)
    assignment = train_assignment(config, 0, N)
    alike = type(assignment)(assignment.tasks, (assignment.streams[0],) * N)
    params = player_of(config).initial_params()
    collect = LocalCollector(config, 1)
    for each in collect(params, Play(alike, B, K, Mode.OFF)):
        torch.testing.assert_close(each.action, each.action[:1].expand_as(each.action))
    used = collect(params, Play(alike, B, K, Mode.USED))[-1].action
    assert not torch.allclose(used, used[:1].expand_as(used)), "and with it they do"


def test_another_tasks_rewards_need_another_task() -> None:
    assignment = train_assignment(small_context(), 0, 1)
    with pytest.raises(ValueError, match="play at least 2 tasks"):
        Play(assignment, B, K, Mode.OTHER_REWARDS)
    Play(train_assignment(small_context(), 0, 2), B, K, Mode.OTHER_REWARDS)


@EVERY
def test_only_a_policy_that_computes_elsewhere_is_handed_what_happens(
    algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, elsewhere = configured(algorithm), torch.device("cpu:0")  # the CPU by another name
    handed: list[torch.device] = []

    def noted(adaptation: Adaptation[object], device: torch.device) -> OnDevice:
        handed.append(device)
        return OnDevice(adaptation, device)

    monkeypatch.setattr(play_module, "OnDevice", noted)
    params = player_of(config).initial_params()
    play = Play(train_assignment(config, 0, N), B, K, Mode.USED)
    here = LocalCollector(config, 1)(params, play)
    assert handed == []
    there = LocalCollector(config, 1, elsewhere)(params, play)
    assert handed == [elsewhere]
    for one, other in zip(here, there, strict=True):
        torch.testing.assert_close(one.reward, other.reward)


def test_a_policy_without_an_input_for_it_is_not_told_the_hidden_variable() -> None:
    with pytest.raises(ValueError, match="must not be 'given' for a policy that adapts by gradien"):
        played(configured("promp"), Mode.GIVEN)


@EVERY
def test_initial_params_are_what_the_learner_starts_from(algorithm: str) -> None:
    config = configured(algorithm)
    learner = ALGORITHMS[algorithm].learner_type()(config)
    params, initial = learner.params(), player_of(config).initial_params()
    assert params.keys() == initial.keys()
    assert all(torch.equal(params[name], value) for name, value in initial.items())
    saved = player_of(config).params_of(learner.tensors())
    assert all(torch.equal(saved[name], value) for name, value in params.items())
    assert saved.keys() == params.keys()
