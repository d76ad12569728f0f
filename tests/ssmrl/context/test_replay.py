"""The replay gives back what was put in, makes room for the new, and pays as the family does."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from ssmrl.config import TrainConfig
from ssmrl.context import actor_critic_training as training_module
from ssmrl.context import learner as learner_module
from ssmrl.context.learner import ContextLearner
from ssmrl.context.networks import hidden_code
from ssmrl.context.replay import Replay, paid_by, replay_bytes
from ssmrl.envs.families import get_family
from ssmrl.envs.rewards import Motion
from ssmrl.rollout.assignment import train_assignment
from ssmrl.rollout.play import LocalCollector, Mode, Play
from ssmrl.types import Trajectory
from tests.ssmrl.context.small_context import random_trajectories, small_context

LANES, HORIZON = 4, 10


def filled(config: TrainConfig, num_iterations: int) -> tuple[Replay, list[list[Trajectory]]]:
    """A replay of the point after some iterations, and all that was put in."""
    replay, played = Replay(config), []
    for number in range(num_iterations):
        episodes = config.meta.episodes_per_task
        played.append(random_trajectories(episodes, LANES, HORIZON, 2, 2, number))
        replay.add(played[-1], codes(number))
    return replay, played


def codes(number: int) -> Tensor:
    """Of the tasks of an iteration: each another one."""
    return torch.arange(2.0 * LANES).view(LANES, 2) + 100.0 * number


def plain_transitions(trajectories: list[Trajectory], code: Tensor) -> list[dict[str, Tensor]]:
    """All transitions of an iteration one by one, task by task and episode by episode."""
    found = []
    for lane, trajectory in itertools.product(range(LANES), trajectories):
        for t in range(HORIZON):
            is_last = t + 1 == HORIZON
            following = trajectory.last_observation[lane, 0]
            if not is_last:
                following = trajectory.observation[lane, 0, t + 1]
            found.append(
                {
                    "observation": trajectory.observation[lane, 0, t],
                    "action": trajectory.action[lane, 0, t],
                    "reward": trajectory.reward[lane, 0, t],
                    "next_observation": following,
                    "continues": torch.tensor(0.0 if trajectory.terminated[lane, 0, t] else 1.0),
                    "code": code[lane],
                    "motion": trajectory.motion[lane, 0, t],
                }
            )
    return found


@pytest.mark.parametrize("num_episodes", [1, 2])
def test_transitions_are_those_of_the_plain_loop(num_episodes: int) -> None:
    """Two iterations and no ring: every place, in the order in which they were played."""
    config = small_context(
        **{"meta.episodes_per_task": num_episodes, "meta.replay_env_steps": 3 * 40 * num_episodes}
    )
    replay, played = filled(config, 2)
    plain = [
        transition
        for number, trajectories in enumerate(played)
        for transition in plain_transitions(trajectories, codes(number))
    ]
    assert replay.num_env_steps == len(plain) == 2 * 40 * num_episodes
    taken = replay.take(torch.arange(len(plain)))
    assert 0 < int(taken.continues.sum()) < len(plain), "both kinds of ends are there"
    for name, value in taken._asdict().items():
        assert torch.equal(value, torch.stack([each[name] for each in plain])), name


def test_the_oldest_iteration_makes_room_for_the_newest() -> None:
    """Three fit in: of five the last three are there, each in the place that came free."""
    config = small_context()
    replay, played = filled(config, 5)
    assert replay.kept == range(2, 5) == Replay.kept_after(config, 5)
    assert replay.num_env_steps == 120
    taken = replay.take(torch.arange(120))
    wanted = [
        transition["reward"]
        for number in (3, 4, 2)  # the ring
        for transition in plain_transitions(played[number], codes(number))
    ]
    assert torch.equal(taken.reward, torch.stack(wanted))
    assert replay.observations().shape == (12 * 11, 2)


@pytest.mark.parametrize("num_iterations", [0, 1, 2])
def test_before_it_is_full_it_holds_what_there_is(num_iterations: int) -> None:
    config = small_context()
    replay, _ = filled(config, num_iterations)
    assert replay.kept == range(num_iterations) == Replay.kept_after(config, num_iterations)
    assert replay.num_env_steps == 40 * num_iterations


def test_lanes_are_whole_meta_episodes() -> None:
    """Two episodes with a task follow each other in time, without the observation after an end."""
    config = small_context(**{"meta.episodes_per_task": 2, "meta.replay_env_steps": 160})
    replay, played = filled(config, 3)
    lanes = replay.lanes(2, 2)
    for name in ("observation", "action", "reward", "first"):
        by_hand = torch.cat([getattr(trajectory, name)[:, 0] for trajectory in played[2]], dim=1)
        assert torch.equal(lanes[name], by_hand), name
    assert torch.equal(lanes["code"], codes(2))


def test_segments_bring_back_every_bit() -> None:
    config = small_context()
    replay, _ = filled(config, 5)
    restored = Replay(config)
    for number in Replay.kept_after(config, 5):
        restored.restore(number, replay.segment(number))
    assert restored.kept == replay.kept
    places = torch.arange(replay.num_env_steps)
    for value, wanted in zip(restored.take(places), replay.take(places), strict=True):
        assert torch.equal(value, wanted)
    again = random_trajectories(1, LANES, HORIZON, 2, 2, 99)
    for each in (replay, restored):
        each.add(again, codes(5))
    assert torch.equal(restored.take(places).reward, replay.take(places).reward)


@pytest.mark.parametrize("task", ["point", "halfcheetah-vel"])
def test_its_size_is_stated_before_it_is_there(task: str) -> None:
    config = small_context(task, **{"meta.episodes_per_task": 2, "meta.replay_env_steps": 250})
    replay = Replay(config)
    tensors = vars(replay)["_tensors"].values()
    assert replay_bytes(config) == sum(value.nbytes for value in tensors)


def test_a_replay_that_is_too_small_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"must hold one iteration, 4 lanes x 2 episodes x 10 = 80 env"
    ):
        Replay(small_context(**{"meta.episodes_per_task": 2, "meta.replay_env_steps": 79}))
    with pytest.raises(ValueError, match=r"of `meta.batch_size` 100, but only 80 env steps fit in"):
        replay_bytes(small_context(**{"meta.batch_size": 100, "meta.replay_env_steps": 119}))


# ------------------------------------------------------------------------------- relabelling

TASKS = ("point", "halfcheetah-vel", "halfcheetah-dir", "ant-vel")


def collected(task: str) -> tuple[TrainConfig, Play, Trajectory]:
    """An episode of random actions; ants act at full strength."""
    config = small_context(task, **{"env.action_scale": 1.0})
    play = Play(train_assignment(config, 0, 4), 1, 1, Mode.RANDOM)
    params = ContextLearner(config).params()
    return config, play, LocalCollector(config, 1)(params, play)[0]


def parameters_of(play: Play) -> np.ndarray:
    """Of the tasks, ``(N, P)``."""
    return np.array([task.parameters for task in play.assignment.tasks])


@pytest.mark.parametrize("task", TASKS)
def test_own_tasks_pay_what_was_paid(task: str) -> None:
    """In float64 bit for bit what the environment paid, in the update's tensors to 1e-6."""
    config, play, trajectory = collected(task)
    formula = get_family(task).reward
    assert formula is not None
    own = parameters_of(play)[:, None, None, :]
    exact = formula.total(own, Motion.of_columns(trajectory.motion.numpy()))
    assert np.array_equal(exact.astype(np.float32), trajectory.reward.numpy())
    spread = np.broadcast_to(own, (*trajectory.reward.shape, own.shape[-1])).copy()
    fast = paid_by(
        trajectory.motion.flatten(0, 2), torch.from_numpy(spread).flatten(0, 2).float(), config
    )
    torch.testing.assert_close(
        fast, torch.from_numpy(exact).flatten().float(), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("task", TASKS)
def test_other_tasks_pay_what_they_would_have_paid(task: str) -> None:
    """The same actions in environments with other tasks: only the rewards differ."""
    config, play, trajectory = collected(task)
    others = np.roll(parameters_of(play), 1, axis=0)
    family = get_family(task)
    env = family.make_env(4, config.env.horizon, config.env.action_scale, 1)
    env.set_tasks([tuple(row) for row in others.tolist()])
    generators = [np.random.default_rng(lane) for lane in range(4)]
    env.reset(np.ones(4, dtype=np.bool_), generators)
    twin = family.make_env(4, config.env.horizon, config.env.action_scale, 1)
    twin.set_tasks([tuple(row) for row in parameters_of(play).tolist()])
    twin.reset(np.ones(4, dtype=np.bool_), [np.random.default_rng(lane) for lane in range(4)])
    for t in range(config.env.horizon):
        action = trajectory.action[:, 0, t].double().numpy()
        wanted, own = env.step(action), twin.step(action)
        columns = own.motion.columns()
        assert family.reward is not None
        exact = family.reward.total(others, Motion.of_columns(columns))
        assert np.array_equal(exact, wanted.reward)
        motion, parameters = torch.from_numpy(columns), torch.from_numpy(others).float()
        first = torch.from_numpy(wanted.reward).float()
        other = paid_by(motion, parameters, config)
        torch.testing.assert_close(other, first, rtol=1e-6, atol=1e-6)
        if wanted.terminated.any():
            break


def test_updates_draw_other_tasks_only_where_training_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held-out stripes never enter: neither what is played nor what is paid anew."""
    config = small_context("halfcheetah-vel", **{"meta.updates_per_env_step": 1.0})
    learner = ContextLearner(config)
    seen: list[Tensor] = []
    told: list[Tensor] = []

    def spied(motion: Tensor, parameters: Tensor, of: TrainConfig) -> Tensor:
        seen.append(parameters.flatten(0, -2))
        return paid_by(motion, parameters, of)

    update = learner.actor_critic.sac.update

    def spied_update(batch: object, *args: object, **knobs: object) -> object:
        told.append(batch.code)  # type: ignore[attr-defined]
        return update(batch, *args, **knobs)  # type: ignore[arg-type]

    for module in (learner_module, training_module):
        monkeypatch.setattr(module, "paid_by", spied)
    monkeypatch.setattr(learner.actor_critic.sac, "update", spied_update)
    learner.iterate(LocalCollector(config, 1))
    of_updates = torch.cat(seen[1:])
    assert len(of_updates) == 40 * 16
    assert len(seen[0]) == config.meta.num_lanes, "every lane for the inference model"
    drawn = torch.cat([seen[0].float(), of_updates])
    place = (drawn.double() / 3.0 * 10.0) % 1.0
    assert ((place < 0.45 + 1e-5) | (place > 0.55 - 1e-5)).all()
    assert ((place > 0.4) & (place < 0.6)).any(), "but close to them"
    code = torch.cat([each[:16] for each in told])
    assert torch.allclose(code, hidden_code(config).encode(of_updates), atol=1e-6)


def test_where_the_dynamics_differ_nothing_is_paid_anew() -> None:
    config = small_context("halfcheetah-damping")
    assert get_family("halfcheetah-damping").reward is None
    learner = ContextLearner(config)
    metrics = learner.iterate(LocalCollector(config, 1))
    assert np.isfinite(list(metrics.statistics.values())).all()
    taken = learner.replay.take(torch.arange(32))
    places, none = torch.arange(32).unsqueeze(0), torch.empty(1, 0, taken.code.shape[1])
    batch = learner.actor_critic.batches(places, none, none)
    assert torch.equal(batch.reward[0], taken.reward)
    assert torch.equal(batch.code[0], taken.code)
