"""Parts of a trust region step: its direction, its length, and the line search.

Pure functions; ``ssmrl.meta.trpo`` combines them.

References:
    Schulman et al. 2015, "Trust Region Policy Optimization", appendix C.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ssmrl.meta.gradient import Distribution
from ssmrl.types import Params

NUM_DIRECTIONS = 10
"""Steps of conjugate gradient per update."""

DAMPING = 1e-5
"""Added to the diagonal of the Fisher matrix, which has directions of zero curvature."""

BACKTRACKING = 0.8
"""Factor by which each try of the line search is shorter than the one before."""

MAX_BACKTRACKS = 15
"""Largest number of tries of the line search; if all fail, no step is taken."""


class Search(NamedTuple):
    """Result of the line search.

    Attributes:
        fraction: Accepted fraction of the step; 0 if none was accepted.
        loss: Loss at that fraction.
        divergence: Divergence at that fraction.
        num_backtracks: Number of failed tries; ``MAX_BACKTRACKS`` if none was accepted.
    """

    fraction: float
    loss: float
    divergence: float
    num_backtracks: int


def to_vector(params: Params) -> Tensor:
    """All values in one vector, in the order of the names."""
    return torch.cat([value.flatten() for value in params.values()])


def from_vector(vector: Tensor, like: Params) -> Params:
    """The inverse of ``to_vector``; names and shapes are those of ``like``."""
    parts = vector.split([value.numel() for value in like.values()])
    return {
        name: part.view_as(value) for (name, value), part in zip(like.items(), parts, strict=True)
    }


def fisher_product(
    distribution: Callable[[Params], Distribution], params: Params
) -> Callable[[Params], Params]:
    """The product of the policies' Fisher matrix with a vector.

    The Fisher matrix is the Hessian, at ``params``, of the policies' mean divergence from those at
    ``params``. The divergence has its minimum, 0, there, so the Hessian is ``J^T M J``. ``J`` is
    the Jacobian of means and log standard deviations; ``M`` is the divergence's Hessian in these.
    It is never negative and needs no derivatives of ``J``. Backward passes also give ``J v``:
    ``J^T u`` is linear in ``u``, so pulling ``v`` back through this map gives ``J v``.

    Args:
        distribution: Function from parameters to mean ``(N, B, T, A)`` and log std ``(N, A)``.
        params: Parameters at which the matrix is evaluated.

    Returns:
        A function from a vector to the product. It holds the graph of ``distribution`` and can be
        called any number of times.
    """
    here, pull_back, *_ = torch.func.vjp(distribution, params)
    nothing = Distribution(torch.zeros_like(here.mean), torch.zeros_like(here.log_std))
    _, push_back, *_ = torch.func.vjp(lambda change: pull_back(change)[0], nothing)
    num_tasks, num_lanes, num_steps, _ = here.mean.shape
    precision = torch.exp(-2.0 * here.log_std)[:, None, None, :]

    def product(vector: Params) -> Params:
        (change,) = push_back(vector)
        weighted = Distribution(
            precision * change.mean / (num_tasks * num_lanes * num_steps),
            2.0 * change.log_std / num_tasks,
        )
        result: Params = pull_back(weighted)[0]
        return result

    return product


def conjugate_gradient(
    product: Callable[[Tensor], Tensor], target: Tensor, num_steps: int
) -> Tensor:
    """An approximate solution ``x`` of ``A x = b``, exact after as many steps as dimensions.

    In exact arithmetic the residuals are orthogonal. Rounding soon destroys this if the eigenvalues
    of ``A`` are as far apart as those of a Fisher matrix. In the usual code the tenth step, in
    single precision, then depends on the summation order of the tasks. Here each residual is
    orthogonalised against the earlier ones, so the solution is accurate up to rounding.

    Args:
        product: Function from ``x`` to ``A x``; ``A`` is symmetric and positive definite.
        target: Right-hand side ``b``.
        num_steps: Largest number of products; it stops earlier once the residual is negligible.

    Returns:
        The solution ``x``; zero if ``b`` is zero.

    References:
        Hestenes and Stiefel 1952, "Methods of Conjugate Gradients for Solving Linear Systems";
        Parlett 1998, "The Symmetric Eigenvalue Problem", chapter 13 (the loss of orthogonality).
    """
    solution = torch.zeros_like(target)
    residual = direction = target
    remaining = residual @ residual
    negligible = float(remaining) * torch.finfo(target.dtype).eps ** 2
    units: list[Tensor] = []
    for _ in range(num_steps):
        if float(remaining) <= negligible:
            break
        units.append(residual / remaining.sqrt())
        image = product(direction)
        curvature = direction @ image
        if float(curvature) <= 0.0:  # Only by rounding: the solution cannot be improved.
            break
        length = remaining / curvature
        solution = solution + length * direction
        residual = _orthogonal(residual - length * image, units)
        previous, remaining = remaining, residual @ residual
        direction = residual + (remaining / previous) * direction
    return solution


def _orthogonal(vector: Tensor, units: list[Tensor]) -> Tensor:
    """The component of a vector orthogonal to others, which are orthonormal."""
    for _ in range(2):  # The second pass removes rounding errors of the first.
        for unit in units:
            vector = vector - (unit @ vector) * unit
    return vector


def step_length(direction: Tensor, image: Tensor, max_kl: float) -> float:
    """Length along a direction at which the quadratic model of the divergence reaches its bound.

    Args:
        direction: Direction ``x``.
        image: Product ``F x`` with the Fisher matrix ``F``.
        max_kl: Bound on ``(length x)^T F (length x) / 2``.

    Returns:
        The length; 0 if the curvature is not positive, NaN if it is not finite.
    """
    curvature = float(direction @ image)
    if curvature <= 0.0:
        return 0.0
    return math.sqrt(2.0 * max_kl / curvature) if math.isfinite(curvature) else math.nan


def line_search(
    evaluate: Callable[[float], tuple[float, float]], loss_before: float, max_kl: float
) -> Search:
    """Find the largest tried fraction of a step that lowers the loss within the trust region.

    Args:
        evaluate: Function from a fraction of the step to loss and divergence there.
        loss_before: Loss before the step; the new loss must be lower.
        max_kl: Largest allowed divergence.

    Example:
        >>> line_search(lambda f: (f * (f - 0.7), 0.02 * f * f), 0.0, 0.01).num_backtracks
        2
        >>> line_search(lambda fraction: (fraction, 0.0), 0.0, 0.01)
        Search(fraction=0.0, loss=0.0, divergence=0.0, num_backtracks=15)
    """
    for num_backtracks in range(MAX_BACKTRACKS):
        fraction = BACKTRACKING**num_backtracks
        loss, divergence = evaluate(fraction)
        if loss < loss_before and divergence <= max_kl:
            return Search(fraction, loss, divergence, num_backtracks)
    return Search(0.0, loss_before, 0.0, MAX_BACKTRACKS)
