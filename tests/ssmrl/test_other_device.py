"""Policies and checkpoints on other devices, as far as a machine without one can show it.

Of a ``meta`` tensor no value can be read, and it does not mix with tensors of the CPU: whatever
computes there has all of its tensors there.
"""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssmrl.adaptation import on_device
from ssmrl.adaptation.on_device import OnDevice
from ssmrl.checkpoint import Checkpoint
from ssmrl.config import TrainConfig
from ssmrl.context.by_memory import MemoryPlayer
from ssmrl.context.graph import graphs_of
from ssmrl.context.learner import ContextLearner
from ssmrl.device import CPU, generator_on, handed_back, handed_over
from ssmrl.device_record import checked_device_of, record_device, settled_device
from ssmrl.meta.algorithms import ALGORITHMS
from ssmrl.meta.gradient_learner import GradientLearner
from ssmrl.rollout.assignment import held_out_assignment
from ssmrl.rollout.evaluate import judge
from ssmrl.rollout.play import LocalCollector, Mode, Play
from ssmrl.rollout.worker import RolloutWorker
from ssmrl.run import LocalEngine, TrainingRun
from ssmrl.saved_policy import SavedPolicy

pytestmark = pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")

META = torch.device("meta")
KNOBS = {
    "env.horizon": 10,
    "policy.hidden_dim": 8,
    "evaluation.num_tasks": 3,
    "evaluation.num_episodes": 2,
}
GRADIENT = {"meta.num_tasks": 2, "meta.num_episodes": 2}
MEMORY = {
    "meta.num_lanes": 4,
    "meta.batch_size": 16,
    "meta.random_env_steps": 40,
    "meta.replay_env_steps": 400,
    "meta.updates_per_env_step": 0.1,
    "meta.inference_updates_per_meta_episode": 1.0,
}
CONFIGS = [
    TrainConfig.for_task("point").with_knobs(KNOBS | MEMORY),
    TrainConfig.for_task("point").with_knobs(
        KNOBS | MEMORY | {"meta.num_inner_steps": 1, "policy.state_dim": 8}
    ),
    TrainConfig.for_task("point", "promp").with_knobs(KNOBS | GRADIENT),
    TrainConfig.for_task("point", "maml-trpo").with_knobs(
        KNOBS | GRADIENT | {"policy.method": "gru"}
    ),
]
IDS = [f"{config.algorithm}-{config.policy.method}" for config in CONFIGS]


def play_of(config: TrainConfig, mode: Mode = Mode.USED) -> Play:
    return Play(held_out_assignment(config), config.evaluation.num_episodes, 2, mode)


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_an_adaptation_computes_on_its_device_alone(config: TrainConfig) -> None:
    player = ALGORITHMS[config.algorithm].player_type()(config, device=META)
    params = ALGORITHMS[config.algorithm].player_type()(config).initial_params()
    modes = [Mode.USED, Mode.OFF]
    modes += [Mode.GIVEN, Mode.EXPLORE] if ALGORITHMS[config.algorithm].kind == "memory" else []
    for mode in modes:
        adaptation = player.adaptation(params, play_of(config, mode))
        state = adaptation.begin(3, 2)
        observation, noise = torch.empty(3, 2, 4, device=META), torch.empty(3, 2, 2, device=META)
        first = torch.ones(3, 2, dtype=torch.bool, device=META)
        for _ in range(7):  # past the first gradient step of a lane's memory
            decision, state = adaptation.act(observation[..., : _seen(config)], first, noise, state)
            assert decision.action.is_meta
            assert decision.action.shape == (3, 2, 2)
            state = adaptation.observe(decision.action, torch.empty(3, 2, device=META), state)


def _seen(config: TrainConfig) -> int:
    from ssmrl.rollout.worker import env_shape

    return env_shape(config.env).observation_dim


@pytest.mark.parametrize("config", CONFIGS[1:3], ids=IDS[1:3])
def test_what_is_handed_over_and_back_is_what_is_played_here(config: TrainConfig) -> None:
    params = ALGORITHMS[config.algorithm].player_type()(config).initial_params()
    here = LocalCollector(config, 1)
    wanted = judge(config, params, here, num_episodes=2)
    player = ALGORITHMS[config.algorithm].player_type()(config, device=CPU)
    there = OnDevice(player.adaptation(params, play_of(config)), CPU)
    found = here._worker.meta_episode(
        there, held_out_assignment(config), num_episodes=2, num_lanes=2
    )
    assert type(wanted).of(found).task_returns.tolist() == wanted.task_returns.tolist()


def test_an_env_step_takes_one_copy_each_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it gave goes with what is seen next; the end of an episode is told all of it."""
    config, copies = CONFIGS[0], dict[str, int]()
    for name in ("handed_over", "handed_back"):
        monkeypatch.setattr(on_device, name, partial(_counted, copies, name))
    player = MemoryPlayer(config)
    there = OnDevice(player.adaptation(player.initial_params(), play_of(config)), CPU)
    worker = RolloutWorker(config.env, 1, keeps_motion=True)
    worker.meta_episode(there, held_out_assignment(config), num_episodes=2, num_lanes=2)
    num_steps = 2 * config.env.horizon
    assert copies == {"handed_over": num_steps, "handed_back": num_steps}


def _counted(copies: dict[str, int], name: str, tensor: Tensor, *_: torch.device) -> Tensor:
    copies[name] = copies.get(name, 0) + 1
    return tensor.clone()


@pytest.mark.parametrize("config", CONFIGS[:2], ids=IDS[:2])
def test_updates_draw_where_their_generator_is(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generator of a device draws there alone, and torch does not find that out by itself."""
    places: list[tuple[Any, torch.device]] = []

    def asked(draw: Any, *given: Any, **named: Any) -> Tensor:
        places.append((named.get("device"), named["generator"].device))
        found: Tensor = draw(*given, **named)
        return found

    learner, collect = ContextLearner(config), LocalCollector(config, 1)
    for name in ("randint", "randn"):
        monkeypatch.setattr(torch, name, partial(asked, getattr(torch, name)))
    learner.iterate(collect)
    assert len(places) > 2
    assert all(device == there for device, there in places)


def test_a_generator_is_on_its_device_only_where_that_has_its_own() -> None:
    for device in (CPU, META):
        generator = generator_on(device, 5)
        assert generator.device == CPU
        wanted = torch.Generator().manual_seed(5)
        assert torch.equal(torch.randn(9, generator=generator), torch.randn(9, generator=wanted))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_it_is_there_and_draws_the_same_for_one_seed() -> None:
    there = torch.device("cuda")
    found = [torch.randn(9, generator=generator_on(there, 5), device=there) for _ in range(2)]
    assert torch.equal(*found)
    assert torch.equal(handed_back(handed_over(found[0].cpu(), there)), found[0].cpu())


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_saved_on_one_device_and_gone_on_with_on_another(
    config: TrainConfig, tmp_path: Path
) -> None:
    budget = 2 * LocalEngine(config, 1).learner.env_steps_per_iteration

    def run(folder: Path, device: str) -> TrainingRun:
        engine = LocalEngine(config, 1, device=torch.device(device))
        return TrainingRun(config, max_env_steps=budget, folder=folder, engine=engine)

    whole = run(tmp_path / "whole", "cpu")
    while not whole.advance().finished:
        pass
    wanted = Checkpoint.load(whole.path).tensors
    for number, devices in enumerate((("cpu:0", "cpu"), ("cpu", "cpu:0"))):
        first = run(tmp_path / f"part{number}", devices[0])
        first.advance()
        first.close()
        last = run(tmp_path / f"part{number}", devices[1])
        assert last.row.iterations == 1
        while not last.advance().finished:
            pass
        assert (last.row.score, last.row.curve) == (whole.row.score, whole.row.curve)
        found = Checkpoint.load(last.path).tensors
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
        assert SavedPolicy.load(last.path).config == config


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_a_checkpoint_of_the_cpu_is_loaded_where_the_learner_is(
    config: TrainConfig, tmp_path: Path
) -> None:
    here = LocalEngine(config, 1)
    here.iterate()
    here.learner.save_experience(tmp_path)
    there: Any = (
        ContextLearner(config, device=META, graphs_of=graphs_of)
        if ALGORITHMS[config.algorithm].kind == "memory"
        else GradientLearner(config, device=META)
    )
    there.load(here.tensors(), 1, tmp_path)
    optimizers = there.optimizers().values() if hasattr(there, "optimizers") else ()
    tensors: list[Tensor] = [
        value
        for optimizer in optimizers
        for state in optimizer.state.values()
        for moment, value in state.items()
        if moment != "step"
    ]
    assert all(value.is_meta for value in tensors)
    assert there.iteration == 1


class TestRecord:
    def test_a_run_goes_on_where_it_was_unless_another_device_is_named(
        self, tmp_path: Path
    ) -> None:
        assert settled_device(None, tmp_path, resume=True) == "cpu"
        record_device(tmp_path, "cuda:7")
        assert settled_device(None, tmp_path, resume=True) == "cuda:7"
        assert settled_device("cpu", tmp_path, resume=True) == "cpu"
        assert settled_device(None, tmp_path, resume=False) == "cpu"

    def test_a_device_that_is_not_here_is_named_with_the_way_out(self, tmp_path: Path) -> None:
        record_device(tmp_path, "cuda:7")
        with pytest.raises(ValueError, match=r"'cuda:7'.*resume it here with `--device cpu`"):
            checked_device_of(None, tmp_path, resume=True)
        assert checked_device_of("cpu", tmp_path, resume=True) == CPU

    def test_a_damaged_record_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "device.json").write_text("{")
        with pytest.raises(ValueError, match=r"device\.json is damaged; name the device"):
            settled_device(None, tmp_path, resume=True)
