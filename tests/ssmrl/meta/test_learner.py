"""The outer loop's optimiser: what it changes, what it saves, and when it refuses."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from ssmrl.config import METHODS
from ssmrl.meta import learner as learner_module
from ssmrl.meta import trpo
from ssmrl.meta.algorithms import ALGORITHMS
from ssmrl.meta.diverged import DivergedError
from ssmrl.meta.gradient import adapt, make_sample
from ssmrl.meta.inner import stack_params
from ssmrl.meta.learner import MetaLearner
from ssmrl.models.actor import encoder_names
from ssmrl.types import Trajectory
from tests.ssmrl.meta.plain_promp import plain_meta_loss
from tests.ssmrl.meta.random_trajectory import (
    TINY,
    B,
    N,
    T,
    detached,
    random_batch,
    random_trajectory,
    tiny_actor,
    tiny_config,
)

every_method = pytest.mark.parametrize("method", METHODS)
GRADIENT = [name for name, algorithm in ALGORITHMS.items() if algorithm.kind == "gradient"]
every_algorithm = pytest.mark.parametrize("algorithm", GRADIENT)
every_other = pytest.mark.parametrize("algorithm", ["maml-trpo", "e-maml"])
with_and_without_memory = pytest.mark.parametrize("method", ["mlp", "ssm"])


CONFIG = tiny_config("promp")


def learner_of(method: str, algorithm: str) -> MetaLearner:
    return MetaLearner(tiny_actor(method), tiny_config(algorithm))


@every_method
def test_an_update_is_adam_on_the_plain_meta_gradient(method: str) -> None:
    """Two epochs: the second one differs from the first by the ratio, the clip and the KL."""
    actor, twin = tiny_actor(method), tiny_actor(method)
    learner = MetaLearner(actor, CONFIG)
    optimizer = torch.optim.Adam(twin.parameters(), lr=TINY.outer_lr)
    for iteration in range(2):
        supports, query = random_batch(actor, 2, seed=iteration)
        samples = [make_sample(each, TINY) for each in (*supports, query)]
        sampling, losses = detached(twin), []
        for epoch in range(TINY.num_epochs):
            params = dict(twin.named_parameters())
            old = None if epoch == 0 else sampling
            loss = plain_meta_loss(twin, params, samples[:-1], samples[-1], old, TINY)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        statistics = learner.update(supports, query)
        for name, value in actor.named_parameters():
            wanted = twin.get_parameter(name)
            torch.testing.assert_close(value, wanted, rtol=1e-8, atol=1e-9)
        assert statistics["loss_first"] == pytest.approx(losses[0], rel=1e-9)
        assert statistics["loss_last"] == pytest.approx(losses[-1], rel=1e-9)
        assert statistics["divergence"] > 0.0
        assert statistics["gradient_norm"] > 0.0


@pytest.mark.parametrize("rows", [1, 2 * B * T])
@every_method
def test_how_many_tasks_are_held_in_memory_together_changes_nothing(
    method: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The meta-gradient is a mean over tasks, also where the last part is a smaller one."""
    together = MetaLearner(tiny_actor(method), CONFIG)
    batch = random_batch(tiny_actor(method), 2)
    wanted = together.update(*batch)
    monkeypatch.setattr(learner_module, "rows_at_once", lambda *_: rows)
    apart = MetaLearner(tiny_actor(method), CONFIG)
    got = apart.update(*batch)
    assert got == pytest.approx(wanted, rel=1e-9)
    for name, value in apart.params().items():
        torch.testing.assert_close(value, together.params()[name], rtol=1e-9, atol=1e-11)


@every_other
@with_and_without_memory
def test_nor_does_it_for_the_other_algorithms(
    method: str, algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each product of the trust region is a mean over tasks; three show it as well as ten."""
    monkeypatch.setattr(trpo, "NUM_DIRECTIONS", 3)
    together = learner_of(method, algorithm)
    batch = random_batch(tiny_actor(method), 2)
    wanted = together.update(*batch)
    for rows in (1, 2 * B * T):
        monkeypatch.setattr(learner_module, "rows_at_once", lambda *_, rows=rows: rows)
        apart = learner_of(method, algorithm)
        assert apart.update(*batch) == pytest.approx(wanted, rel=1e-7)
        for name, value in apart.params().items():
            torch.testing.assert_close(value, together.params()[name], rtol=1e-7, atol=1e-9)


class Sums:
    """What learners in threads of their own add up with: each waits for all the others."""

    def __init__(self, num_learners: int) -> None:
        self._barrier = threading.Barrier(num_learners, timeout=60.0)
        self._vectors: list[Tensor | None] = [None] * num_learners

    def of_learner(self, index: int) -> Callable[[Tensor], Tensor]:
        def add_up(vector: Tensor) -> Tensor:
            assert vector.ndim == 1
            self._vectors[index] = vector
            self._barrier.wait()
            total = torch.stack([each for each in self._vectors if each is not None]).sum(0)
            self._barrier.wait()
            return total

        return add_up


@every_algorithm
@with_and_without_memory
def test_learners_that_share_a_meta_batch_are_one(method: str, algorithm: str) -> None:
    """Two of the tasks here, one there: every mean over tasks is a sum over both."""
    alone = learner_of(method, algorithm)
    sharing = [learner_of(method, algorithm) for _ in range(2)]
    shares = [slice(0, 2), slice(2, N)]
    sums = Sums(2)
    supports, query = random_batch(tiny_actor(method), 2)

    def update(index: int) -> dict[str, float]:
        mine = [Trajectory(*(leaf[shares[index]] for leaf in each)) for each in (*supports, query)]
        return sharing[index].update(
            mine[:-1], mine[-1], num_tasks=N, sum_over_learners=sums.of_learner(index)
        )

    with ThreadPoolExecutor(2) as threads:
        got = list(threads.map(update, range(2)))
    wanted = alone.update(supports, query)
    assert got[0] == got[1]
    assert got[0] == pytest.approx(wanted, rel=1e-7)
    for name, value in alone.params().items():
        torch.testing.assert_close(sharing[0].params()[name], value, rtol=1e-7, atol=1e-9)
        assert torch.equal(sharing[0].params()[name], sharing[1].params()[name])


@with_and_without_memory
def test_emaml_weighs_with_the_discounted_returns_after_the_adaptation(method: str) -> None:
    """Those of the episodes that start the lanes, standardised by hand; two steps of Adam."""
    config = TINY
    actor, twin = tiny_actor(method), tiny_actor(method)
    supports, query = random_batch(actor, 2)
    returns = torch.zeros(N).double()
    for n in range(N):
        for lane in range(B):
            for t in range(T):
                returns[n] += config.discount**t * query.reward[n, lane, t] / B
                if query.terminated[n, lane, t]:
                    break
    adjusted = (returns - returns.mean()) / returns.std(correction=0)
    samples = [make_sample(each, config) for each in (*supports, query)]
    optimizer = torch.optim.Adam(twin.parameters(), lr=config.outer_lr)
    sampling = detached(twin)
    for epoch in range(config.num_epochs):
        params, old = dict(twin.named_parameters()), None if epoch == 0 else sampling
        loss = plain_meta_loss(twin, params, samples[:-1], samples[-1], old, config, adjusted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    learner = MetaLearner(actor, tiny_config("e-maml"))
    before = float(learner.loss(supports, query))
    statistics = learner.update(supports, query)
    assert before == pytest.approx(statistics["loss_first"], rel=1e-9)
    assert statistics["loss_last"] == pytest.approx(float(loss.detach()), rel=1e-6)
    for name, value in actor.named_parameters():
        torch.testing.assert_close(value, twin.get_parameter(name), rtol=1e-6, atol=1e-8)


@every_method
def test_the_sequence_encoder_has_a_step_size_of_its_own(method: str) -> None:
    """Adam's first step is its step size in every parameter with a gradient, so it can be read."""
    actor = tiny_actor(method)
    config = tiny_config("promp", num_epochs=1, encoder_lr_scale=0.1)
    learner = MetaLearner(actor, config)
    before = {name: value.clone() for name, value in learner.params().items()}
    learner.update(*random_batch(actor, 1))
    largest = {
        name: float((value - before[name]).abs().max()) / config.meta.outer_lr
        for name, value in learner.params().items()
    }
    slow = encoder_names(actor)
    assert slow
    assert largest.keys() - slow == {"log_std", "policy.head.weight", "policy.head.bias"}
    for name, moved in largest.items():
        assert moved == pytest.approx(0.1 if name in slow else 1.0, rel=0.01), name


@every_method
def test_updates_on_one_batch_lower_its_loss(method: str) -> None:
    config = tiny_config("promp", num_epochs=10, outer_lr=1e-3)
    learner = MetaLearner(tiny_actor(method), config)
    batch = random_batch(tiny_actor(method), 1)
    before = learner.loss(*batch)
    params = learner.params()
    assert torch.equal(learner.loss(*batch), before), "asking for the loss changes nothing"
    statistics = learner.update(*batch)
    assert statistics["loss_first"] == pytest.approx(float(before))
    assert float(learner.loss(*batch)) < float(before)
    assert params.keys() == learner.params().keys()


@every_method
def test_a_learner_adapts_as_promp_does(method: str) -> None:
    actor = tiny_actor(method)
    support = random_trajectory(actor, 1)
    params = stack_params(detached(actor), N)
    ours = MetaLearner(actor, CONFIG).adapt(params, support)
    theirs = adapt(actor, params, make_sample(support, TINY), TINY)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("num_updates", [0, 2])
@every_method
def test_a_restored_learner_continues_bit_for_bit(method: str, num_updates: int) -> None:
    """Without Adam's moments and step count the continuation would differ from the first update."""
    learner = MetaLearner(tiny_actor(method), CONFIG)
    for seed in range(num_updates):
        learner.update(*random_batch(tiny_actor(method), 1, seed))
    saved = learner.state()
    copies = {name: value.clone() for name, value in saved.items()}
    restored = MetaLearner(tiny_actor(method, seed=9), CONFIG)
    restored.update(*random_batch(tiny_actor(method), 1, seed=7))
    restored.load_state(saved)
    for seed in (20, 21):
        batch = random_batch(tiny_actor(method), 1, seed)
        assert learner.update(*batch) == restored.update(*batch)
    ours, theirs = learner.state(), restored.state()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert all(torch.equal(saved[name], copies[name]) for name in saved), "a state is a copy"


@with_and_without_memory
def test_a_restored_learner_of_a_trust_region_needs_no_more_than_its_parameters(
    method: str,
) -> None:
    learner = learner_of(method, "maml-trpo")
    learner.update(*random_batch(tiny_actor(method), 1))
    saved = learner.state()
    assert saved.keys() == {f"actor.{name}" for name in learner.params()}
    restored = learner_of(method, "maml-trpo")
    restored.load_state(saved)
    batch = random_batch(tiny_actor(method), 1, seed=1)
    assert learner.update(*batch) == restored.update(*batch)
    assert all(torch.equal(value, restored.state()[k]) for k, value in learner.state().items())


def test_a_state_names_what_it_holds() -> None:
    learner = MetaLearner(tiny_actor("mlp"), CONFIG)
    learner.update(*random_batch(tiny_actor("mlp"), 1))
    names = set(learner.state())
    parameters = set(learner.params())
    assert names == {f"actor.{p}" for p in parameters} | {
        f"optimizer.{key}.{p}" for key in ("step", "exp_avg", "exp_avg_sq") for p in parameters
    }
    incomplete = {k: v for k, v in learner.state().items() if k != "actor.log_std"}
    with pytest.raises(KeyError, match="log_std"):
        learner.load_state(incomplete)


@pytest.mark.parametrize("field", ["reward", "observation", "log_prob"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@every_method
def test_what_is_not_finite_is_not_applied(method: str, value: float, field: str) -> None:
    """One broken step of one lane must not destroy the meta-parameters of the whole run."""
    actor = tiny_actor(method)
    learner = MetaLearner(actor, CONFIG)
    learner.update(*random_batch(actor, 1))
    before = learner.state()
    supports, query = random_batch(actor, 1, seed=2)
    broken = getattr(query, field).clone()
    broken[0, 0, 3] = -value if field == "log_prob" else value
    with pytest.raises(DivergedError, match=r"not finite in epoch 0 .* lower `meta.inner_lr`"):
        learner.update(supports, query._replace(**{field: broken}))
    after = learner.state()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("field", ["reward", "observation", "log_prob"])
@every_other
@with_and_without_memory
def test_nor_is_it_by_the_other_algorithms(method: str, algorithm: str, field: str) -> None:
    learner = learner_of(method, algorithm)
    before = learner.state()
    supports, query = random_batch(tiny_actor(method), 1)
    broken = getattr(query, field).clone()
    broken[0, 0, 3] = float("nan")
    with pytest.raises(DivergedError, match=r"not finite in epoch 0 .* lower `meta.inner_lr`"):
        learner.update(supports, query._replace(**{field: broken}))
    after = learner.state()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@every_algorithm
def test_first_order_is_a_setting_of_the_learner(algorithm: str) -> None:
    batch = random_batch(tiny_actor("ssm"), 1)
    results = []
    for first_order in (False, True):
        config = tiny_config(algorithm, first_order=first_order)
        learner = MetaLearner(tiny_actor("ssm"), config)
        results.append(learner.update(*batch))
    assert results[0]["loss_first"] == results[1]["loss_first"]
    assert results[0]["loss_last"] != results[1]["loss_last"]


def test_a_learner_of_memory_is_not_made_here() -> None:
    config = tiny_config("context-sac")
    with pytest.raises(ValueError, match="'context-sac', which adapts by memory"):
        MetaLearner(tiny_actor("ssm"), config)
