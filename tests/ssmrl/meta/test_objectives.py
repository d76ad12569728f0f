"""Advantages and surrogates against numbers worked out by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ssmrl.meta.gradient import make_sample
from ssmrl.meta.objectives import (
    clipped_loss,
    discounted_sum,
    gae,
    likelihood_ratio_loss,
    linear_baseline,
    normalise_per_task,
    standardise_over_tasks,
)
from ssmrl.meta.settings import GradientSettings
from tests.contracts.property_settings import PROPERTY
from tests.ssmrl.meta.random_trajectory import random_trajectory, tiny_actor


def row(*values: float) -> Tensor:
    return torch.tensor(values).double()


REWARD, VALUE = row(1, 2, 3, 4), row(0.5, 1, 1.5, 2)
ENDS_IN_THE_MIDDLE = torch.tensor([False, True, False, False])


def test_discounted_sum_by_hand() -> None:
    # Discount 1/2, an end after the second step: 4, 3 + 4/2 = 5, then 2 alone, and 1 + 2/2 = 2.
    assert discounted_sum(REWARD, ENDS_IN_THE_MIDDLE, 0.5).tolist() == [2.0, 2.0, 5.0, 4.0]


def test_gae_by_hand_with_an_end_inside_the_lane() -> None:
    # Discount 1/2 and lambda 1/2, so surprises are carried on with 1/4; value 4 after the lane.
    # t=3: surprise 4 + 4/2   - 2   = 4,   advantage 4
    # t=2: surprise 3 + 2/2   - 1.5 = 2.5, advantage 2.5 + 4/4 = 3.5
    # t=1: ended:   2 + 0     - 1   = 1,   advantage 1, nothing is carried over
    # t=0: surprise 1 + 1/2   - 0.5 = 1,   advantage 1 + 1/4 = 1.25
    advantage = gae(REWARD, VALUE, row(4)[0], ENDS_IN_THE_MIDDLE, discount=0.5, gae_lambda=0.5)
    assert advantage.tolist() == [1.25, 1.0, 3.5, 4.0]


def test_gae_expects_nothing_after_an_end_at_the_last_step() -> None:
    # t=3 ended: 4 - 2 = 2 instead of 4 + 4/2 - 2; with lambda 0 each step stands alone.
    ends = torch.tensor([False, False, False, True])
    advantage = gae(REWARD, VALUE, row(4)[0], ends, discount=0.5, gae_lambda=0.0)
    assert advantage.tolist() == [1.0, 1.75, 2.5, 2.0]


@PROPERTY
@given(seed=st.integers(0, 2**20), discount=st.floats(0.0, 1.0))
def test_gae_with_lambda_one_is_the_return_minus_the_value(seed: int, discount: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    reward, value = torch.randn(2, 3, 9, generator=generator).double()
    ends = torch.rand(3, 9, generator=generator) < 0.2
    advantage = gae(reward, value, torch.zeros(3).double(), ends, discount=discount, gae_lambda=1.0)
    torch.testing.assert_close(advantage, discounted_sum(reward, ends, discount) - value)


def lanes(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 5, 100, 3, generator=generator).double()


def test_the_baseline_recovers_a_function_in_its_span_for_each_task_alone() -> None:
    observation = lanes()
    time = torch.arange(100).double() / 100
    target = observation @ row(1, -2, 3) + 0.5 * observation[..., 0].square()
    target = target + 2.0 * time - 7.0 * time**2 + 3.0 * time**3 - 4.0
    target = target * row(1, -10)[:, None, None]
    torch.testing.assert_close(linear_baseline(observation, target), target, rtol=0, atol=1e-3)


def test_the_baseline_is_no_more_than_linear() -> None:
    """A baseline that fits everything would leave no advantage to learn from."""
    observation = lanes()
    target = observation.prod(-1)
    residual = target - linear_baseline(observation, target)
    assert residual.std() > 0.5 * target.std()


def test_the_baseline_clips_what_it_sees_at_ten() -> None:
    observation = lanes()
    outlier = observation.clone()
    outlier[0, 0, 0, 0] = 1e6
    clipped = observation.clone()
    clipped[0, 0, 0, 0] = 10.0
    target = observation.sum(-1)
    assert torch.equal(linear_baseline(outlier, target), linear_baseline(clipped, target))


def test_the_baseline_survives_constant_observations() -> None:
    """Features that repeat each other make the system singular but for the ridge."""
    observation = torch.ones(1, 4, 20, 3).double()
    target = torch.arange(20).double().expand(1, 4, 20)
    torch.testing.assert_close(linear_baseline(observation, target), target, rtol=0, atol=1e-2)


def test_advantages_are_normalised_per_task() -> None:
    """A task with large rewards must not drown the others, nor change them at all."""
    generator = torch.Generator().manual_seed(0)
    advantage = torch.randn(3, 4, 5, generator=generator).double() + 2.0
    louder = advantage * row(1, 1000, 1)[:, None, None]
    normalised = normalise_per_task(louder)
    torch.testing.assert_close(normalised.mean((1, 2)), torch.zeros(3).double())
    torch.testing.assert_close(
        normalised.std((1, 2), correction=0), torch.ones(3).double(), rtol=1e-6, atol=1e-6
    )
    assert torch.equal(normalised[0::2], normalise_per_task(advantage)[0::2])
    assert not normalise_per_task(torch.full((2, 3, 4), 5.0)).isnan().any()


def test_a_task_alone_gets_the_same_bits_as_among_others() -> None:
    """Who plays a task alone must estimate its advantages as who plays it with ten others."""
    observation = torch.randn(4, 5, 100, 27, generator=torch.Generator().manual_seed(0)).double()
    target = observation.cumsum(2).sum(-1)
    values, normalised = linear_baseline(observation, target), normalise_per_task(target)
    for n in range(4):
        alone = slice(n, n + 1)
        assert torch.equal(linear_baseline(observation[alone], target[alone]), values[alone])
        assert torch.equal(normalise_per_task(target[alone]), normalised[alone])


def test_one_number_per_task_is_standardised_by_hand() -> None:
    # Mean 3; deviations -2, -1, 0, 3 with squares 4 + 1 + 0 + 9 = 14, over 4 tasks 3.5.
    standardised = standardise_over_tasks(row(1, 2, 3, 6), 4, lambda vector: vector)
    torch.testing.assert_close(standardised, row(-2, -1, 0, 3) / 3.5**0.5, rtol=1e-7, atol=1e-9)
    equal = standardise_over_tasks(row(5, 5), 2, lambda vector: vector)
    assert equal.tolist() == [0.0, 0.0], "tasks that do not differ tell nothing, and not NaN"


def test_tasks_elsewhere_count_when_one_number_per_task_is_standardised() -> None:
    """Of the same four tasks, two are here; the sums over the others are 9, then 0 + 9."""
    elsewhere = iter([9.0, 9.0])
    here = standardise_over_tasks(row(1, 2), 4, lambda vector: vector + next(elsewhere))
    torch.testing.assert_close(here, row(-2, -1) / 3.5**0.5, rtol=1e-7, atol=1e-9)


def test_likelihood_ratio_loss_by_hand() -> None:
    # Ratios 2 and 1/2 with advantages 3 and -4: -(2 * 3 - 4 / 2) / 2 = -2.
    loss = likelihood_ratio_loss(row(2, 0.5).log(), row(1, 1).log(), row(3, -4))
    assert loss.item() == pytest.approx(-2.0)


def test_clipped_loss_by_hand() -> None:
    # Trust interval [0.8, 1.2]. The gain is the lesser of ratio and cut ratio times advantage:
    # 1.5 with  2: min( 3.0,  2.4) =  2.4, cut      1.5 with -2: min(-3.0, -2.4) = -3.0
    # 0.5 with  2: min( 1.0,  1.6) =  1.0           0.5 with -2: min(-1.0, -1.6) = -1.6, cut
    # Mean gain (2.4 - 3 + 1 - 1.6) / 4 = -0.3, hence loss 0.3.
    ratio = row(1.5, 1.5, 0.5, 0.5).log().requires_grad_()
    loss = clipped_loss(ratio, row(0, 0, 0, 0), row(2, -2, 2, -2), 0.2)
    assert loss.item() == pytest.approx(0.3)
    (gradient,) = torch.autograd.grad(loss, ratio)
    # Where it is cut nothing flows; elsewhere minus ratio times advantage over 4.
    torch.testing.assert_close(gradient, row(0, 0.75, -0.25, 0))


def test_a_sample_is_made_of_these_parts() -> None:
    """Monte Carlo returns of each episode, minus the baseline, normalised; ends respected."""
    trajectory = random_trajectory(tiny_actor("mlp"), seed=3)
    assert trajectory.terminated[..., :-1].any()
    config = GradientSettings(discount=0.9, gae_lambda=1.0)
    sample = make_sample(trajectory, config)
    returns = discounted_sum(trajectory.reward, trajectory.terminated, 0.9)
    wanted = normalise_per_task(returns - linear_baseline(trajectory.observation, returns))
    torch.testing.assert_close(sample.advantage, wanted, rtol=1e-9, atol=1e-9)
    for name in ("observation", "action", "log_prob", "first"):
        assert torch.equal(getattr(sample, name), getattr(trajectory, name))
