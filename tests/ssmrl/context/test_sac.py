"""Soft actor-critic against a second writing of it, and its gradients against the plain losses."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from ssmrl.context.networks import ContextNetworks
from ssmrl.context.sac import (
    Batch,
    SoftActorCritic,
    actor_loss,
    actor_step,
    critic_loss,
    critic_step,
    critic_target,
    squashed,
    temperature_loss,
)
from tests.ssmrl.context.small_context import random_batch, random_networks, small_context

DISCOUNT = 0.9
M, A = 7, 2
BATCH = random_batch(M)


def noise(seed: int) -> Tensor:
    return torch.randn(M, A, generator=torch.Generator().manual_seed(seed)).double()


# -------------------------------------------------------------------- a second, plain writing


def plain_action(
    networks: ContextNetworks, seen: Tensor, drawn: Tensor
) -> tuple[list[float], float]:
    """Of one row: the action, and the sum of the logarithms of its axes' densities."""
    output = networks.actor(seen.unsqueeze(0))[0, 0].tolist()
    action, log_prob = [], 0.0
    for axis in range(A):
        mean, log_std = output[axis], -5.0 + 3.5 * (math.tanh(output[A + axis]) + 1.0)
        before = mean + math.exp(log_std) * float(drawn[axis])
        action.append(math.tanh(before))
        normal = math.exp(-0.5 * float(drawn[axis]) ** 2) / (
            math.exp(log_std) * math.sqrt(2.0 * math.pi)
        )
        log_prob += math.log(normal / (1.0 - math.tanh(before) ** 2))
    return action, log_prob


def plain_values(net: torch.nn.Module, seen: Tensor, action: list[float]) -> list[float]:
    """What each of the two critics says of one row."""
    row = torch.cat([seen, torch.tensor(action, dtype=torch.float64)])
    return [float(value) for value in net(row.unsqueeze(0))[:, 0, 0]]


def plain_target(
    networks: ContextNetworks, batch: Batch, drawn: Tensor, *, ends_free: bool
) -> list[float]:
    temperature = math.exp(float(networks.log_temperature))
    targets = []
    for i in range(M):
        seen = torch.cat([batch.next_observation[i], batch.code[i]])
        action, log_prob = plain_action(networks, seen, drawn[i])
        value = min(plain_values(networks.target, seen, action)) - temperature * log_prob
        if batch.continues[i] == 0.0:
            value = 0.0 if ends_free else min(value, 0.0)
        targets.append(float(batch.reward[i]) + DISCOUNT * value)
    return targets


@torch.no_grad()
def networks_of_both_signs() -> ContextNetworks:
    """Whose values of what follows are above and below zero: the last numbers are the biases."""
    networks = random_networks(small_context())
    networks.target.flat[-2:] += 0.5
    return networks


@torch.no_grad()
@pytest.mark.parametrize("ends_free", [False, True])
def test_the_target_is_reward_and_the_soft_value_of_what_follows(ends_free: bool) -> None:
    networks = networks_of_both_signs()
    got = critic_target(networks, BATCH, noise(1), DISCOUNT, ends_free=ends_free)
    wanted = plain_target(networks, BATCH, noise(1), ends_free=ends_free)
    assert got.tolist() == pytest.approx(wanted, rel=1e-10)


@torch.no_grad()
def test_an_end_is_worth_nothing_or_the_next_start_where_that_is_worse() -> None:
    networks = networks_of_both_signs()
    always = BATCH._replace(continues=torch.ones(M).double())
    ended = BATCH._replace(continues=torch.zeros(M).double())
    following = critic_target(networks, always, noise(1), DISCOUNT, ends_free=False) - BATCH.reward
    assert following.min() < 0.0 < following.max(), "both kinds of starts are there"
    free = critic_target(networks, ended, noise(1), DISCOUNT, ends_free=True)
    assert torch.equal(free, BATCH.reward)
    bound = critic_target(networks, ended, noise(1), DISCOUNT, ends_free=False)
    torch.testing.assert_close(bound, BATCH.reward + following.clamp(max=0.0))


@torch.no_grad()
def test_the_critics_loss_is_the_squared_error_of_both() -> None:
    networks, target = random_networks(small_context()), noise(2)[:, 0]
    total = 0.0
    for i in range(M):
        seen = torch.cat([BATCH.observation[i], BATCH.code[i]])
        values = plain_values(networks.critic, seen, BATCH.action[i].tolist())
        total += sum((value - float(target[i])) ** 2 for value in values) / M
    assert float(critic_loss(networks, BATCH, target)) == pytest.approx(total, rel=1e-10)


@torch.no_grad()
def test_the_actors_loss_is_minus_the_lower_critics_soft_value() -> None:
    networks = random_networks(small_context())
    temperature = math.exp(float(networks.log_temperature))
    loss, mean_log_prob, lower = 0.0, 0.0, set()
    for i in range(M):
        seen = torch.cat([BATCH.observation[i], BATCH.code[i]])
        action, log_prob = plain_action(networks, seen, noise(3)[i])
        values = plain_values(networks.critic, seen, action)
        lower.add(values.index(min(values)))
        loss += (temperature * log_prob - min(values)) / M
        mean_log_prob += log_prob / M
    assert lower == {0, 1}, "each critic is the lower one somewhere"
    got = actor_loss(networks, BATCH, noise(3))
    assert [float(value) for value in got] == pytest.approx([loss, mean_log_prob], rel=1e-10)


@pytest.mark.parametrize("log_prob", [-3.0, 0.5, 2.0])
def test_the_temperatures_loss_is_its_distance_from_the_wanted_entropy(log_prob: float) -> None:
    log_temperature = torch.tensor(-1.3, dtype=torch.float64)
    got = temperature_loss(log_temperature, torch.tensor(log_prob).double(), -1.0)
    assert float(got) == pytest.approx(-math.exp(-1.3) * (log_prob - 1.0), rel=1e-12)


@pytest.mark.parametrize("mean", [-2.0, 0.0, 0.7])
@pytest.mark.parametrize("raw", [-1.0, 0.0, 0.4])
def test_the_density_of_a_squashed_action_is_that_of_its_rank(mean: float, raw: float) -> None:
    """Without the formula of the hyperbolic tangent's slope: the slope of the cumulated law."""
    output = torch.tensor([[mean, raw]], dtype=torch.float64)
    std = math.exp(-5.0 + 3.5 * (math.tanh(raw) + 1.0))

    def cumulated(action: float) -> float:
        return 0.5 * (1.0 + math.erf((math.atanh(action) - mean) / (std * math.sqrt(2.0))))

    for drawn in (-1.5, 0.0, 0.8):
        action, log_prob = squashed(output, torch.tensor([[drawn]], dtype=torch.float64))
        value = float(action)
        step = 1e-5 * (1.0 - abs(value)) * min(1.0, std)
        slope = (cumulated(value + step) - cumulated(value - step)) / (2.0 * step)
        assert float(log_prob) == pytest.approx(math.log(slope), abs=1e-4)


def test_far_out_the_density_stays_finite() -> None:
    """Where the hyperbolic tangent is 1 to the last digit, even in float32."""
    action, log_prob = squashed(torch.tensor([[40.0, 0.0]]), torch.tensor([[1.0]]))
    assert float(action) == 1.0
    assert math.isfinite(float(log_prob))


# ------------------------------------------------------------------- hand-written gradients


@pytest.mark.parametrize("seed", range(3))
def test_the_critics_step_is_the_gradient_of_their_loss(seed: int) -> None:
    networks, batch = random_networks(small_context(), seed), random_batch(M, seed)
    target = noise(seed)[:, 0]
    wanted = critic_loss(networks, batch, target)
    (gradient,) = torch.autograd.grad(wanted, networks.critic.flat)
    loss, found = critic_step(networks, batch, target)
    torch.testing.assert_close(loss, wanted.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found, gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_actors_step_is_the_gradient_of_its_loss(seed: int) -> None:
    networks, batch = random_networks(small_context(), seed), random_batch(M, seed)
    wanted, log_prob = actor_loss(networks, batch, noise(seed))
    (gradient,) = torch.autograd.grad(wanted, networks.actor.flat)
    with torch.no_grad():
        found = actor_step(networks, batch, noise(seed))
    torch.testing.assert_close(found.loss, wanted.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.log_prob, log_prob.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.gradient, gradient, rtol=1e-12, atol=1e-12)


def finite_difference(of: Callable[[], Tensor], parameter: Tensor, along: Tensor) -> float:
    """Slope of a number along a direction of a parameter."""
    values = []
    with torch.no_grad():
        for sign in (1.0, -2.0):
            parameter.add_(sign * 1e-5 * along)
            values.append(float(of()))
        parameter.add_(1e-5 * along)
    return (values[0] - values[1]) / 2e-5


@pytest.mark.parametrize("seed", range(3))
def test_the_actors_gradient_is_the_slope_of_its_loss(seed: int) -> None:
    networks = random_networks(small_context(), seed)
    flat = networks.actor.flat
    direction = torch.randn(flat.shape, generator=torch.Generator().manual_seed(seed)).double()
    with torch.no_grad():
        found = actor_step(networks, BATCH, noise(4)).gradient
    slope = finite_difference(lambda: actor_loss(networks, BATCH, noise(4))[0], flat, direction)
    assert float(found @ direction) == pytest.approx(slope, rel=1e-5)


def updated(
    networks: ContextNetworks, *, moves_actor: bool = True, batch: Batch = BATCH
) -> SoftActorCritic:
    """After one update."""
    sac = SoftActorCritic(networks, small_context(**{"meta.target_rate": 0.25}).meta, fused=False)
    sac.update(batch, torch.stack([noise(5), noise(6)]), moves_actor=moves_actor)
    return sac


def test_the_temperatures_gradient_is_the_slope_of_its_loss() -> None:
    """Of the parameter, which is the logarithm."""
    networks = random_networks(small_context())
    before = networks.log_temperature.detach().clone()
    sac = updated(networks)
    gradient = networks.log_temperature.grad
    assert gradient is not None
    fresh = random_networks(small_context())
    target = critic_target(
        fresh, BATCH, noise(5), sac._settings.discount, ends_free=sac._settings.ends_free
    ).detach()
    fresh.critic.flat.grad = critic_step(fresh, BATCH, target)[1]
    torch.optim.Adam([fresh.critic.flat], sac._settings.learning_rate).step()
    with torch.no_grad():
        log_prob = actor_loss(fresh, BATCH, noise(6))[1]
    slope = finite_difference(
        lambda: temperature_loss(before, log_prob, -1.0 * A), before, torch.ones(()).double()
    )
    assert float(gradient) == pytest.approx(slope, rel=1e-6)


# -------------------------------------------------------------------------------- the update


def test_an_update_is_adam_on_the_plain_losses() -> None:
    """Two updates, in the order of the algorithm, by automatic differentiation."""
    networks, twin = random_networks(small_context()), random_networks(small_context())
    settings = small_context(**{"meta.target_rate": 0.25, "meta.average_rate": 0.125}).meta
    sac = SoftActorCritic(networks, settings, fused=False)
    critic = torch.optim.Adam([twin.critic.flat], settings.learning_rate)
    actor = torch.optim.Adam([twin.actor.flat, twin.log_temperature], settings.learning_rate)
    for number in range(2):
        batch, drawn = random_batch(M, number), torch.stack([noise(number), noise(9 + number)])
        sac.update(batch, drawn, moves_actor=True)
        target = critic_target(
            twin, batch, drawn[0], settings.discount, ends_free=settings.ends_free
        ).detach()
        critic.zero_grad()
        critic_loss(twin, batch, target).backward()
        critic.step()
        actor.zero_grad()
        loss, log_prob = actor_loss(twin, batch, drawn[1])
        (loss + temperature_loss(twin.log_temperature, log_prob, -1.0 * A)).backward()
        actor.step()
        with torch.no_grad():
            twin.target.flat.mul_(0.75).add_(0.25 * twin.critic.flat)
            twin.average.flat.mul_(0.875).add_(0.125 * twin.actor.flat)
    for (name, value), wanted in zip(
        networks.state_dict().items(), twin.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(value, wanted, rtol=1e-9, atol=1e-11, msg=name)


def test_between_its_turns_the_actor_does_not_move() -> None:
    networks, start = random_networks(small_context()), random_networks(small_context())
    updated(networks, moves_actor=False)
    assert torch.equal(networks.actor.flat, start.actor.flat)
    assert torch.equal(networks.average.flat, start.average.flat)
    assert torch.equal(networks.log_temperature, start.log_temperature)
    assert not torch.equal(networks.critic.flat, start.critic.flat)
    assert not torch.equal(networks.target.flat, start.target.flat)


@pytest.mark.parametrize(("log_prob", "rises"), [(5.0, True), (-5.0, False)])
def test_too_little_entropy_raises_the_temperature(log_prob: float, rises: bool) -> None:
    log_temperature = torch.tensor(0.0, requires_grad=True)
    loss = temperature_loss(log_temperature, torch.tensor(log_prob), -1.0)
    (gradient,) = torch.autograd.grad(loss, log_temperature)
    assert (float(gradient) < 0.0) is rises


@pytest.mark.parametrize("moves_actor", [False, True])
def test_an_update_reads_no_tensors_value(moves_actor: bool) -> None:
    """On a device where tensors have none: whoever asked for a value would get an error."""
    networks = random_networks(small_context()).to("meta")
    batch = Batch(*(value.to("meta") for value in BATCH))
    sac = SoftActorCritic(networks, small_context().meta, fused=False)
    drawn = torch.empty(2, M, A, dtype=torch.float64, device="meta")
    losses = sac.update(batch, drawn, moves_actor=moves_actor)
    assert (losses is None) is not moves_actor
    with pytest.raises(RuntimeError, match="meta"):
        batch.reward.sum().item()


def test_the_plain_losses_read_no_tensors_value_either() -> None:
    networks = random_networks(small_context()).to("meta")
    batch = Batch(*(value.to("meta") for value in BATCH))
    drawn = torch.empty(M, A, dtype=torch.float64, device="meta")
    target = critic_target(networks, batch, drawn, DISCOUNT, ends_free=False)
    loss = critic_loss(networks, batch, target) + actor_loss(networks, batch, drawn)[0]
    assert loss.is_meta
    assert np.prod(loss.shape) == 1
