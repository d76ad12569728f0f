"""Parts of a user's own package, from one process to its checkpoints."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import ssmrl
from ssmrl.checkpoint import Checkpoint, CheckpointError
from ssmrl.config import TrainConfig
from ssmrl.envs.families import get_family
from ssmrl.envs.rewards import Motion

LEAKY = "examples.own_policy:LeakyIntegrator"
PENDULUM, CART = "examples.own_task:FAMILY", "examples.own_robot:FAMILY"


def play(task: str, seed: int = 0) -> list[object]:
    """Five steps of three tasks."""
    family = get_family(task)
    env = family.make_env(3, family.horizon, 1.0, 1)
    env.set_tasks([each.parameters for each in family.sample_train(np.random.default_rng(seed), 3)])
    env.reset(np.ones(3, dtype=np.bool_), [np.random.default_rng(n) for n in range(3)])
    rng = np.random.default_rng(1)
    return [env.step(rng.uniform(-1.0, 1.0, (3, env.action_dim))) for _ in range(5)]


@pytest.mark.parametrize("task", [PENDULUM, CART])
def test_a_family_is_called_by_its_path_and_so_are_its_tasks(task: str) -> None:
    family = get_family(task)
    assert family.name == task
    assert {each.family for each in family.sample_test(np.random.default_rng(0), 5)} == {task}
    assert get_family(task) is family
    assert family.no_adaptation_bound(family.horizon) is None
    assert family.blind_return([(0.5,)], family.horizon) is None
    assert TrainConfig.for_task(task).env.horizon == family.horizon


def test_a_gymnasium_environment_steps_as_it_does_alone() -> None:
    """Row 1 of the batch, against the bare environment with its task and seed."""
    import gymnasium

    family = get_family(PENDULUM)
    gravity = family.sample_train(np.random.default_rng(0), 3)[1].parameters[0]
    alone = gymnasium.make("Pendulum-v1")
    alone.unwrapped.g = gravity  # type: ignore[attr-defined]
    alone.reset(seed=int(np.random.default_rng(1).integers(2**31)))
    rng = np.random.default_rng(1)
    for step in play(PENDULUM):
        action = 2.0 * rng.uniform(-1.0, 1.0, (3, 1))[1]  # its torque is limited to 2
        seen, reward, *_ = alone.step(action.astype(np.float32))
        assert np.array_equal(step.observation[1], seen)  # type: ignore[attr-defined]
        assert step.reward[1] == reward  # type: ignore[attr-defined]


def test_a_horizon_beyond_the_environments_own_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`env.horizon` must be at most 200, .* but got 201"):
        get_family(PENDULUM).make_env(1, 201, 1.0, 1)


def test_an_environment_whose_spaces_do_not_fit_is_refused() -> None:
    box = ssmrl.UniformBox((0.0,), (1.0,))
    with pytest.raises(ValueError, match="the action of CartPole-v1 must be a box of one axis"):
        ssmrl.gymnasium_family(
            "CartPole-v1", lambda env, parameters: None, hidden="?", train=box, test=box
        )


def test_a_robot_of_ones_own_pays_other_tasks_by_the_same_formula() -> None:
    family = get_family(CART)
    assert family.reward is not None
    tasks = np.array(family.train.sample_array(np.random.default_rng(0), 3))
    for step in play(CART):
        paid = family.reward.total(tasks, step.motion)  # type: ignore[attr-defined]
        assert np.array_equal(paid, step.reward)  # type: ignore[attr-defined]
        columns = torch.from_numpy(step.motion.columns())  # type: ignore[attr-defined]
        tensor = family.reward.total(torch.from_numpy(tasks), Motion.of_columns(columns))
        torch.testing.assert_close(tensor, torch.from_numpy(paid))


def test_a_model_whose_actuators_have_no_common_limit_is_refused(tmp_path: Path) -> None:
    text = Path("examples/cart.xml").read_text()
    (tmp_path / "cart.xml").write_text(text.replace('ctrlrange="-1 1"', 'ctrlrange="-1 2"'))
    with pytest.raises(ValueError, match=r"limited to one range \[-limit, limit\], but have"):
        ssmrl.own_robot(tmp_path / "cart.xml", frame_skip=5)
    with pytest.raises(FileNotFoundError, match="there is no model at"):
        ssmrl.own_robot(tmp_path / "car.xml", frame_skip=5)


def test_multipliers_are_as_many_as_what_varies() -> None:
    robot = ssmrl.own_robot("examples/cart.xml", frame_skip=5)
    box = ssmrl.UniformBox((0.5,), (2.0,))
    with pytest.raises(ValueError, match="must draw 2 multipliers of mass for a task, but draws 1"):
        ssmrl.robot_family(
            robot,
            ssmrl.Reward("velocity", ssmrl.velocity_error, "-|v - v*|", control_weight=0.0),
            hidden="masses",
            train=box,
            test=box,
            horizon=50,
            dynamics=ssmrl.Dynamics("mass", "body_mass"),
        )


OWN = """
import torch
from torch import nn

class Model(nn.Module):
    def __init__(self, input_dim, config):
        super().__init__()
        self.layer = nn.Linear(input_dim, config.hidden_dim)
    def init_hidden(self, batch_size):
        return torch.zeros(batch_size, 0)
    def step(self, x, hidden):
        return self.layer(x), hidden
"""


def test_a_checkpoint_knows_the_source_of_a_part_and_warns_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"model_of_a_user_{os.getpid()}"
    source = tmp_path / f"{name}.py"
    source.write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    config = TrainConfig().with_knobs({"policy.method": f"{name}:Model"})
    Checkpoint(config, {}, {}).save(tmp_path / "c.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Checkpoint.load(tmp_path / "c.safetensors").config == config
    source.write_text(OWN + "\n# another line\n")
    with pytest.warns(UserWarning, match=f"the source of {name}:Model is not what it was"):
        Checkpoint.load(tmp_path / "c.safetensors")


def test_a_checkpoint_of_a_part_that_is_not_here_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig().with_knobs({"policy.method": LEAKY})
    Checkpoint(config, {}, {}).save(tmp_path / "c.safetensors")
    text = config.to_json().replace(LEAKY, "gone_away:Model")
    monkeypatch.setattr(TrainConfig, "to_json", lambda _: text)
    Checkpoint(TrainConfig(), {}, {}).save(tmp_path / "d.safetensors")
    with pytest.raises(CheckpointError, match=r"d.safetensors cannot be read: .*'gone_away' on"):
        Checkpoint.load(tmp_path / "d.safetensors")
