"""Several seeds in one set of operators against each of them alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ssmrl.config import TrainConfig
from ssmrl.context.inference import StackedInference
from ssmrl.context.inference_training import InferenceTraining
from ssmrl.context.networks import ContextNetworks, ParallelMLP
from ssmrl.context.sac import (
    Batch,
    SoftActorCritic,
    actor_loss,
    critic_loss,
    critic_target,
    temperature_loss,
)
from tests.ssmrl.context.counting import Counting
from tests.ssmrl.context.small_context import random_batch, random_networks, small_context

META = torch.device("meta")
RUNS, M, A = 3, 7, 2
CONFIG = small_context(**{"meta.target_rate": 0.25, "meta.average_rate": 0.125})
every_method = pytest.mark.parametrize("method", ["ssm", "gru", "lstm", "transformer", "mlp"])


def networks_of(num_runs: int = RUNS) -> list[ContextNetworks]:
    """Of each seed, with temperatures and statistics of their own too."""
    own = [random_networks(CONFIG, seed) for seed in range(num_runs)]
    for seed, networks in enumerate(own):
        networks.set_statistics(torch.randn(9, 2, dtype=torch.float64) * (1.0 + seed))
    return own


def joined(batches: list[Batch]) -> Batch:
    return Batch(*(torch.stack(leaves) for leaves in zip(*batches, strict=True)))


def noise(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(100 + seed)
    return torch.randn(2, M, A, generator=generator, dtype=torch.float64)


def parted(stacked: ContextNetworks) -> dict[str, list[Tensor]]:
    """All that learns but the inference models, of each seed."""
    found = {
        name: list(getattr(stacked, name).parted(getattr(stacked, name).flat.detach()))
        for name in ("actor", "average", "critic", "target")
    }
    return found | {"log_temperature": list(stacked.log_temperature.detach())}


def own_tensors(networks: ContextNetworks) -> dict[str, Tensor]:
    names = ("actor", "average", "critic", "target")
    found = {name: getattr(networks, name).flat.detach() for name in names}
    return found | {"log_temperature": networks.log_temperature.detach()}


def close(got: Tensor, wanted: Tensor, name: str = "") -> None:
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10, msg=name or None)


# ------------------------------------------------------------------------------------ perceptrons


@pytest.mark.parametrize("num_networks", [1, 2])
@pytest.mark.parametrize("output_dim", [1, 3])
def test_a_seeds_perceptrons_are_what_they_are_alone(num_networks: int, output_dim: int) -> None:
    """Values, and the gradients of weights and inputs."""
    generator = torch.Generator().manual_seed(0)
    own = [ParallelMLP(num_networks, 5, 7, output_dim, generator).double() for _ in range(RUNS)]
    x = torch.randn(RUNS, 11, 5, generator=generator).double()
    upstream = torch.randn(num_networks, RUNS, 11, output_dim, generator=generator).double()
    whole = ParallelMLP.stacked(own)
    value, way = whole.passed(x)
    close(value, whole(x).detach())
    weights = whole.parted(whole.weight_gradient(way, upstream))
    inputs = whole.input_gradient(way, upstream, 2)
    for run, mlp in enumerate(own):
        alone, own_way = mlp.passed(x[run])
        close(value[:, run], alone)
        close(weights[run], mlp.weight_gradient(own_way, upstream[:, run]))
        close(inputs[run], mlp.input_gradient(own_way, upstream[:, run], 2))
        assert torch.equal(whole.parted(whole.flat.detach())[run], mlp.flat.detach())


# ------------------------------------------------------------------------------ actor and critics


def test_an_update_of_several_seeds_is_that_of_each() -> None:
    """Stacked, one after another, and by automatic differentiation of the plain losses."""
    own, twins = networks_of(), networks_of()
    stacked, plain = ContextNetworks.stacked(own), ContextNetworks.stacked(twins)
    one = [SoftActorCritic(networks, CONFIG.meta, fused=False) for networks in own]
    all_of_them = SoftActorCritic(stacked, CONFIG.meta, fused=False)
    step = PlainUpdate(plain)
    for number in range(4):
        batches = [random_batch(M, 10 * number + run) for run in range(RUNS)]
        drawn = [noise(10 * number + run) for run in range(RUNS)]
        moves = number % 2 == 1
        losses = all_of_them.update(joined(batches), torch.stack(drawn, 1), moves_actor=moves)
        step(joined(batches), torch.stack(drawn, 1), moves_actor=moves)
        for run, sac in enumerate(one):
            alone = sac.update(batches[run], drawn[run], moves_actor=moves)
            assert (alone is None) is (losses is None)
            if alone is not None and losses is not None:
                for name, value in alone._asdict().items():
                    close(getattr(losses, name)[run], value, name)
    for found in (parted(stacked), parted(plain)):
        for run, networks in enumerate(own):
            for name, value in own_tensors(networks).items():
                close(found[name][run], value, name)


class PlainUpdate:
    """An update by automatic differentiation; the loss is the sum over the seeds."""

    def __init__(self, networks: ContextNetworks) -> None:
        rate = CONFIG.meta.learning_rate
        self.networks = networks
        self.critic = torch.optim.Adam([networks.critic.flat], rate)
        self.actor = torch.optim.Adam([networks.actor.flat, networks.log_temperature], rate)

    def __call__(self, batch: Batch, drawn: Tensor, *, moves_actor: bool) -> None:
        networks, meta = self.networks, CONFIG.meta
        target = critic_target(
            networks, batch, drawn[0], meta.discount, ends_free=meta.ends_free
        ).detach()
        self.critic.zero_grad()
        critic_loss(networks, batch, target).sum().backward()
        self.critic.step()
        if moves_actor:
            self.actor.zero_grad()
            loss, log_prob = actor_loss(networks, batch, drawn[1])
            entropy = meta.target_entropy * A
            heat = temperature_loss(networks.log_temperature, log_prob, entropy)
            (loss + heat).sum().backward()
            self.actor.step()
        with torch.no_grad():
            networks.target.flat.lerp_(networks.critic.flat, meta.target_rate)
            if moves_actor:
                networks.average.flat.lerp_(networks.actor.flat, meta.average_rate)


def test_a_seed_that_is_not_finite_leaves_the_others_as_they_are() -> None:
    """To the bit: what is nothing times nothing stays where it is."""
    results = []
    for broken in (False, True):
        own = networks_of()
        if broken:
            with torch.no_grad():
                own[1].critic.flat.fill_(float("nan"))
        stacked = ContextNetworks.stacked(own)
        sac = SoftActorCritic(stacked, CONFIG.meta, fused=False)
        batch = joined([random_batch(M, run) for run in range(RUNS)])
        for _ in range(2):
            losses = sac.update(
                batch, torch.stack([noise(run) for run in range(RUNS)], 1), moves_actor=True
            )
        assert losses is not None
        results.append(parted(stacked) | {"loss": list(losses.critic)})
    sound, broken_too = results
    for name, values in sound.items():
        assert torch.equal(values[0], broken_too[name][0]), name
        assert torch.equal(values[2], broken_too[name][2]), name
    assert broken_too["actor"][1].isnan().any()


def test_stacked_networks_normalise_each_seed_by_its_own_statistics() -> None:
    own = networks_of()
    stacked = ContextNetworks.stacked(own)
    seen = torch.randn(4, RUNS, M, 2, dtype=torch.float64)
    for run, networks in enumerate(own):
        close(stacked.normalised(seen)[:, run], networks.normalised(seen[:, run]))


# ---------------------------------------------------------------------------- the inference model


def inference_of(
    method: str, num_runs: int, **knobs: Any
) -> tuple[TrainConfig, list[ContextNetworks]]:
    config = small_context(**{"policy.method": method, "env.horizon": 12} | knobs)
    return config, [random_networks(config, seed) for seed in range(num_runs)]


@every_method
def test_inference_models_learn_together_what_each_learns_alone(method: str) -> None:
    config, own = inference_of(method, RUNS)
    alone = [InferenceTraining(networks.inference, config) for networks in own]
    models = StackedInference([networks.inference for networks in own])
    together = InferenceTraining(models, config)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(RUNS * 6, 12, 6, generator=generator).double()
    code = torch.rand(RUNS * 6, 2, generator=generator).double()
    found = together.begin(
        inputs, code, 3, [torch.Generator().manual_seed(run) for run in range(RUNS)]
    )()
    for run, training in enumerate(alone):
        lanes = slice(6 * run, 6 * run + 6)
        wanted = training.update(inputs[lanes], code[lanes], 3, torch.Generator().manual_seed(run))
        assert found[run] == pytest.approx(wanted, rel=1e-10)
        parameters = own[run].inference.parameters()
        for whole, parameter in zip(models.parameters(), parameters, strict=True):
            close(whole[run].detach(), parameter.detach())


def test_gradient_steps_inside_an_episode_are_not_stacked() -> None:
    config, own = inference_of("ssm", 2, **{"meta.num_inner_steps": 1})
    models = StackedInference([networks.inference for networks in own])
    wanted = "`meta.num_inner_steps` must be 0 where several seeds are trained at once, but is 1"
    with pytest.raises(ValueError, match=wanted):
        InferenceTraining(models, config)


# ------------------------------------------------------------------------------- operators, reads


def counted(work: Callable[[], Any]) -> Counting:
    work()  # once before, so that optimisers have their moments
    with Counting() as counting:
        work()
    return counting


def sac_update(num_runs: int, device: torch.device) -> Callable[[], Any]:
    """An update of actor and critics; of a single seed without the axis of seeds."""
    own = networks_of(num_runs)
    batches, drawn = [random_batch(M, run) for run in range(num_runs)], noise(0)
    if num_runs == 1:
        networks, batch = own[0], batches[0]
    else:
        networks, batch = ContextNetworks.stacked(own), joined(batches)
        drawn = torch.stack([drawn] * num_runs, 1)
    networks = networks.to(device)
    batch, drawn = Batch(*(leaf.to(device) for leaf in batch)), drawn.to(device)
    sac = SoftActorCritic(networks, CONFIG.meta, fused=device.type == "cpu")
    return lambda: sac.update(batch, drawn, moves_actor=True)


def inference_update(method: str, num_runs: int, device: torch.device) -> Callable[[], Any]:
    config, own = inference_of(method, num_runs)
    models = [networks.to(device).inference for networks in own]
    lanes = torch.randn(num_runs, 4, 12, 6, device=device, dtype=torch.float64)
    code = torch.rand(num_runs, 4, 2, device=device, dtype=torch.float64)
    if num_runs == 1:
        training = InferenceTraining(models[0], config, device)
        return lambda: training.plain_update(lanes[0], code[0])
    training = InferenceTraining(StackedInference(models), config, device)
    return lambda: training.plain_update(lanes, code)


def test_sixteen_seeds_take_hardly_more_operators_than_one() -> None:
    cpu = torch.device("cpu")
    one, many = (counted(sac_update(num_runs, cpu)).num_calls for num_runs in (1, 16))
    assert many <= 1.2 * one, (one, many)


@every_method
def test_so_do_their_inference_models(method: str) -> None:
    """With the scan of a device that is no CPU, which is the one that counts.

    Views start nothing there. The default has hardly more even with them, others up to 1.26.
    """
    one, many = (counted(inference_update(method, runs, META)) for runs in (1, 16))
    assert many.num_calls - many.num_views <= 1.2 * (one.num_calls - one.num_views)
    assert many.num_calls <= (1.2 if method == "ssm" else 1.3) * one.num_calls


def test_a_stacked_update_reads_no_tensors_value() -> None:
    losses = sac_update(RUNS, META)()
    assert losses.critic.is_meta
    assert losses.critic.shape == (RUNS,)


@every_method
def test_nor_does_that_of_stacked_inference_models(method: str) -> None:
    loss, error = inference_update(method, RUNS, META)()
    assert loss.is_meta
    assert loss.shape == error.shape == (RUNS,)
