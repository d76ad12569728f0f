"""The trust region: its geometry against finite differences, and the step that is taken in it."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from ssmrl.config import TrainConfig
from ssmrl.meta import trpo
from ssmrl.meta.diverged import DivergedError
from ssmrl.meta.gradient import Distribution, adapted_distribution, make_sample
from ssmrl.meta.initial_actor import initial_actor
from ssmrl.meta.learner import MetaLearner
from ssmrl.meta.trust_region import (
    DAMPING,
    MAX_BACKTRACKS,
    conjugate_gradient,
    fisher_product,
    from_vector,
    line_search,
    step_length,
    to_vector,
)
from ssmrl.models.actor import GaussianActor
from ssmrl.rollout.adaptation import collect_adapting
from ssmrl.rollout.assignment import train_assignment
from ssmrl.rollout.worker import RolloutWorker
from ssmrl.types import Params, Trajectory
from tests.contracts.property_settings import PROPERTY
from tests.ssmrl.meta.random_trajectory import detached, random_batch, tiny_actor, tiny_config

CONFIG = tiny_config("maml-trpo")
TRPO = CONFIG.meta
every_depth = pytest.mark.parametrize("num_inner_steps", [1, 2])
with_and_without_memory = pytest.mark.parametrize("method", ["mlp", "ssm"])


def positive_matrix(seed: int, size: int) -> tuple[Tensor, Tensor]:
    """A symmetric positive definite matrix and a vector."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(size, size, generator=generator).double()
    target = torch.randn(size, generator=generator).double()
    return root @ root.T + 0.1 * torch.eye(size).double(), target


@PROPERTY
@given(seed=st.integers(0, 2**20), size=st.integers(1, 10))
def test_conjugate_gradients_solve_a_system_in_as_many_steps_as_it_has_dimensions(
    seed: int, size: int
) -> None:
    matrix, target = positive_matrix(seed, size)
    solution = conjugate_gradient(lambda x: matrix @ x, target, size)
    wanted = torch.linalg.solve(matrix, target)
    torch.testing.assert_close(solution, wanted, rtol=1e-6, atol=1e-6 * float(wanted.norm()))


def test_each_conjugate_direction_comes_nearer_in_the_norm_of_the_matrix() -> None:
    matrix, target = positive_matrix(0, 10)
    wanted = torch.linalg.solve(matrix, target)

    def distance(num_steps: int) -> float:
        error = conjugate_gradient(lambda x: matrix @ x, target, num_steps) - wanted
        return float(error @ matrix @ error)

    distances = [distance(num_steps) for num_steps in range(10)]
    assert distances == sorted(distances, reverse=True)
    assert len(set(distances)) == 10


def test_rounding_does_not_decide_on_the_later_directions() -> None:
    """Unless residuals are kept orthogonal, not one of single precision's seven digits is left."""
    generator = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(20, 20, generator=generator).double())
    spectrum = torch.logspace(1, -5, 20).double()
    matrix = basis @ torch.diag(spectrum) @ basis.T
    target = basis @ (spectrum.sqrt() * torch.randn(20, generator=generator).double())
    exact = conjugate_gradient(lambda x: matrix @ x, target, 10)
    single = conjugate_gradient(lambda x: matrix.float() @ x, target.float(), 10).double()
    assert float((single - exact).norm() / exact.norm()) < 1e-4


def test_conjugate_gradients_stop_where_nothing_is_left() -> None:
    """Another step would divide 0 by 0."""
    num_products = 0

    def product(x: Tensor) -> Tensor:
        nonlocal num_products
        num_products += 1
        return 2.0 * x

    target = torch.tensor([3.0, -4.0])
    assert torch.equal(conjugate_gradient(product, target, 10), target / 2.0)
    assert num_products == 1
    assert torch.equal(conjugate_gradient(product, torch.zeros(2), 10), torch.zeros(2))
    assert num_products == 1
    flat = conjugate_gradient(torch.zeros_like, target, 10)
    assert torch.equal(flat, torch.zeros(2)), "without curvature there is no way to go"


def test_the_longest_step_reaches_the_bound_by_hand() -> None:
    # Curvature 2 * 3^2 + 0.5 * 4^2 = 26; a step of length s diverges by 13 s^2, 0.01 at s = 0.0277.
    direction = torch.tensor([3.0, 4.0])
    image = direction * torch.tensor([2.0, 0.5])
    length = step_length(direction, image, 0.01)
    assert 0.5 * length**2 * 26.0 == pytest.approx(0.01)
    assert step_length(direction, 0.0 * image, 0.01) == 0.0
    assert step_length(direction, -image, 0.01) == 0.0
    for broken in (float("nan"), float("inf")):
        assert not step_length(direction, broken * image, 0.01) < float("inf")


NAN = float("nan")


@pytest.mark.parametrize(
    ("loss", "divergence", "num_backtracks"),
    [
        (lambda f: -f, lambda f: 0.01 * f * f, 0),
        (lambda f: -f, lambda f: 0.011 * f * f, 1),  # 0.011 is too far, 0.011 * 0.64 is not
        (lambda f: f * (f - 0.5), lambda f: 0.0, 4),  # 0.8^3 = 0.512, 0.8^4 = 0.41
        (lambda f: NAN if f > 0.6 else -f, lambda f: 0.0, 3),
        (lambda f: -f, lambda f: NAN if f > 0.7 else 0.0, 2),
        (lambda f: 0.0, lambda f: 0.0, MAX_BACKTRACKS),  # no better is not good enough
        (lambda f: -f, lambda f: NAN, MAX_BACKTRACKS),
        (lambda f: -f, lambda f: 0.02, MAX_BACKTRACKS),
    ],
)
def test_the_search_takes_the_longest_step_that_is_good_and_trusted(
    loss: Callable[[float], float], divergence: Callable[[float], float], num_backtracks: int
) -> None:
    found = line_search(lambda fraction: (loss(fraction), divergence(fraction)), 0.0, 0.01)
    assert found.num_backtracks == num_backtracks
    if num_backtracks == MAX_BACKTRACKS:
        assert (found.fraction, found.loss, found.divergence) == (0.0, 0.0, 0.0)
    else:
        assert found.fraction == pytest.approx(0.8**num_backtracks)
        assert found.loss == loss(found.fraction)
        assert found.divergence == divergence(found.fraction)


def test_a_vector_of_parameters_makes_a_round_trip() -> None:
    params = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor(7.0)}
    vector = to_vector(params)
    assert vector.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0]
    back = from_vector(vector, params)
    assert list(back) == ["b", "a"]
    assert all(torch.equal(back[name], params[name]) for name in params)


class Problem:
    """A meta-batch, the policies adapted in it, and how far other ones are from them."""

    def __init__(self, method: str, num_inner_steps: int) -> None:
        self.actor = tiny_actor(method)
        self.params = detached(self.actor)
        self.supports, self.query = random_batch(self.actor, num_inner_steps)
        self.here = self.adapted(self.params)

    def adapted(self, params: Params) -> Distribution:
        samples = [make_sample(each, TRPO) for each in (*self.supports, self.query)]
        return adapted_distribution(self.actor, params, samples[:-1], samples[-1], TRPO)

    def divergence(self, params: Params) -> Tensor:
        return mean_divergence(self.here, self.adapted(params))

    def fisher_by_differences(self, width: float = 1e-5) -> Tensor:
        """Second derivative of the divergence: central differences of its gradient."""
        here = to_vector(self.params)

        def gradient(there: Tensor) -> Tensor:
            return to_vector(torch.func.grad(self.divergence)(from_vector(there, self.params)))

        steps = width * torch.eye(len(here)).double()
        gradients = torch.func.vmap(gradient, chunk_size=64)(
            torch.cat([here + steps, here - steps])
        )
        torch.testing.assert_close(gradients[0], gradient(here + steps[0]), rtol=1e-9, atol=1e-13)
        ahead, behind = gradients.chunk(2)
        return (ahead - behind) / (2.0 * width)

    def fisher(self) -> Tensor:
        product = fisher_product(self.adapted, self.params)

        def row(vector: Tensor) -> Tensor:
            return to_vector(product(from_vector(vector, self.params)))

        directions = torch.eye(len(to_vector(self.params))).double()
        rows = torch.func.vmap(row, chunk_size=64)(directions)
        torch.testing.assert_close(rows[3], row(directions[3]), rtol=1e-9, atol=1e-13)
        return rows


def mean_divergence(old: Distribution, new: Distribution) -> Tensor:
    """As ``torch.distributions`` has it."""
    first, second = (
        Normal(each.mean, each.log_std.exp()[:, None, None, :], validate_args=False)
        for each in (old, new)
    )
    return kl_divergence(first, second).sum(-1).mean()


@every_depth
@with_and_without_memory
def test_the_fisher_product_is_the_second_derivative_of_the_divergence(
    method: str, num_inner_steps: int
) -> None:
    """Law 8, through the adaptation: every row of the matrix."""
    problem = Problem(method, num_inner_steps)
    fisher, wanted = problem.fisher(), problem.fisher_by_differences()
    assert float((fisher - wanted).norm() / wanted.norm()) < 1e-6
    torch.testing.assert_close(fisher, fisher.T, rtol=1e-10, atol=1e-13)
    assert float(torch.linalg.eigvalsh(fisher).min()) > -1e-12
    spread = problem.params["log_std"].numel()
    assert float(fisher[:spread, :spread].norm()) > 1e-2, "the spread of the actions counts too"


@with_and_without_memory
def test_an_update_is_a_step_along_the_natural_gradient(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its plain twin: a dense matrix, solved; with as many directions as are needed for that."""
    monkeypatch.setattr(trpo, "NUM_DIRECTIONS", 1000)
    monkeypatch.setattr(trpo, "DAMPING", 1e-3)
    problem = Problem(method, 1)
    learner = MetaLearner(problem.actor, CONFIG)
    samples = [make_sample(each, TRPO) for each in (*problem.supports, problem.query)]

    def loss(params: Params) -> Tensor:
        return trpo.surrogate(problem.adapted(params), samples[-1])

    gradient = to_vector(torch.func.grad(loss)(problem.params))
    fisher = problem.fisher() + 1e-3 * torch.eye(len(gradient)).double()
    direction = torch.linalg.solve(fisher, gradient)
    longest = -(2.0 * TRPO.max_kl / (direction @ fisher @ direction)).sqrt() * direction
    statistics = learner.update(problem.supports, problem.query)
    fraction = 0.8 ** statistics["num_backtracks"]
    moved = to_vector(learner.params()) - to_vector(problem.params)
    assert statistics["num_backtracks"] < MAX_BACKTRACKS
    torch.testing.assert_close(moved, fraction * longest, rtol=1e-6, atol=1e-9)


def point_batch(method: str) -> tuple[GaussianActor, TrainConfig, list[Trajectory]]:
    """Real experience of a fresh policy, of the toy family."""
    config = TrainConfig.for_task("point", "maml-trpo").with_knobs(
        {
            "policy.method": method,
            "policy.hidden_dim": 16,
            "policy.state_dim": 8,
            "policy.init_std": 0.3,
            "meta.num_tasks": 6,
        }
    )
    actor = initial_actor(config)
    trajectories = collect_adapting(
        RolloutWorker(config.env, 1),
        actor,
        detached(actor),
        train_assignment(config, 0),
        config.meta,
        num_steps=1,
        num_episodes=10,
    )
    return actor, config, trajectories


@pytest.mark.parametrize("max_kl", [1e-3, 0.01, 0.1])
@with_and_without_memory
def test_a_step_gains_and_keeps_to_the_trust_region(method: str, max_kl: float) -> None:
    """On real experience, measured by other means than the update's own."""
    actor, config, trajectories = point_batch(method)
    config = config.with_knobs({"meta.max_kl": max_kl})
    meta = config.meta
    support, query = (make_sample(each, meta) for each in trajectories)
    learner = MetaLearner(actor, config)

    def measured() -> tuple[float, Distribution]:
        adapted = adapted_distribution(actor, learner.params(), [support], query, meta)
        policy = Normal(adapted.mean, adapted.log_std.exp()[:, None, None, :])
        ratio = (policy.log_prob(query.action).sum(-1) - query.log_prob).exp()
        return -float((ratio * query.advantage).mean()), adapted

    loss_before, before = measured()
    statistics = learner.update([trajectories[0]], trajectories[1])
    loss_after, after = measured()
    moved = float(mean_divergence(before, after))
    assert loss_after < loss_before - 1e-3
    assert 0.3 * max_kl < moved <= max_kl * (1.0 + 1e-5), "as far as it may, but for backtracking"
    assert statistics["loss_first"] == pytest.approx(loss_before, abs=1e-6)
    assert statistics["loss_last"] == pytest.approx(loss_after, abs=1e-6)
    assert statistics["divergence"] == pytest.approx(moved, rel=1e-3)
    assert statistics["num_backtracks"] < MAX_BACKTRACKS
    assert not learner.optimizer.state, "an optimiser has no part in it"


@with_and_without_memory
def test_a_hopeless_direction_changes_nothing(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    actor, config, trajectories = point_batch(method)
    learner = MetaLearner(actor, config)
    before = learner.state()
    monkeypatch.setattr(trpo, "conjugate_gradient", lambda *args: -conjugate_gradient(*args))
    statistics = learner.update([trajectories[0]], trajectories[1])
    assert statistics["num_backtracks"] == MAX_BACKTRACKS
    assert statistics["divergence"] == 0.0
    assert statistics["loss_last"] == statistics["loss_first"]
    after = learner.state()
    assert all(torch.equal(before[name], after[name]) for name in before)


@with_and_without_memory
def test_where_nothing_can_be_gained_no_step_is_taken(method: str) -> None:
    """Equal rewards have no gradient: a direction of length 0, which must not become NaN."""
    learner = MetaLearner(tiny_actor(method), CONFIG)
    supports, query = random_batch(tiny_actor(method), 1)
    idle = query._replace(reward=torch.zeros_like(query.reward))
    before = learner.state()
    statistics = learner.update(supports, idle)
    assert statistics["gradient_norm"] == 0.0
    assert statistics["num_backtracks"] == MAX_BACKTRACKS
    after = learner.state()
    assert all(torch.equal(before[name], after[name]) for name in before)


@with_and_without_memory
def test_a_curvature_that_is_not_finite_is_not_trusted(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = MetaLearner(tiny_actor(method), CONFIG)
    before = learner.state()
    monkeypatch.setattr(
        trpo,
        "fisher_product",
        lambda *_: lambda vector: {name: NAN * value for name, value in vector.items()},
    )
    with pytest.raises(DivergedError, match=r"curvature .* not finite.* lower `meta.inner_lr`"):
        learner.update(*random_batch(tiny_actor(method), 1))
    after = learner.state()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_damping_is_a_small_part_of_the_matrix() -> None:
    """It is there for directions without curvature, and must not shape the others."""
    problem = Problem("ssm", 1)
    assert float(torch.linalg.eigvalsh(problem.fisher()).max()) > 1000.0 * DAMPING
