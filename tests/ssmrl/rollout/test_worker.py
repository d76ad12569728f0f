"""Collected experience: independent of how it was collected, and consistent in itself."""

import pytest
import torch
from torch import Tensor

from ssmrl.config import MEMORY_RESETS, METHODS
from ssmrl.envs.families import FAMILIES
from ssmrl.envs.point import MAX_STEP
from ssmrl.meta.initial_actor import initial_actor
from ssmrl.meta.inner import stack_params
from ssmrl.models.actor import log_density
from ssmrl.rollout.adaptation import collect_once
from ssmrl.rollout.assignment import train_assignment
from ssmrl.rollout.worker import RolloutWorker, env_shape
from ssmrl.types import Trajectory
from tests.ssmrl.rollout.collecting import (
    collect,
    collect_in_parts,
    detached,
    fields_that_differ,
    small_config,
)
from tests.ssmrl.unchecked_types import unchecked_types

every_method = pytest.mark.parametrize("method", METHODS)
TASKS = ("point", "ant-vel")
# Lanes and widths whose products start at other places of memory when a batch is split: where a
# matrix library rounds by alignment, these come out differently.
SIZES = ({}, {"policy.hidden_dim": 5, "policy.state_dim": 6})


@pytest.fixture(scope="module", params=METHODS)
def ants(request: pytest.FixtureRequest) -> Trajectory:
    """Ants at full strength for long enough that several fall, some of them more than once."""
    config = small_config("ant-vel", request.param, **{"env.horizon": 100})
    return collect(config)


@pytest.mark.parametrize("sizes", SIZES, ids=["wide", "narrow"])
@pytest.mark.parametrize("task", TASKS)
@every_method
@unchecked_types()
def test_any_split_and_any_number_of_threads_give_the_same_bits(
    method: str, task: str, sizes: dict[str, int]
) -> None:
    """Law 4: one seed, one result, for any number of workers; adaptation included.

    A difference in the last bit would be enough: within a hundred steps an ant turns it into
    another episode.
    """
    horizon = {"env.horizon": 12} if task == "point" else {}  # where nothing falls later on
    config = small_config(task, method, **sizes, **horizon)
    whole = train_assignment(config, 0)
    reference = collect_in_parts(config, [whole])
    # Parts of 3 and 2 tasks, and of one each: no split of the five has parts of another size.
    for num_parts, num_threads in ((2, 2), (len(whole.tasks), 1)):
        got = collect_in_parts(config, whole.split(num_parts), num_threads)
        for phase in range(2):
            assert fields_that_differ(got[phase], reference[phase]) == [], (num_parts, phase)


@pytest.mark.parametrize("task", TASKS)
@every_method
@unchecked_types()
def test_two_torch_threads_give_the_same_bits_as_one(method: str, task: str) -> None:
    """In one process torch takes all cores; a worker elsewhere may have a single one."""
    config = small_config(task, method)
    whole = [train_assignment(config, 0)]
    reference = collect_in_parts(config, whole)
    usual = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        got = collect_in_parts(config, whole)
    finally:
        torch.set_num_threads(usual)
    assert [fields_that_differ(a, b) for a, b in zip(got, reference, strict=True)] == [[], []]


@pytest.mark.parametrize("memory_reset", MEMORY_RESETS)
@every_method
def test_what_the_policy_saw_step_by_step_is_what_the_losses_recompute(
    method: str, memory_reset: str
) -> None:
    """Else the likelihood ratio is not 1 where nothing has changed, and the gradient is wrong.

    With the last action and reward among the inputs, and in ants that fall within a lane.
    """
    config = small_config(
        "ant-vel",
        method,
        **{
            "policy.rl2_inputs": True,
            "policy.memory_reset": memory_reset,
            "policy.window": 7,
            "env.horizon": 60,
        },
    )
    actor = initial_actor(config)
    trajectory = collect(config)
    assert trajectory.first[..., 1:].any()
    inputs = actor.lane_input(
        trajectory.observation, trajectory.action, trajectory.reward, trajectory.first
    ).flatten(0, 1)
    assert inputs.shape[-1] == trajectory.observation.shape[-1] + trajectory.action.shape[-1] + 2
    hidden = actor.init_hidden(len(inputs))
    with torch.no_grad():
        mean, log_std, _ = actor(inputs, hidden, trajectory.first.flatten(0, 1))
    log_prob = log_density(trajectory.action.flatten(0, 1), mean, log_std)
    torch.testing.assert_close(log_prob, trajectory.log_prob.flatten(0, 1), rtol=0, atol=2e-4)


@pytest.mark.parametrize("task", TASKS)
@every_method
def test_a_worker_remembers_nothing_between_collections(method: str, task: str) -> None:
    """Environments are reused; neither their state nor their tasks may carry over."""
    config = small_config(task, method)
    actor = initial_actor(config)
    worker = RolloutWorker(config.env, 1)
    params = stack_params(detached(actor), 5)
    first, other = train_assignment(config, 0), train_assignment(config, 1)
    before = collect_once(worker, actor, params, first, config.meta, 3)
    between = collect_once(worker, actor, params, other, config.meta, 3)
    again = collect_once(worker, actor, params, first, config.meta, 3)
    assert fields_that_differ(before, again) == []
    assert "reward" in fields_that_differ(before, between)
    assert "action" in fields_that_differ(
        before, collect_once(worker, actor, params, first, config.meta, 3, phase=1)
    )


@pytest.mark.parametrize("task", TASKS)
@every_method
def test_log_prob_is_the_density_that_a_scan_gives(method: str, task: str) -> None:
    """Steps act and scans learn: at the sampling policy every likelihood ratio must be one."""
    config = small_config(task, method)
    trajectory = collect(config)
    actor = initial_actor(config)
    with torch.no_grad():
        mean, log_std, _ = actor(
            trajectory.observation.flatten(0, 1),
            actor.init_hidden(15),
            trajectory.first.flatten(0, 1),
        )
    density = log_density(trajectory.action.flatten(0, 1), mean, log_std).unflatten(0, (5, 3))
    torch.testing.assert_close(trajectory.log_prob, density, rtol=1e-4, atol=1e-4)


@every_method
def test_every_task_acts_with_its_own_parameters(method: str) -> None:
    config = small_config("point", method)
    actor = initial_actor(config)
    worker = RolloutWorker(config.env, 1)
    params = {name: value.clone() for name, value in stack_params(detached(actor), 5).items()}
    same = collect_once(worker, actor, params, train_assignment(config, 0), config.meta, 3)
    params["log_std"][3] = -20.0
    changed = collect_once(worker, actor, params, train_assignment(config, 0), config.meta, 3)
    assert torch.equal(same.action[:3], changed.action[:3])
    assert torch.equal(same.action[4], changed.action[4])
    assert (changed.action[3, 0] - changed.action[3, 1]).abs().max() < 1e-6, "hardly any noise"
    assert (same.action[3, 0] - same.action[3, 1]).abs().max() > 0.1


@pytest.mark.parametrize("task", FAMILIES)
def test_shapes_and_types(task: str) -> None:
    config = small_config(task, "ssm", **{"env.horizon": 7})
    trajectory, shape = collect(config), env_shape(config.env)
    assert trajectory.observation.shape == (5, 3, 7, shape.observation_dim)
    assert trajectory.action.shape == (5, 3, 7, shape.action_dim)
    assert trajectory.last_observation.shape == (5, 3, shape.observation_dim)
    for name in ("reward", "log_prob", "first", "terminated", "truncated"):
        value: Tensor = getattr(trajectory, name)
        assert value.shape == (5, 3, 7), name
        is_flag = name in ("first", "terminated", "truncated")
        assert value.dtype == (torch.bool if is_flag else torch.float32), name
    assert all(not value.requires_grad for value in trajectory)


def test_the_recorded_numbers_belong_to_the_same_step() -> None:
    """On point everything follows from the actions: an index shifted by one would show."""
    config = small_config("point", "mlp")
    trajectory = collect(config)
    action = trajectory.action.double()
    moves = MAX_STEP * action / action.norm(dim=-1, keepdim=True).clamp(min=1.0)
    after = moves.cumsum(2)
    before = after - moves
    torch.testing.assert_close(trajectory.observation, before.float(), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        trajectory.last_observation, after[:, :, -1].float(), rtol=0, atol=1e-5
    )
    tasks = train_assignment(config, 0).tasks
    goals = torch.tensor([task.parameters for task in tasks]).double()
    reward = -(after - goals[:, None, None]).norm(dim=-1)
    torch.testing.assert_close(trajectory.reward, reward.float(), rtol=0, atol=1e-5)


def test_ends_and_starts_of_episodes_are_consistent(ants: Trajectory) -> None:
    """Law 5: terminated is not truncated, and ``first`` marks exactly what follows an end."""
    assert ants.terminated.sum() >= 5
    assert ants.first[..., 0].all()
    assert torch.equal(ants.first[..., 1:], ants.terminated[..., :-1])
    assert not ants.truncated[..., :-1].any()
    assert torch.equal(ants.truncated[..., -1], ~ants.terminated[..., -1])


def test_an_ant_that_fell_starts_again_near_rest(ants: Trajectory) -> None:
    """The first column seen is the height: rest is at 0.75 m, with noise of at most 0.1 m."""
    height = ants.observation[..., 0]
    starts = height[ants.first]
    assert len(starts) > ants.first.shape[0] * ants.first.shape[1]
    assert ((starts - 0.75).abs() <= 0.1 + 1e-6).all()
    later = height[~ants.first]
    assert ((later >= 0.2) & (later <= 1.0)).all(), "an unhealthy ant is not acted on"


def test_restarts_draw_new_states(ants: Trajectory) -> None:
    starts = ants.observation[ants.first]
    assert len(torch.unique(starts, dim=0)) == len(starts)
