"""How exactly updates of actor and critics multiply: the default, and what is chosen instead."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from ssmrl.config import TrainConfig
from ssmrl.context import actor_critic_training
from ssmrl.context.actor_critic_training import tf32
from ssmrl.context.learner import ContextLearner
from ssmrl.context.networks import ParallelMLP
from ssmrl.context.stacked_learner import StackedLearner
from ssmrl.rollout.play import LocalCollector
from tests.ssmrl.context.small_context import small_context


def config_of(matmul: str, **knobs: Any) -> TrainConfig:
    own: dict[str, Any] = {"meta.matmul": matmul, "meta.updates_per_env_step": 0.5, **knobs}
    return small_context(**own)


def both_ways(mlp: ParallelMLP) -> list[Tensor]:
    """Output, gradient of the weights, and that of the last two inputs."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(11, 5, generator=generator)
    upstream = torch.randn(2, 11, 3, generator=generator)
    output, way = mlp.passed(x)
    return [output, mlp.weight_gradient(way, upstream), mlp.input_gradient(way, upstream, 2)]


def test_products_are_rounded_and_nothing_else() -> None:
    """Seven bits behind the binary point are 0.4 %, which a few layers add up; types stay."""
    mlp = ParallelMLP(2, 5, 7, 3, torch.Generator().manual_seed(1))
    exact = both_ways(mlp)
    mlp.product_dtype = torch.bfloat16
    for value, wanted in zip(both_ways(mlp), exact, strict=True):
        assert value.dtype == torch.float32
        assert value.shape == wanted.shape
        off = float((value - wanted).norm() / wanted.norm())
        assert 1e-4 < off < 2e-2, off
    mlp.product_dtype = torch.float32
    for value, wanted in zip(both_ways(mlp), exact, strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-6)


def trained(config: TrainConfig) -> dict[str, Tensor]:
    learner, collect = ContextLearner(config), LocalCollector(config, 1)
    for _ in range(2):
        learner.iterate(collect)
    return learner.tensors()


def test_a_learner_multiplies_as_it_is_told_and_keeps_float32() -> None:
    exact, rounded = trained(config_of("float32")), trained(config_of("bfloat16"))
    again = trained(config_of("bfloat16"))
    for name, value in rounded.items():
        assert value.dtype == exact[name].dtype, name
        assert torch.equal(value, again[name]), name
    for name in ("networks.actor.flat", "networks.critic.flat"):
        assert not torch.equal(rounded[name], exact[name]), name
        off = float((rounded[name] - exact[name]).abs().max())
        assert off < 0.1, "Adam moves each weight at most by its step size in an update"
    name = "networks.inference.model.encoder.weight"
    assert torch.equal(rounded[name].isfinite(), exact[name].isfinite())


def test_so_do_stacked_seeds() -> None:
    configs = [config_of("bfloat16", seed=seed) for seed in range(2)]
    networks = StackedLearner(configs).stack.networks
    for part in (networks.actor, networks.critic, networks.target):
        assert part.product_dtype == torch.bfloat16


def test_who_acts_multiplies_exactly() -> None:
    """A player has networks of its own; what they compute does not depend on how they learnt."""
    acting: dict[str, Any] = {"meta.random_env_steps": 0}
    configs = [config_of(matmul, **acting) for matmul in ("float32", "bfloat16")]
    learner = ContextLearner(configs[0])
    found = [
        learner.play(LocalCollector(config, 1), 0, learner.params()).trajectories[0].action
        for config in configs
    ]
    assert torch.equal(*found)


# ------------------------------------------------------------------------------------------- tf32


def test_tf32_is_refused_where_it_has_no_effect() -> None:
    wanted = r"`meta\.matmul` is 'tf32', which cpu does not have; use 'float32' or 'bfloat16', or"
    with pytest.raises(ValueError, match=wanted):
        ContextLearner(config_of("tf32"))
    with pytest.raises(ValueError, match=wanted):
        StackedLearner([config_of("tf32", seed=seed) for seed in range(2)])
    with pytest.raises(ValueError, match=r"`meta\.matmul` must be one of .* got 'float16'"):
        config_of("float16")


def test_tf32_lasts_as_long_as_the_updates() -> None:
    before = torch.get_float32_matmul_precision()
    assert before == "highest", "torch's own default"
    found: list[str] = []

    def interrupted() -> None:
        with tf32():
            found.append(torch.get_float32_matmul_precision())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert found == ["high"]
    assert torch.get_float32_matmul_precision() == before


def test_the_updates_are_inside_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, which is told that it has it."""
    entered = []

    @contextmanager
    def told() -> Iterator[None]:
        entered.append("in")
        yield
        entered.append("out")

    monkeypatch.setattr(actor_critic_training, "_products", lambda matmul, device: told)
    config = config_of("tf32")
    learner = ContextLearner(config)
    update = learner.actor_critic.sac.update

    def seen(*given: Any, **named: Any) -> Any:
        entered.append("update")
        return update(*given, **named)

    monkeypatch.setattr(learner.actor_critic.sac, "update", seen)
    learner.iterate(LocalCollector(config, 1))
    assert entered == ["in", *["update"] * 16, "out", "in", *["update"] * 4, "out"]
