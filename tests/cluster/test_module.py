"""A sequence policy as RLlib's own code sees it."""

import pytest
import torch
from ray.rllib.core.columns import Columns

from cluster.algorithm import MAMLConfig
from cluster.module import ActorModule
from ssmrl.config import TrainConfig


def module(method: str) -> ActorModule:
    config = TrainConfig.for_task("point", "promp").with_knobs({"policy.method": method})
    built = MAMLConfig().training(train_config=config).get_rl_module_spec().build()
    assert isinstance(built, ActorModule)
    return built


def test_equal_configurations_start_from_equal_weights() -> None:
    one, other = module("ssm"), module("ssm")
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_memory_is_carried_through_rllibs_columns() -> None:
    """Stepping with STATE_OUT fed back as STATE_IN equals one forward over the sequence."""
    ssm = module("ssm")
    observation = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0))
    state = {"hidden": ssm.get_initial_state()["hidden"].expand(3, -1)}
    whole = ssm.forward_inference({Columns.OBS: observation, Columns.STATE_IN: state})
    for t in range(4):
        part = ssm.forward_inference(
            {Columns.OBS: observation[:, t : t + 1], Columns.STATE_IN: state}
        )
        state = part[Columns.STATE_OUT]
        torch.testing.assert_close(
            part[Columns.ACTION_DIST_INPUTS][:, 0], whole[Columns.ACTION_DIST_INPUTS][:, t]
        )
    torch.testing.assert_close(state["hidden"], whole[Columns.STATE_OUT]["hidden"])


def test_a_policy_without_memory_declares_none() -> None:
    mlp = module("mlp")
    assert mlp.get_initial_state() == {}
    output = mlp.forward_inference({Columns.OBS: torch.zeros(5, 2)})
    assert Columns.STATE_OUT not in output
    mean, log_std = output[Columns.ACTION_DIST_INPUTS].split(2, dim=-1)
    assert mean.shape == (5, 2)
    assert log_std.flatten().tolist() == pytest.approx([0.0] * 10)
