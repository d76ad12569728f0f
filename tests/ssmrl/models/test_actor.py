"""The Gaussian actor: its density, its divergence, and where its weights come from."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from ssmrl.config import MEMORY_RESETS, METHODS, PolicyConfig
from ssmrl.models.actor import (
    GaussianActor,
    divergence,
    encoder_names,
    log_density,
    make_actor,
)

O, A = 4, 3


def normal(seed: int) -> tuple[torch.Tensor, torch.Tensor, Independent]:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(4, 5, A, generator=generator).double()
    log_std = 0.5 * torch.randn(A, generator=generator).double()
    return mean, log_std, Independent(Normal(mean, log_std.exp().expand_as(mean)), 1)


def test_log_density_equals_that_of_torch_distributions() -> None:
    mean, log_std, distribution = normal(0)
    action = normal(1)[0]
    torch.testing.assert_close(log_density(action, mean, log_std), distribution.log_prob(action))


def test_divergence_equals_that_of_torch_distributions_and_has_a_direction() -> None:
    """KL(old || new); the reverse is another number, so a swap would be seen."""
    old, new = normal(0), normal(1)
    forwards = kl_divergence(old[2], new[2])
    torch.testing.assert_close(divergence(*old[:2], *new[:2]), forwards)
    assert not torch.allclose(divergence(*new[:2], *old[:2]), forwards)
    assert not divergence(*old[:2], *old[:2]).any()


@pytest.mark.parametrize("method", METHODS)
def test_weights_depend_on_the_generator_alone(method: str) -> None:
    """Law 4: no global seed is read, and none is moved."""
    config = PolicyConfig(method=method, init_std=0.25)
    actors = []
    for global_seed, seed in ((1, 7), (2, 7), (2, 8)):
        torch.manual_seed(global_seed)
        state = torch.random.get_rng_state()
        actors.append(make_actor(config, 4, A, torch.Generator().manual_seed(seed)))
        assert torch.equal(torch.random.get_rng_state(), state)
    first, same, other = (actor.state_dict() for actor in actors)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    torch.testing.assert_close(actors[0].log_std.exp(), torch.full((A,), 0.25))


@pytest.mark.parametrize(("method", "total"), [("ssm", 1.294807), ("mlp", 0.093785)])
def test_equal_seeds_give_the_recorded_weights(method: str, total: float) -> None:
    """A layer that is made in another order changes them, and every result with them."""
    config = PolicyConfig(method=method, state_dim=8, hidden_dim=16)
    policy = make_actor(config, 3, 2, torch.Generator().manual_seed(0)).policy
    x = torch.sin(torch.arange(2.0 * 7 * 3)).view(2, 7, 3)
    first = torch.zeros(2, 7, dtype=torch.bool)
    first[0, 3] = True
    hidden = torch.cos(torch.arange(2.0 * policy.state_dim)).view(2, -1)
    assert float(policy(x, hidden, first)[0].detach().sum()) == pytest.approx(total, abs=1e-5)


@pytest.mark.parametrize("rl2_inputs", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_sizes_are_those_of_the_configuration(method: str, rl2_inputs: bool) -> None:
    config = PolicyConfig(
        method=method,
        state_dim=6,
        hidden_dim=10,
        num_layers=2,
        gated=True,
        num_heads=5,
        window=3,
        rl2_inputs=rl2_inputs,
    )
    actor = make_actor(config, 4, A, torch.Generator())
    input_dim = 4 + (A + 1 + 1 if rl2_inputs else 0)
    mean, log_std, hidden = actor(
        torch.zeros(2, 5, input_dim), actor.init_hidden(2), torch.zeros(2, 5, dtype=torch.bool)
    )
    assert mean.shape == (2, 5, A)
    assert log_std.shape == (A,)
    memory = {"ssm": 2 * 6, "lstm": 2 * 10, "gru": 10, "transformer": 2 * (1 + 2 * 2 * 10)}
    assert hidden.shape == (2, memory.get(method, 0))
    widest = {"lstm": 4 * 10, "gru": 3 * 10, "transformer": 4 * 10}
    assert max(p.shape[0] for p in actor.policy.parameters()) == widest.get(method, 10)
    gates = {name for name in actor.state_dict() if "gate." in name}
    assert len(gates) == (4 if method == "ssm" else 0)


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    config = PolicyConfig()
    object.__setattr__(config, "method", "rnn")  # a configuration would refuse it
    with pytest.raises(KeyError, match="unknown method 'rnn'") as caught:
        make_actor(config, 4, A, torch.Generator())
    assert all(method in str(caught.value) for method in METHODS)


class Lanes(NamedTuple):
    """What a trajectory holds of ``N`` tasks with ``B`` lanes."""

    observation: Tensor
    action: Tensor
    reward: Tensor
    first: Tensor


def random_lanes(seed: int, *leading: int, num_steps: int = 8) -> Lanes:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*leading, num_steps, *shape, generator=generator).double()

    first = torch.rand(*leading, num_steps, generator=generator) < 0.3
    first[..., 0] = True
    return Lanes(normal(O), normal(A), normal(), first)


def rl2_actor(memory_reset: str, method: str = "gru") -> GaussianActor:
    config = PolicyConfig(method=method, hidden_dim=6, rl2_inputs=True, memory_reset=memory_reset)
    return make_actor(config, O, A, torch.Generator().manual_seed(0)).double()


def test_the_input_by_hand() -> None:
    """One observation, one action; two episodes, the second from step 2 on."""
    observation = torch.tensor([[5.0], [6.0], [7.0], [8.0]])
    action, reward = observation / 10.0, torch.tensor([-1.0, -2.0, -3.0, -4.0])
    first = torch.tensor([True, False, True, False])
    wanted = {
        "trial": [[5, 0, 0, 1], [6, 0.5, -1, 0], [7, 0.6, -2, 1], [8, 0.7, -3, 0]],
        "episode": [[5, 0, 0, 1], [6, 0.5, -1, 0], [7, 0, 0, 1], [8, 0.7, -3, 0]],
    }
    for memory_reset, rows in wanted.items():
        config = PolicyConfig(hidden_dim=4, rl2_inputs=True, memory_reset=memory_reset)
        actor = make_actor(config, 1, 1, torch.Generator())
        assert not actor.input_is_observation
        got = actor.lane_input(observation, action, reward, first)
        torch.testing.assert_close(got, torch.tensor(rows, dtype=torch.float32))


@pytest.mark.parametrize("memory_reset", MEMORY_RESETS)
@pytest.mark.parametrize("leading", [(4,), (3, 4)])
def test_inputs_of_steps_are_those_of_lanes(memory_reset: str, leading: tuple[int, ...]) -> None:
    """The policy acts on the former and learns from the latter; the worker knows one step."""
    actor = rl2_actor(memory_reset)
    lanes = random_lanes(0, *leading)
    assert lanes.first[..., 1:].any()
    action, reward = torch.zeros_like(lanes.action[..., 0, :]), torch.zeros(leading).double()
    steps = []
    for t in range(lanes.first.shape[-1]):
        now = actor.make_input(lanes.observation[..., t, :], action, reward, lanes.first[..., t])
        steps.append(now)
        action, reward = lanes.action[..., t, :], lanes.reward[..., t]
    assert torch.equal(actor.lane_input(*lanes), torch.stack(steps, dim=-2))


def test_inputs_under_vmap_are_those_of_the_loop() -> None:
    actor = rl2_actor("episode")
    lanes = random_lanes(1, 3, 4)
    assert torch.equal(torch.func.vmap(actor.lane_input)(*lanes), actor.lane_input(*lanes))


@pytest.mark.parametrize("memory_reset", MEMORY_RESETS)
def test_without_more_inputs_the_input_is_the_observation(memory_reset: str) -> None:
    config = PolicyConfig(hidden_dim=4, memory_reset=memory_reset)
    actor = make_actor(config, O, A, torch.Generator())
    lanes = random_lanes(2, 4)
    assert actor.input_is_observation
    assert actor.lane_input(*lanes) is lanes.observation
    assert actor.make_input(*lanes) is lanes.observation


@pytest.mark.parametrize("method", METHODS)
def test_an_episodes_memory_ends_at_first_and_a_trials_does_not(method: str) -> None:
    lanes = random_lanes(3, 4)
    never = torch.zeros_like(lanes.first)
    for memory_reset in MEMORY_RESETS:
        actor = rl2_actor(memory_reset, method)
        inputs = actor.lane_input(*lanes)
        mean, _, hidden = actor(inputs, actor.init_hidden(4), lanes.first)
        forget = lanes.first if memory_reset == "episode" else never
        wanted, last = actor.policy.scan(inputs, actor.init_hidden(4), forget)
        assert torch.equal(mean, wanted)
        assert torch.equal(hidden, last)
    # That the two differ is what makes the loop above worth running.
    unforgotten = actor.policy.scan(inputs, actor.init_hidden(4), never)[0]
    forgotten = actor.policy.scan(inputs, actor.init_hidden(4), lanes.first)[0]
    assert torch.equal(unforgotten, forgotten) == (method == "mlp")


@pytest.mark.parametrize("method", METHODS)
def test_a_trials_memory_by_steps_is_that_by_a_scan(method: str) -> None:
    """The reset must be left out of steps and scans alike."""
    actor = rl2_actor("trial", method)
    lanes = random_lanes(4, 4)
    inputs = actor.lane_input(*lanes)
    hidden, means = actor.init_hidden(4), []
    for t in range(lanes.first.shape[1]):
        mean, _, hidden = actor(inputs[:, t], hidden, lanes.first[:, t])
        means.append(mean)
    scanned, _, last = actor(inputs, actor.init_hidden(4), lanes.first)
    torch.testing.assert_close(torch.stack(means, dim=1), scanned, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(hidden, last, rtol=1e-10, atol=1e-10)


def test_a_memory_reset_that_does_not_exist_is_refused() -> None:
    policy = rl2_actor("trial").policy
    with pytest.raises(ValueError, match=r"must be one of \['episode', 'trial'\].*'never'"):
        GaussianActor(policy, memory_reset="never")


@pytest.mark.parametrize("method", METHODS)
def test_encoder_and_head_and_spread_are_all_there_is(method: str) -> None:
    """A parameter in no group would not be trained, one in two would be stepped twice."""
    actor = make_actor(PolicyConfig(method=method), 4, A, torch.Generator())
    rest = {"log_std", "policy.head.weight", "policy.head.bias"}
    assert encoder_names(actor) == {name for name, _ in actor.named_parameters()} - rest
    assert rest < {name for name, _ in actor.named_parameters()}
