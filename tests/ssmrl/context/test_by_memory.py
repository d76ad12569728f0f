"""What the policy is told in each mode, and that no lane knows of the others."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import Tensor

from ssmrl.config import METHODS, TrainConfig
from ssmrl.context.by_memory import NETWORKS, MemoryAdaptation, MemoryPlayer, acts_on_own_estimate
from ssmrl.context.inference import inference_inputs
from ssmrl.context.learner import ContextLearner
from ssmrl.context.networks import ContextNetworks, hidden_code
from ssmrl.context.sac import squashed
from ssmrl.rollout.assignment import Assignment, held_out_assignment, train_assignment
from ssmrl.rollout.play import LocalCollector, Mode, Play
from ssmrl.types import Params, Trajectory
from tests.ssmrl.context.small_context import small_context


@torch.no_grad()
def random_params(config: TrainConfig) -> tuple[ContextNetworks, Params]:
    """Networks of the point, and what acting needs of them; the observation is not centred."""
    networks = ContextNetworks(config, 2, 2)
    generator = torch.Generator().manual_seed(1)
    networks.average.flat.copy_(torch.randn(networks.average.flat.shape, generator=generator))
    networks.set_statistics(torch.tensor([[0.1, -0.2], [0.3, 0.4], [-0.2, 0.1]]))
    tensors = {f"{NETWORKS}{name}": value for name, value in networks.state_dict().items()}
    return networks, MemoryPlayer.params_of(tensors)


def played(config: TrainConfig, play: Play) -> list[Trajectory]:
    return LocalCollector(config, 1)(random_params(config)[1], play)


def acted_on(networks: ContextNetworks, trajectory: Trajectory, code: Tensor) -> Tensor:
    """The mode's actions, had the policy been told this code ``(N, B, Z)`` at each step."""
    seen = networks.normalised(trajectory.observation)
    told = code.unsqueeze(2).expand(*seen.shape[:3], -1)
    output = networks.average(torch.cat([seen, told], -1).flatten(0, 2))[0]
    action = squashed(output, torch.zeros(len(output), 2))[0]
    return action.unflatten(0, seen.shape[:3]).detach()


def estimates(networks: ContextNetworks, trajectories: list[Trajectory], rewards: Tensor) -> Tensor:
    """Means of the estimate before each action of whole meta-episodes, ``(N * B, K * T, Z)``."""
    joined = {
        name: torch.cat([getattr(each, name) for each in trajectories], dim=2).flatten(0, 1)
        for name in ("observation", "action", "first")
    }
    inputs = inference_inputs(
        networks.normalised(joined["observation"]),
        torch.nn.functional.pad(joined["action"][:, :-1], (0, 0, 1, 0)),
        torch.nn.functional.pad(rewards.flatten(0, 1)[:, :-1], (1, 0)),
        joined["first"],
    )
    return networks.inference.scan(inputs).mean.clamp(-1.0, 1.0).detach()


def test_a_memory_that_is_switched_off_tells_the_middle_of_the_scale() -> None:
    config = small_context()
    play = Play(train_assignment(config, 0, 3), 2, 1, Mode.OFF)
    (trajectory,) = played(config, play)
    networks, _ = random_params(config)
    wanted = acted_on(networks, trajectory, torch.zeros(3, 2, 2))
    torch.testing.assert_close(trajectory.action, wanted, rtol=1e-5, atol=1e-6)


def test_a_given_hidden_variable_is_what_the_policy_is_told() -> None:
    config = small_context()
    play = Play(train_assignment(config, 0, 3), 2, 1, Mode.GIVEN)
    (trajectory,) = played(config, play)
    networks, _ = random_params(config)
    parameters = np.array([task.parameters for task in play.assignment.tasks])
    code = torch.from_numpy(hidden_code(config).encode(parameters)).float()
    wanted = acted_on(networks, trajectory, code.unsqueeze(1).expand(3, 2, 2))
    torch.testing.assert_close(trajectory.action, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_used_memory_tells_what_the_scan_makes_of_all_it_has_seen(method: str) -> None:
    """Over two episodes: training's scan and acting's steps are the same numbers."""
    config = small_context(**{"policy.method": method})
    play = Play(train_assignment(config, 0, 3), 2, 2, Mode.USED)
    trajectories = played(config, play)
    networks, _ = random_params(config)
    rewards = torch.cat([each.reward for each in trajectories], dim=2)
    means = estimates(networks, trajectories, rewards)
    observation = torch.cat([each.observation for each in trajectories], dim=2).flatten(0, 2)
    inputs = torch.cat([networks.normalised(observation), means.flatten(0, 1)], dim=-1)
    wanted = squashed(networks.average(inputs)[0], torch.zeros(len(inputs), 2))[0].detach()
    got = torch.cat([each.action for each in trajectories], dim=2).flatten(0, 2)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_other_rewards_are_those_of_the_next_tasks_lanes() -> None:
    config = small_context()
    play = Play(train_assignment(config, 0, 3), 2, 1, Mode.OTHER_REWARDS)
    (trajectory,) = trajectories = played(config, play)
    networks, _ = random_params(config)
    means = estimates(networks, trajectories, trajectory.reward.roll(1, dims=0))
    observation = networks.normalised(trajectory.observation.flatten(0, 2))
    output = networks.average(torch.cat([observation, means.flatten(0, 1)], dim=-1))[0]
    wanted = squashed(output, torch.zeros(len(output), 2))[0].detach()
    torch.testing.assert_close(trajectory.action.flatten(0, 2), wanted, rtol=1e-4, atol=1e-5)
    own = estimates(networks, trajectories, trajectory.reward)
    assert not torch.allclose(own, means), "and they are no one's own"


def test_the_actor_explores_and_not_its_average() -> None:
    config = small_context(**{"meta.own_estimate": 0.0})
    play = Play(train_assignment(config, 0, 3), 2, 1, Mode.EXPLORE)
    (trajectory,) = played(config, play)
    networks, _ = random_params(config)
    code = hidden_code(config).encode(np.array([each.parameters for each in play.assignment.tasks]))
    told = torch.from_numpy(code).float().view(3, 1, 1, 2).expand(3, 2, 10, 2)
    seen = torch.cat([networks.normalised(trajectory.observation), told], -1).flatten(0, 2)
    action, log_prob = trajectory.action.flatten(0, 2), trajectory.log_prob.flatten()
    for net, is_it in ((networks.actor, True), (networks.average, False)):
        output = net(seen)[0].detach()
        spread = squashed_spread(output)
        noise = (torch.atanh(action) - output.chunk(2, -1)[0]) / spread
        assert torch.allclose(squashed(output, noise)[1], log_prob, rtol=1e-3, atol=1e-3) is is_it


def squashed_spread(output: Tensor) -> Tensor:
    """Standard deviation before the hyperbolic tangent, by the action at noise one and zero."""
    one, none = (torch.full_like(output.chunk(2, -1)[0], value) for value in (1.0, 0.0))
    return torch.atanh(squashed(output, one)[0]) - torch.atanh(squashed(output, none)[0])


@pytest.mark.parametrize("mode", [mode for mode in Mode if mode is not Mode.OTHER_REWARDS])
def test_parts_of_an_assignment_play_as_the_whole_does(mode: Mode) -> None:
    """But for the last digits of the products, whose order depends on how many rows there are.

    Which lanes are told what, what is drawn and where episodes start is the same in any case; who
    divides a play for several workers must divide it in the same way for any number of them.
    """
    config = small_context()
    assignment = train_assignment(config, 0, 5)
    whole = played(config, Play(assignment, 2, 2, mode))
    parts = [played(config, Play(part, 2, 2, mode)) for part in assignment.split(2)]
    for episode, trajectory in enumerate(whole):
        for name, value in trajectory._asdict().items():
            joined = torch.cat([getattr(part[episode], name) for part in parts])
            torch.testing.assert_close(
                value.double(), joined.double(), rtol=1e-3, atol=1e-4, msg=name
            )


@pytest.mark.parametrize("mode", Mode)
def test_the_same_play_is_played_in_the_same_way(mode: Mode) -> None:
    """Bit for bit."""
    config = small_context()
    play = Play(train_assignment(config, 0, 5), 2, 2, mode)
    for trajectory, again in zip(played(config, play), played(config, play), strict=True):
        assert all(torch.equal(*pair) for pair in zip(trajectory, again, strict=True))


def test_random_actions_are_uniform() -> None:
    """Over a thousand of them, and each axis by itself."""
    config = small_context(**{"env.horizon": 50})
    play = Play(
        held_out_assignment(config.with_knobs({"evaluation.num_tasks": 20})), 1, 1, Mode.RANDOM
    )
    (trajectory,) = played(config, play)
    for axis in range(2):
        drawn = trajectory.action[..., axis].flatten().numpy()
        assert len(drawn) == 1000
        assert kstest(drawn, "uniform", args=(-1.0, 2.0)).pvalue > 0.01
    assert not torch.equal(trajectory.action[..., 0], trajectory.action[..., 1])


@pytest.mark.parametrize(("mode", "differs"), [(Mode.EXPLORE, True), (Mode.USED, False)])
def test_only_training_tries_things_out(mode: Mode, differs: bool) -> None:
    """Played twice with other noise, the mode's actions stay what they are."""
    config = small_context()
    tasks = train_assignment(config, 0, 3).tasks
    one, other = (
        played(
            config, Play(Assignment(tasks, train_assignment(config, number, 3).streams), 1, 1, mode)
        )[0]
        for number in (0, 1)
    )
    assert torch.equal(one.action, other.action) is not differs


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_the_share_of_lanes_that_act_on_their_own_estimate(share: float) -> None:
    config = small_context()
    play = Play(train_assignment(config, 0, 16), 1, 1, Mode.EXPLORE)
    own = acts_on_own_estimate(play, share)
    assert own.shape == (16, 1)
    assert int(own.sum()) == round(16 * share)
    parts = [
        acts_on_own_estimate(Play(part, 1, 1, Mode.EXPLORE), share)
        for part in play.assignment.split(3)
    ]
    assert torch.equal(torch.cat(parts), own)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_training_tells_all_but_the_lanes_that_the_configuration_leaves_alone(share: float) -> None:
    config = small_context(**{"meta.own_estimate": share})
    play = Play(train_assignment(config, 0, 4), 2, 1, Mode.EXPLORE)
    is_given = MemoryPlayer(config).adaptation(random_params(config)[1], play)._is_given
    assert is_given is not None
    assert is_given.sum() == round(4 * (1.0 - share)) * 2
    assert torch.equal(is_given, acts_on_own_estimate(play, share).logical_not())


@torch.no_grad()
def test_only_the_other_lanes_are_told_in_training() -> None:
    networks, _ = random_params(small_context())
    given, is_given = torch.full((2, 1, 2), 0.9), torch.tensor([[True], [False]])
    told = MemoryAdaptation(networks, given=given, is_given=is_given)
    alone = MemoryAdaptation(networks)
    observation, noise = torch.ones(2, 1, 2), torch.zeros(2, 1, 2)
    first = torch.ones(2, 1, dtype=torch.bool)
    got = told.act(observation, first, noise, told.begin(2, 1))[0].action
    wanted = alone.act(observation, first, noise, alone.begin(2, 1))[0].action
    assert torch.equal(got[1], wanted[1])
    assert not torch.equal(got[0], wanted[0])


def test_the_critics_stay_at_home() -> None:
    params = random_params(small_context())[1]
    assert params.keys() == ContextLearner(small_context()).params().keys()
    assert not [name for name in params if name.startswith(("critic", "target", "log_temp"))]
    assert {"actor.flat", "center", "inverse_scale"} < params.keys()


def test_acting_changes_no_state_that_was_passed_on() -> None:
    """A caller may go on from an old state: what is known is a value."""
    networks, _ = random_params(small_context())
    adaptation = MemoryAdaptation(networks)
    observation, noise = torch.ones(2, 1, 2), torch.zeros(2, 1, 2)
    first = torch.ones(2, 1, dtype=torch.bool)
    state = adaptation.begin(2, 1)
    decision, later = adaptation.act(observation, first, noise, state)
    later = adaptation.observe(decision.action, torch.ones(2, 1), later)
    adaptation.act(observation, ~first, noise, later)
    again, _ = adaptation.act(observation, first, noise, state)
    assert torch.equal(again.action, decision.action)
    assert not torch.equal(later.hidden, state.hidden)
