"""A memory that adapts its weights while it acts: its twin, its lanes, and what is taken back."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ssmrl.adaptation.adapter import AdaptationConfig, Adapter
from ssmrl.config import TrainConfig
from ssmrl.context.adapting_memory import AdaptingMemory, LaneMemory
from ssmrl.context.by_memory import MemoryPlayer
from ssmrl.context.inference import TaskInference
from ssmrl.context.learner import ContextLearner
from ssmrl.context.networks import ContextNetworks
from ssmrl.context.prediction import (
    TRUST_REGION,
    adaptation_steps,
    prediction_loss,
    prediction_targets,
)
from ssmrl.rollout.assignment import train_assignment
from ssmrl.rollout.play import LocalCollector, Mode, Play
from ssmrl.types import Trajectory

M, HORIZON = 5, 8
ADAPTED = (Mode.EXPLORE, Mode.USED, Mode.OTHER_REWARDS)


def small_config(**knobs: object) -> TrainConfig:
    small = {
        "env.horizon": HORIZON,
        "policy.state_dim": 4,
        "policy.hidden_dim": 8,
        "meta.num_inner_steps": 1,
        "meta.inner_lr": 0.05,
        "meta.num_lanes": 4,
        "meta.batch_size": 8,
        "meta.critic_hidden_dim": 8,
        "meta.actor_hidden_dim": 8,
        "meta.random_env_steps": 0,
        "meta.inference_updates_per_meta_episode": 0.8,
    }
    named = {name.replace("__", "."): value for name, value in knobs.items()}
    return TrainConfig.for_task("point", "context-sac").with_knobs(small | named)


def make_inference(config: TrainConfig) -> TaskInference:
    return ContextNetworks(config, 2, 2).inference


def make_inputs(num_steps: int = HORIZON) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(M, num_steps, 6, generator=generator)
    inputs[..., -1] = 0.0
    return inputs


def play_through(memory: AdaptingMemory, inputs: Tensor) -> tuple[Tensor, LaneMemory]:
    """Mean and log variance of every step, and what is remembered after the last one."""
    state, estimates = memory.init_hidden(len(inputs)), []
    for t in range(inputs.shape[1]):
        estimate, state = memory.step(inputs[:, t], state)
        estimates.append(torch.cat(estimate, dim=-1))
    return torch.stack(estimates, dim=1), state


@pytest.mark.parametrize("method", ["ssm", "mlp", "transformer"])
def test_each_lane_is_an_adapter_and_a_scan_of_its_own(method: str) -> None:
    """The plain twin: one lane after the other, from the weights that were trained each time."""
    config = small_config(policy__method=method, meta__num_inner_steps=2)
    inference, inputs = make_inference(config), make_inputs()
    got, _ = play_through(AdaptingMemory(inference, config), inputs)
    moments = (*adaptation_steps(config), HORIZON)
    with torch.no_grad():
        unadapted = torch.cat(inference.scan(inputs), dim=-1)
    torch.testing.assert_close(got[:, : moments[0]], unadapted[:, : moments[0]])
    for lane in range(M):
        seen = inputs[lane : lane + 1]
        for moment, following in pairwise(moments):
            adapter = Adapter(inference.model, config=_of(config))
            targets = prediction_targets(seen[:, : moment + 1], 2)
            _, taken = adapter.update_step(seen[:, :moment], targets, loss_fn=prediction_loss)
            assert taken == 2
            output, _ = adapter.predict(seen)
            wanted = torch.cat(inference.estimate(output[0]), dim=-1)[moment:following]
            torch.testing.assert_close(got[lane, moment:following], wanted, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(got[:, -1], unadapted[:, -1], atol=1e-4)


def _of(config: TrainConfig) -> AdaptationConfig:
    return AdaptationConfig(
        config.meta.inner_lr, config.meta.num_inner_steps, trust_region=TRUST_REGION
    )


def test_lanes_do_not_know_each_other() -> None:
    config = small_config()
    memory, inputs = AdaptingMemory(make_inference(config), config), make_inputs()
    whole, _ = play_through(memory, inputs)
    parts = [play_through(memory, part)[0] for part in (inputs[:2], inputs[2:])]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-5, atol=1e-6)
    changed = inputs.clone()
    changed[1] += 1.0
    others = [0, 2, 3, 4]
    again, _ = play_through(memory, changed)
    assert torch.equal(again[others], whole[others])
    assert not torch.equal(again[1], whole[1])


def test_steps_that_make_predictions_worse_are_taken_back() -> None:
    """A step far too large changes nothing at all, in the lanes where the error rose."""
    config = small_config(meta__inner_lr=100.0, meta__num_inner_steps=3)
    inference, inputs = make_inference(config), make_inputs()
    inputs[0] = 0.0  # little to predict: any large step is for the worse
    got, state = play_through(AdaptingMemory(inference, config), inputs)
    with torch.no_grad():
        unadapted = torch.cat(inference.scan(inputs), dim=-1)
    torch.testing.assert_close(got[0], unadapted[0])
    assert state.params is not None
    for name, trained in inference.model.named_parameters():
        assert torch.equal(state.params[name][0], trained)


def test_weights_stay_near_those_that_were_trained() -> None:
    """Steps that would lead 1.2 to 3 away lower the error, but end on the surface."""
    config = small_config(meta__inner_lr=0.1, meta__num_inner_steps=3)
    inference = make_inference(config)
    _, state = play_through(AdaptingMemory(inference, config), 3.0 * make_inputs())
    assert state.params is not None
    far = torch.stack(
        [
            (state.params[name] - trained.detach()).flatten(1).square().sum(1)
            for name, trained in inference.model.named_parameters()
        ]
    )
    torch.testing.assert_close(far.sum(0).sqrt(), torch.full((M,), TRUST_REGION))


def test_what_was_seen_is_kept_only_while_it_is_adapted_to() -> None:
    """A task that goes on for ever must not fill the memory of the machine."""
    config = small_config()
    memory, inputs = AdaptingMemory(make_inference(config), config), make_inputs(20)
    last = adaptation_steps(config)[-1]
    _, state = play_through(memory, inputs[:, : last + 1])
    assert len(state.inputs) == last + 1
    _, after = play_through(memory, inputs)
    assert after.inputs == ()
    assert after.num_seen == 20
    assert state.params is not None
    assert after.params is not None
    assert all(torch.equal(after.params[name], state.params[name]) for name in after.params)


def played(config: TrainConfig, mode: Mode, *, num_parts: int = 1) -> list[Trajectory]:
    """A meta-episode of the initial policy, its tasks divided or not."""
    params = ContextLearner(config).params()
    collect = LocalCollector(config, 1)
    parts = [
        collect(params, Play(assignment, 1, 2, mode))
        for assignment in train_assignment(config, 0, 4).split(num_parts)
    ]
    return [
        Trajectory(*(torch.cat(values) for values in zip(*episodes, strict=True)))
        for episodes in zip(*parts, strict=True)
    ]


@pytest.mark.parametrize("mode", [Mode.EXPLORE, Mode.USED])
def test_play_does_not_depend_on_how_the_tasks_were_divided(mode: Mode) -> None:
    config = small_config(meta__episodes_per_task=2, meta__own_estimate=1.0)
    for whole, parts in zip(played(config, mode), played(config, mode, num_parts=3), strict=True):
        torch.testing.assert_close(parts.action, whole.action, rtol=1e-4, atol=1e-5)


def test_only_modes_that_use_an_estimate_adapt_it() -> None:
    """And without gradient steps none does, so that nothing is as it was not before."""
    for num_inner_steps in (0, 1):
        config = small_config(meta__num_inner_steps=num_inner_steps, meta__own_estimate=1.0)
        assignment = train_assignment(config, 0, 4)
        params = ContextLearner(config).params()
        for mode in Mode:
            adaptation = MemoryPlayer(config).adaptation(params, Play(assignment, 1, 1, mode))
            adapts = isinstance(adaptation.begin(4, 1).hidden, LaneMemory)
            assert adapts == (num_inner_steps == 1 and mode in ADAPTED), mode


def test_gradient_steps_change_how_it_acts() -> None:
    """From the first moment at which they are made, and not before."""
    config = small_config(meta__own_estimate=1.0)
    faster = config.with_knobs({"meta.inner_lr": 0.5})
    for mode in ADAPTED:
        slow, fast = (played(each, mode)[0].action for each in (config, faster))
        moment = adaptation_steps(config)[0]
        assert torch.equal(slow[..., :moment, :], fast[..., :moment, :]), mode
        assert not torch.equal(slow[..., moment:, :], fast[..., moment:, :]), mode


def test_inner_settings_are_not_read_without_gradient_steps() -> None:
    config = small_config(meta__num_inner_steps=0)
    other = config.with_knobs({"meta.inner_lr": 0.5, "meta.first_order": True})
    runs = []
    for each in (config, other):
        learner, collect = ContextLearner(each), LocalCollector(each, 1)
        for _ in range(2):
            learner.iterate(collect)
        runs.append(learner.tensors())
    assert runs[0].keys() == runs[1].keys()
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


def test_a_resumed_training_is_an_undisturbed_one(tmp_path: Path) -> None:
    """MetaMAML's optimiser is in the checkpoint like the others."""
    config = small_config()
    collect = LocalCollector(config, 1)
    whole = ContextLearner(config)
    for _ in range(2):
        metrics = whole.iterate(collect)
    kept = whole.tensors()
    whole.save_experience(tmp_path)
    metrics = whole.iterate(collect)
    assert {"inference_loss", "inference_error", "rolled_back"} <= metrics.statistics.keys()
    assert np.isfinite(list(metrics.statistics.values())).all()
    resumed = ContextLearner(config)
    resumed.load(kept, 2, tmp_path)
    assert resumed.iterate(collect).statistics == metrics.statistics
    after = resumed.tensors()
    assert all(torch.equal(value, after[name]) for name, value in whole.tensors().items())
    assert any(name.startswith("optimizer.inference") for name in kept)
