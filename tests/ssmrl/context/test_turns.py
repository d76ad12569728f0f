"""Groups of lanes that take turns: the order of play and updates, against its plain twin."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ssmrl.config import TrainConfig
from ssmrl.context.learner import ContextLearner
from ssmrl.context.replay import Replay, replay_bytes
from ssmrl.context.stacked_learner import StackedLearner
from ssmrl.context.turns import take_turns
from ssmrl.envs.families import get_family
from ssmrl.learner import Metrics
from ssmrl.rollout.assignment import train_assignment
from ssmrl.rollout.play import Collect, LocalCollector, Mode, Play
from ssmrl.seeding import Purpose, stream
from ssmrl.types import Params, Trajectory
from tests.ssmrl.context.small_context import small_context

META = torch.device("meta")
ITERATIONS = 3
KNOBS: dict[str, Any] = {
    "meta.updates_per_env_step": 0.5,
    "meta.inference_updates_per_meta_episode": 1.0,
}


def in_groups(num_groups: int, **knobs: Any) -> TrainConfig:
    return small_context(**{**KNOBS, "meta.lane_groups": num_groups, **knobs})


def trained(
    config: TrainConfig, collect: Collect | None = None, **options: Any
) -> tuple[ContextLearner, list[Metrics]]:
    learner = ContextLearner(config, **options)
    collect = collect or LocalCollector(config, 1)
    return learner, [learner.iterate(collect) for _ in range(ITERATIONS)]


def assert_same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        assert torch.equal(value, wanted[name]), name


# ------------------------------------------------------------------------------------- the order


def events(num_groups: int, iteration: int) -> list[str]:
    """What an iteration does, in which order; ``begun`` and ``read`` are its updates."""
    seen: list[str] = []

    def told(event: str, turn: int) -> int:
        seen.append(f"{event} {turn}")
        return turn

    def learn(turn: int) -> Callable[[], int]:
        return partial(told, "read", told("begun", turn))

    turns = take_turns(
        in_groups(num_groups).meta,
        iteration,
        acting=lambda: seen.append("weights"),
        play=lambda turn, weights: told("played", turn),
        keep=lambda turn: seen.append(f"kept {turn}"),
        learn=learn,
    )
    assert turns.played == list(range(max(1, num_groups)))
    read = [event for event in seen if event.startswith("read")]
    assert turns.statistics == (int(read[-1].split()[1]) if read else None)
    return seen


def test_by_default_all_is_learnt_from_before_more_is_played() -> None:
    for iteration in (0, 5):
        assert events(0, iteration) == ["weights", "played 0", "kept 0", "begun 0", "read 0"]


def test_updates_are_begun_before_a_turn_is_played_and_read_after_it() -> None:
    turns = [["weights", f"begun {n}", f"played {n}", f"read {n}", f"kept {n}"] for n in (0, 1)]
    assert events(2, 5) == turns[0] + turns[1]
    assert events(1, 5) == turns[0]


def test_in_the_very_first_turn_there_is_nothing_to_learn_from() -> None:
    first = ["weights", "played 0", "kept 0"]
    assert events(1, 0) == first
    assert events(2, 0) == [*first, "weights", "begun 1", "played 1", "read 1", "kept 1"]


# ------------------------------------------------------------------------------------ the numbers


def plain_twin(config: TrainConfig) -> ContextLearner:
    """The same order, one thing after another; updates one at a time."""
    learner, collect = ContextLearner(config), LocalCollector(config, 1)
    meta, horizon = config.meta, config.env.horizon
    lanes = meta.num_lanes // meta.lane_groups
    family, code = get_family(config.env.task), learner._code
    for turn in range(ITERATIONS * meta.lane_groups):
        iteration, group = divmod(turn, meta.lane_groups)
        params = {name: value.clone() for name, value in learner.params().items()}
        if turn:
            words = stream(config.seed, Purpose.UPDATES, iteration, group).generate_state(4)
            generator = torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)
            rng = np.random.default_rng(words)
            inputs, codes = learner.newest_lanes(rng)
            for _ in range(round(meta.inference_updates_per_meta_episode * lanes)):
                size = min(meta.inference_batch, len(inputs))
                chosen = torch.randint(len(inputs), (size,), generator=generator)
                learner._inference.plain_update(inputs[chosen], codes[chosen])
            num, size = round(meta.updates_per_env_step * lanes * horizon), meta.batch_size
            kept = min(turn * lanes * horizon, meta.replay_env_steps)
            places = torch.randint(kept, (num, size), generator=generator)
            others = torch.from_numpy(family.train.sample_array(rng, num * (size // 2)))
            others = others.unflatten(0, (num, size // 2))
            noise = torch.randn(num, 2, size, 2, generator=generator)
            for n in range(num):
                drawn = (places, others.float(), code.encode(others).float(), noise)
                learner.actor_critic.updates(*(value[n : n + 1] for value in drawn), start=n)
        of_all = train_assignment(config, iteration, meta.num_lanes)
        (assignment,) = of_all.split(meta.lane_groups)[group : group + 1]
        is_random = turn * lanes * horizon < meta.random_env_steps
        mode = Mode.RANDOM if is_random else Mode.EXPLORE
        trajectories = collect(params, Play(assignment, 1, 1, mode))
        parameters = np.array([task.parameters for task in assignment.tasks])
        learner.replay.add(trajectories, torch.from_numpy(code.encode(parameters)).float())
        if is_random:
            learner.networks.set_statistics(learner.replay.observations())
            learner._lanes.clear()
    return learner


@pytest.mark.parametrize("num_groups", [1, 2, 4])
def test_turns_give_what_the_plain_order_gives(num_groups: int) -> None:
    """Two iterations have random turns, and the replay overflows."""
    config = in_groups(num_groups, **{"meta.random_env_steps": 50, "meta.replay_env_steps": 80})
    learner, made = trained(config)
    twin = plain_twin(config)
    assert_same(learner.tensors(), twin.tensors())
    assert learner.replay.kept == twin.replay.kept == range(num_groups, 3 * num_groups)
    assert_same(learner.replay._tensors, twin.replay._tensors)
    assert [each.env_steps for each in made] == [40, 80, 120]


def test_one_seed_gives_one_result_of_its_own_for_each_number_of_groups() -> None:
    found = [trained(in_groups(num_groups))[0].tensors() for num_groups in (0, 1, 2, 2)]
    assert_same(found[2], found[3])
    flats = [tensors["networks.critic.flat"] for tensors in found[:3]]
    assert not torch.equal(flats[0], flats[1])
    assert not torch.equal(flats[1], flats[2])


@pytest.mark.parametrize("knobs", [{}, {"meta.num_inner_steps": 1, "meta.outer_lr": 1e-3}])
def test_the_returns_of_an_iteration_are_those_of_all_its_groups(knobs: dict[str, Any]) -> None:
    config = in_groups(2, **{"meta.episodes_per_task": 2, "meta.replay_env_steps": 400} | knobs)
    collect, returns = LocalCollector(config, 1), list[list[float]]()

    def kept(params: Params, play: Play) -> list[Trajectory]:
        found = collect(params, play)
        returns.append([float(each.reward.sum(-1).mean()) for each in found])
        return found

    _, made = trained(config, kept)
    assert len(returns) == 2 * ITERATIONS
    for metrics, first, second in zip(made, returns[::2], returns[1::2], strict=True):
        wanted = [(first[episode] + second[episode]) / 2.0 for episode in (0, 1)]
        assert [metrics.return_before, metrics.return_after] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("num_parts", [1, 2, 3])
def test_lanes_of_a_turn_may_be_played_in_parts(num_parts: int) -> None:
    """As by so many runners."""
    config = in_groups(2, **{"meta.num_lanes": 6})
    collect = LocalCollector(config, 1)

    def by_parts(params: Params, play: Play) -> list[Trajectory]:
        bounds = np.linspace(0, len(play.assignment.tasks), num_parts + 1).astype(int)
        parts = [
            collect.of_some_tasks(params, play, slice(low, high)) for low, high in pairwise(bounds)
        ]
        return [
            Trajectory(*map(torch.cat, zip(*each, strict=True)))
            for each in zip(*parts, strict=True)
        ]

    assert_same(trained(config, by_parts)[0].tensors(), trained(config)[0].tensors())


# --------------------------------------------------------------------------------- several seeds


@pytest.fixture
def float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All networks are of float64 but for an SSM's frequencies, which are written as float32."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("num_groups", [0, 1, 2])
def test_stacked_seeds_become_what_they_become_alone(num_groups: int) -> None:
    configs = [in_groups(num_groups, seed=seed, **{"policy.method": "gru"}) for seed in range(2)]
    stacked, collect = StackedLearner(configs), LocalCollector(configs[0], 1)
    for _ in range(ITERATIONS):
        made, diverged = stacked.iterate(range(2), collect)
        assert not diverged
    for place, config in enumerate(configs):
        alone, of_alone = trained(config)
        wanted = alone.tensors()
        assert wanted["networks.critic.flat"].dtype == torch.float64
        for name, value in stacked.own[place].tensors().items():
            torch.testing.assert_close(value, wanted[name], rtol=1e-10, atol=1e-10, msg=name)
        assert made[place].statistics == pytest.approx(of_alone[-1].statistics, rel=1e-8)
        assert made[place].return_after == pytest.approx(of_alone[-1].return_after, rel=1e-8)


# -------------------------------------------------------------------------------------- on a device


@pytest.mark.parametrize("num_seeds", [1, 2])
def test_updates_are_begun_without_waiting_for_a_device(num_seeds: int) -> None:
    """A device that has no values can be told all of it; only reading the statistics fails."""
    configs = [in_groups(2, seed=seed) for seed in range(num_seeds)]
    if num_seeds == 1:
        own = [ContextLearner(configs[0], device=META)]
        begin: Callable[[], Any] = partial(own[0]._learn, 1)
    else:
        stacked = StackedLearner(configs, META)
        own, begin = stacked.own, partial(stacked._learn, (0, 1), 1)
    here = ContextLearner(configs[0])
    played = here.play(LocalCollector(configs[0], 1), 0, here.params())
    for each in own:
        each.keep(played)
    read = begin()
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        read()


# --------------------------------------------------------------------------------- what is refused


def test_groups_are_equal() -> None:
    config = in_groups(3)
    wanted = r"`meta\.lane_groups` must divide `meta\.num_lanes`, but got 3 and 4"
    for make in (ContextLearner, Replay, replay_bytes):
        with pytest.raises(ValueError, match=wanted):
            make(config)


def test_the_replay_holds_all_groups_of_an_iteration() -> None:
    with pytest.raises(ValueError, match=r"4 lanes x 1 episodes x 10 = 40 env steps, but is 39"):
        Replay(in_groups(2, **{"meta.replay_env_steps": 39}))


def test_fewer_groups_than_none_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`meta\.lane_groups` must be at least 0, but got -1"):
        in_groups(-1)
