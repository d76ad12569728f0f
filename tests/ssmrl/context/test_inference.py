"""The memory's scan is its step, and its loss is a normal distribution's."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from ssmrl.config import METHODS, SequenceConfig
from ssmrl.context.inference import (
    LOG_VARIANCE_RANGE,
    Estimate,
    TaskInference,
    inference_inputs,
    inference_loss,
)

O, A, Z = 3, 2, 2
M, K, T = 4, 2, 9
every_method = pytest.mark.parametrize("method", METHODS)


def small_inference(method: str, seed: int = 0) -> TaskInference:
    """In float64, with biases that are random too; attention sees less than a meta-episode."""
    config = SequenceConfig(
        method=method, state_dim=6, hidden_dim=8, num_layers=2, num_heads=2, window=5
    )
    generator = torch.Generator().manual_seed(seed)
    inference = TaskInference(config, O, A, Z, generator).double()
    with torch.no_grad():
        for parameter in inference.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator).double())
    return inference


def random_inputs(seed: int = 0) -> Tensor:
    """Meta-episodes of two episodes: that the second one starts is seen in the middle."""
    generator = torch.Generator().manual_seed(seed)
    observation = torch.randn(M, K * T, O, generator=generator).double()
    action = torch.randn(M, K * T, A, generator=generator).double()
    reward = torch.randn(M, K * T, generator=generator).double()
    first = torch.zeros(M, K * T, dtype=torch.bool)
    first[:, [0, T]] = True
    return inference_inputs(observation, action, reward, first)


def stepped(inference: TaskInference, inputs: Tensor) -> Estimate:
    """The plain twin of ``scan``."""
    hidden, estimates = inference.init_hidden(len(inputs)), []
    for t in range(inputs.shape[1]):
        estimate, hidden = inference.step(inputs[:, t], hidden)
        estimates.append(estimate)
    means, log_variances = zip(*estimates, strict=True)
    return Estimate(torch.stack(means, dim=1), torch.stack(log_variances, dim=1))


@every_method
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-6)])
@torch.no_grad()
def test_scan_is_the_loop_of_steps(method: str, dtype: torch.dtype, tolerance: float) -> None:
    inference, inputs = small_inference(method).to(dtype), random_inputs().to(dtype)
    for got, wanted in zip(inference.scan(inputs), stepped(inference, inputs), strict=True):
        torch.testing.assert_close(got, wanted, rtol=tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("method", [method for method in METHODS if method != "mlp"])
@torch.no_grad()
def test_the_memory_lives_on_into_the_second_episode(method: str) -> None:
    """The start of an episode empties nothing: what the first one showed is still there."""
    inference, inputs = small_inference(method), random_inputs()
    other = inputs.clone()
    other[:, T - 2, :O] += 1.0
    changed = inference.scan(inputs).mean - inference.scan(other).mean
    assert changed[:, : T - 2].abs().max() == 0.0, "nothing is known before it is seen"
    assert (changed[:, T].abs().amax(-1) > 1e-6).all()


@torch.no_grad()
def test_without_a_memory_there_is_only_the_last_transition() -> None:
    inference, inputs = small_inference("mlp"), random_inputs()
    other = inputs.clone()
    other[:, 3] += 1.0
    changed = (inference.scan(inputs).mean - inference.scan(other).mean).abs().amax((0, 2))
    assert (changed > 0.0).nonzero().flatten().tolist() == [3]


def test_inputs_are_observation_last_action_last_reward_and_start() -> None:
    inputs = inference_inputs(
        torch.tensor([[1.0, 2.0, 3.0]]),
        torch.tensor([[4.0, 5.0]]),
        torch.tensor([6.0]),
        torch.tensor([True]),
    )
    assert inputs.tolist() == [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1.0]]


def test_the_loss_is_the_log_likelihood_of_a_normal_distribution() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_variance, code = torch.randn(3, M, T, Z, generator=generator).double()
    got = inference_loss(Estimate(mean, log_variance), code)
    law = Normal(mean, (0.5 * log_variance).exp())
    wanted = -law.log_prob(code).sum(-1).mean() - 0.5 * Z * math.log(2.0 * math.pi)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


@every_method
@torch.no_grad()
def test_the_spread_stays_in_its_range(method: str) -> None:
    """However sure or unsure: otherwise one lucky code would weigh more than all the others."""
    inference = small_inference(method)
    for parameter in inference.parameters():
        parameter.mul_(100.0)
    low, high = LOG_VARIANCE_RANGE
    log_variance = inference.scan(100.0 * random_inputs()).log_variance
    assert log_variance.min() >= low
    assert log_variance.max() <= high


@every_method
def test_the_generator_alone_decides_the_initial_weights(method: str) -> None:
    torch.manual_seed(1)
    first, before = small_inference(method), torch.random.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(before, torch.random.get_rng_state()), "and the global one is not touched"
    torch.manual_seed(2)
    again, other = small_inference(method), small_inference(method, seed=1)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert any(
        not torch.equal(value, other.state_dict()[name])
        for name, value in first.state_dict().items()
    )
