"""The meta-gradient against finite differences and against its plain, looped twin."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ssmrl.config import METHODS, PolicyConfig
from ssmrl.meta.emaml import emaml_loss
from ssmrl.meta.gradient import Distribution, Sample, adapt, make_sample
from ssmrl.meta.inner import stack_params
from ssmrl.meta.promp import promp_loss
from ssmrl.meta.settings import GradientSettings
from ssmrl.meta.trpo import trpo_loss
from ssmrl.models.actor import GaussianActor, make_actor
from ssmrl.types import Params
from tests.ssmrl.meta.plain_promp import (
    action_distribution,
    adapt_task,
    plain_meta_loss,
    task_of,
)
from tests.ssmrl.meta.random_trajectory import (
    TINY,
    A,
    N,
    O,
    detached,
    random_batch,
    random_trajectory,
    tiny_actor,
    tiny_config,
)

every_method = pytest.mark.parametrize("method", METHODS)
every_depth = pytest.mark.parametrize("num_inner_steps", [1, 2])
FIRST_ORDER = dataclasses.replace(TINY, first_order=True)
every_other = pytest.mark.parametrize("algorithm", ["maml-trpo", "e-maml"])
with_and_without_memory = pytest.mark.parametrize("method", ["mlp", "ssm"])
ADJUSTED = torch.tensor([1.3, -0.9, -0.4]).double()
"""What E-MAML multiplies with, one number per task."""
DEEPER = {
    "ssm, deep and gated": PolicyConfig("ssm", 2, 3, init_std=0.7, num_layers=2, gated=True),
    "transformer, narrow window": PolicyConfig(
        "transformer", hidden_dim=4, init_std=0.7, num_layers=2, num_heads=2, window=3
    ),
}
"""Shapes that a tiny actor of the same method leaves out."""


def actor_of(name: str) -> GaussianActor:
    """A tiny actor of a method, or one of the deeper ones; with random parameters."""
    if name in METHODS:
        return tiny_actor(name)
    generator = torch.Generator().manual_seed(0)
    actor = make_actor(DEEPER[name], O, A, generator).double()
    with torch.no_grad():
        for parameter in actor.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator).double())
    return actor


class Problem:
    """A meta-batch, and meta-parameters that have already moved away from those that sampled."""

    def __init__(
        self,
        method: str,
        num_inner_steps: int,
        algorithm: str = "promp",
        first_order: bool = False,
    ) -> None:
        self.actor: GaussianActor = actor_of(method)
        self.algorithm = algorithm
        self.config = config = tiny_config(algorithm, first_order=first_order).meta
        supports, query = random_batch(self.actor, num_inner_steps)
        self.supports = [make_sample(support, config) for support in supports]
        self.query: Sample = make_sample(query, config)
        self.adjusted_return = ADJUSTED if algorithm == "e-maml" else None
        self.old_params = detached(self.actor)
        self.params = {
            name: value + 0.05 * torch.sin(torch.arange(value.numel()) + len(name)).view_as(value)
            for name, value in self.old_params.items()
        }
        _, (self.sampled_from, _) = promp_loss(
            self.actor, self.old_params, self.supports, self.query, None, TINY
        )

    def loss(self, params: Params) -> Tensor:
        batch = (self.actor, params, self.supports, self.query)
        if self.algorithm == "maml-trpo":
            return trpo_loss(*batch, self.config)
        if self.algorithm == "e-maml":
            return emaml_loss(*batch, self.sampled_from, self.config, ADJUSTED)[0]
        return promp_loss(*batch, self.sampled_from, self.config)[0]

    def gradient(self) -> Params:
        gradient: Params = torch.func.grad(self.loss)(self.params)
        return gradient

    def plain(self) -> tuple[Tensor, Params]:
        params = {name: value.clone().requires_grad_() for name, value in self.params.items()}
        loss = plain_meta_loss(
            self.actor,
            params,
            self.supports,
            self.query,
            self.old_params,
            self.config,
            self.adjusted_return,
        )
        gradients = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
        return loss.detach(), {
            name: torch.zeros_like(params[name]) if gradient is None else gradient
            for name, gradient in zip(params, gradients, strict=True)
        }


def flat(params: Params) -> Tensor:
    return torch.cat([value.flatten() for value in params.values()])


def relative_error(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).norm() / wanted.norm())


def finite_differences(problem: Problem, width: float = 1e-5) -> Tensor:
    """Central differences in every coordinate of the meta-parameters, many at a time."""
    here = flat(problem.params)

    def loss(there: Tensor) -> Tensor:
        parts = there.split([value.numel() for value in problem.params.values()])
        moved = zip(problem.params.items(), parts, strict=True)
        return problem.loss({name: part.view_as(value) for (name, value), part in moved})

    steps = width * torch.eye(len(here), dtype=here.dtype)
    losses = torch.func.vmap(loss, chunk_size=64)(torch.cat([here + steps, here - steps]))
    torch.testing.assert_close(losses[0], loss(here + steps[0]), rtol=1e-13, atol=1e-13)
    ahead, behind = losses.chunk(2)
    return (ahead - behind) / (2.0 * width)


@every_depth
@pytest.mark.parametrize("method", [*METHODS, *DEEPER])
def test_equals_finite_differences(method: str, num_inner_steps: int) -> None:
    """Law 8. The loss here has all its terms: ratios beyond the clip, and a divergence."""
    problem = Problem(method, num_inner_steps)
    assert relative_error(flat(problem.gradient()), finite_differences(problem)) < 1e-6


@every_depth
@every_method
def test_equals_the_plain_loop_over_tasks_and_time(method: str, num_inner_steps: int) -> None:
    problem = Problem(method, num_inner_steps)
    loss, gradient = problem.plain()
    torch.testing.assert_close(problem.loss(problem.params), loss, rtol=1e-11, atol=1e-11)
    for name, value in problem.gradient().items():
        torch.testing.assert_close(value, gradient[name], rtol=1e-9, atol=1e-10)


@every_depth
@every_method
def test_first_order_equals_its_plain_loop_and_not_the_second_order(
    method: str, num_inner_steps: int
) -> None:
    problem = Problem(method, num_inner_steps, first_order=True)
    gradient = flat(problem.gradient())
    assert relative_error(gradient, flat(problem.plain()[1])) < 1e-10
    second_order = Problem(method, num_inner_steps)
    torch.testing.assert_close(problem.loss(problem.params), second_order.loss(second_order.params))
    assert relative_error(gradient, flat(second_order.gradient())) > 1e-2


@every_depth
@every_other
@with_and_without_memory
def test_the_other_algorithms_equal_finite_differences(
    method: str, algorithm: str, num_inner_steps: int
) -> None:
    problem = Problem(method, num_inner_steps, algorithm)
    assert relative_error(flat(problem.gradient()), finite_differences(problem)) < 1e-6


@every_depth
@pytest.mark.parametrize("first_order", [False, True], ids=["second", "first"])
@every_other
@with_and_without_memory
def test_the_other_algorithms_equal_their_plain_loops(
    method: str, algorithm: str, first_order: bool, num_inner_steps: int
) -> None:
    problem = Problem(method, num_inner_steps, algorithm, first_order)
    loss, gradient = problem.plain()
    torch.testing.assert_close(problem.loss(problem.params), loss, rtol=1e-11, atol=1e-11)
    for name, value in problem.gradient().items():
        torch.testing.assert_close(value, gradient[name], rtol=1e-9, atol=1e-10)


@with_and_without_memory
def test_emaml_credits_the_experience_that_adaptation_profited_from(method: str) -> None:
    """At the sampling point: minus the mean of ``adjusted return * grad log pi``, beside ProMP."""
    actor = tiny_actor(method)
    support, query = (make_sample(random_trajectory(actor, seed), TINY) for seed in (1, 2))

    def gradient(loss: Callable[..., tuple[Tensor, object]], *last: object) -> Params:
        return torch.func.grad(
            lambda params: loss(actor, params, [support], query, None, TINY, *last)[0]
        )(detached(actor))

    params = {name: value.requires_grad_() for name, value in detached(actor).items()}
    credit = torch.zeros(()).double()
    for index in range(N):
        part = task_of(support, index)
        log_prob = action_distribution(actor, params, part).log_prob(part.action).sum(-1)
        credit = credit - ADJUSTED[index] * log_prob.mean() / N
    wanted = torch.autograd.grad(credit, list(params.values()))
    ours, promp = gradient(emaml_loss, ADJUSTED), gradient(promp_loss)
    for name, value in zip(params, wanted, strict=True):
        torch.testing.assert_close(ours[name] - promp[name], value, rtol=1e-9, atol=1e-11)


@every_method
def test_every_term_matters(method: str) -> None:
    """Guards the tests above: a term whose weight were lost would pass them all."""
    problem = Problem(method, 1)
    gradient = flat(problem.gradient())
    for change in ({"inner_kl": 0.0}, {"clip": 100.0}, {"inner_lr": 0.01}):
        problem.config = dataclasses.replace(TINY, **change)
        assert relative_error(flat(problem.gradient()), gradient) > 1e-3, change


@every_method
def test_the_divergence_vanishes_where_the_experience_was_sampled(method: str) -> None:
    """There, leaving it out (the first epoch does) changes neither the loss nor its gradient."""
    problem = Problem(method, 2)
    results = []
    for old in (None, problem.sampled_from):

        def loss(params: Params, old: list[Distribution] | None = old) -> tuple[Tensor, Tensor]:
            value, (_, kl) = promp_loss(
                problem.actor, params, problem.supports, problem.query, old, TINY
            )
            return value, kl

        gradient, kl = torch.func.grad(loss, has_aux=True)(problem.old_params)
        assert abs(float(kl)) < 1e-14
        results.append(flat(gradient))
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("config", [TINY, FIRST_ORDER], ids=["second", "first"])
@every_method
def test_adapting_all_tasks_equals_adapting_one_after_the_other(
    method: str, config: GradientSettings
) -> None:
    """Twice in a row, so that the second step starts from different parameters per task."""
    actor = tiny_actor(method)
    samples = [make_sample(random_trajectory(actor, seed, 0.1), config) for seed in (1, 2)]
    together = stack_params(detached(actor), N)
    alone = [{k: v.requires_grad_() for k, v in detached(actor).items()} for _ in range(N)]
    for sample in samples:
        together = adapt(actor, together, sample, config)
        alone = [
            adapt_task(actor, params, task_of(sample, index), config)
            for index, params in enumerate(alone)
        ]
    for name, value in together.items():
        wanted = torch.stack([params[name] for params in alone]).detach()
        torch.testing.assert_close(value, wanted, rtol=1e-10, atol=1e-11)
        assert (value[0] != value[1]).any()


@every_method
def test_adapting_a_few_tasks_at_a_time_gives_the_same_bits(method: str) -> None:
    actor = tiny_actor(method)
    sample = make_sample(random_trajectory(actor, 1), TINY)
    params = stack_params(detached(actor), N)
    together = adapt(actor, params, sample, TINY)
    one_by_one = adapt(actor, params, sample, TINY, rows_at_once=1)
    assert all(torch.equal(one_by_one[name], together[name]) for name in together)


@every_method
def test_adapting_does_not_read_the_actors_own_parameters(method: str) -> None:
    """Law 2: the actor is a structure; the values come as an argument."""
    actor, other = tiny_actor(method), tiny_actor(method, seed=5)
    sample = make_sample(random_trajectory(actor, 1), TINY)
    params = stack_params(detached(actor), N)
    ours, theirs = (adapt(each, params, sample, TINY) for each in (actor, other))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
