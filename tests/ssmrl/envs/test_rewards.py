"""What a family's reward says of other tasks: exactly what an environment would have paid."""

import numpy as np
import pytest
import torch

from ssmrl.envs.families import FAMILIES
from ssmrl.envs.rewards import Motion, Reward, velocity_match
from ssmrl.envs.task import TaskFamily

NUM_ENVS, NUM_STEPS = 4, 60
RELABELLED = [family for family in FAMILIES.values() if family.spec.varies == "reward"]

every_reward = pytest.mark.parametrize("family", RELABELLED, ids=lambda family: family.name)


def play(family: TaskFamily, tasks: list[tuple[float, ...]]) -> tuple[np.ndarray, np.ndarray]:
    """Motions ``(T, B, D + 3)`` and rewards ``(T, B)`` of random actions, without any restart."""
    env = family.make_env(NUM_ENVS, NUM_STEPS, 1.0, 1)
    env.set_tasks(tasks)
    rngs = [np.random.default_rng([0, index]) for index in range(NUM_ENVS)]
    env.reset(np.ones(NUM_ENVS, dtype=np.bool_), rngs)
    actions = np.random.default_rng(1).uniform(-1.5, 1.5, (NUM_STEPS, NUM_ENVS, env.action_dim))
    steps = [env.step(action) for action in actions]
    motions = np.stack([step.motion.columns() for step in steps])
    return motions, np.stack([step.reward for step in steps])


def draw(family: TaskFamily, seed: int) -> list[tuple[float, ...]]:
    return family.train.sample(np.random.default_rng(seed), NUM_ENVS)


def test_a_family_tells_its_reward_exactly_where_its_tasks_differ_in_it() -> None:
    """Relabelling a step of other dynamics would teach what never happens."""
    assert [family for family in FAMILIES.values() if family.reward is not None] == RELABELLED


@every_reward
def test_what_another_task_would_have_paid_is_what_it_pays_bit_for_bit(family: TaskFamily) -> None:
    """The same actions under other tasks: the stored motions give those rewards, all at once."""
    assert family.reward is not None
    motions, paid = play(family, draw(family, 0))
    others = draw(family, 1)
    _, paid_by_others = play(family, others)
    motion = Motion.of_columns(motions)
    assert np.array_equal(family.reward.total(np.array(draw(family, 0)), motion), paid)
    relabelled = family.reward.total(np.array(others), motion)
    assert np.array_equal(relabelled, paid_by_others)
    assert (relabelled != paid).any()
    if family.reward.contact_weight:
        assert (motions[..., -1] > 0.0).any()
    if family.reward.healthy:
        assert set(motions[..., -2].ravel()) == {0.0, 1.0}


@every_reward
def test_tensors_of_half_the_precision_agree_to_a_millionth(family: TaskFamily) -> None:
    """An update relabels on its own device, with one task for each episode: ``(N, 1, P)``."""
    assert family.reward is not None
    motions, _ = play(family, draw(family, 0))
    tasks = np.array(draw(family, 1))
    exact = family.reward.total(tasks, Motion.of_columns(motions))
    columns = torch.tensor(motions.transpose(1, 0, 2), dtype=torch.float32)
    parameters = torch.tensor(tasks, dtype=torch.float32)[:, None]
    terms = family.reward.terms(parameters, Motion.of_columns(columns))
    total = family.reward.total(parameters, Motion.of_columns(columns))
    assert total.dtype == torch.float32
    assert {tuple(term.shape) for term in terms.values()} == {(NUM_ENVS, NUM_STEPS)}
    np.testing.assert_allclose(total.numpy(), exact.T, rtol=1e-6, atol=1e-6)


@every_reward
def test_tensors_of_full_precision_lose_nothing(family: TaskFamily) -> None:
    """A constant that enters as float32 would show here, from 1e-8 on."""
    assert family.reward is not None
    motions, _ = play(family, draw(family, 0))
    tasks = np.array(draw(family, 1))
    exact = family.reward.total(tasks, Motion.of_columns(motions))
    total = family.reward.total(torch.tensor(tasks), Motion.of_columns(torch.tensor(motions)))
    np.testing.assert_allclose(total.numpy(), exact, rtol=1e-14, atol=1e-14)


def test_by_hand() -> None:
    """1 - |2 - 0.5| - 0.005 * 4 + 0.05 = -0.47; falling costs nothing where it is not paid for."""
    reward = Reward("velocity", velocity_match, "", control_weight=0.005, always=0.05)
    motion = Motion(np.array([[2.0, 9.0]]), np.array([4.0]), np.array([False]), np.zeros(1))
    assert reward.total(np.array([[0.5]]), motion) == pytest.approx([-0.47])
    assert list(reward.terms(np.array([[0.5]]), motion)) == ["velocity", "control", "survive"]


def test_contact_forces_are_clipped_and_their_cost_is_limited_by_hand() -> None:
    reward = Reward(
        "velocity", velocity_match, "", 0.0,
        contact_weight=0.5, contact_force_limit=2.0, contact_cost_limit=3.0,
    )  # fmt: skip
    # 0.5 * (1 + 4), with 9 clipped to 2; and 0.5 * (4 + 4), limited to 3.
    assert reward.contact_cost(np.array([[-1.0, 9.0], [5.0, -5.0]])).tolist() == [2.5, 3.0]


@pytest.mark.parametrize("width", [1, 2, 4])
def test_motions_return_from_their_columns(width: int) -> None:
    rng = np.random.default_rng(0)
    motion = Motion(
        rng.normal(size=(5, 3, width)),
        rng.normal(size=(5, 3)),
        rng.random((5, 3)) < 0.5,
        rng.normal(size=(5, 3)),
    )
    back = Motion.of_columns(motion.columns())
    for name in ("achieved", "effort", "healthy", "contact_cost"):
        assert np.array_equal(getattr(back, name), getattr(motion, name)), name


def test_columns_that_can_be_no_motion_are_refused() -> None:
    with pytest.raises(ValueError, match=r"at least one .* but got .*\(7, 3\)"):
        Motion.of_columns(np.zeros((7, 3)))
