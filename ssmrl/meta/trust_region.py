"""A step within a trust region: its direction, its length, and the search along it.

Functions of values; ``ssmrl.meta.trpo`` puts them together.

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
"""Conjugate directions that a step is made of."""

DAMPING = 1e-5
"""Added to the diagonal of the Fisher matrix, which has directions of no curvature at all."""

BACKTRACKING = 0.8
"""How much shorter each try of the search along the step is than the one before."""

MAX_BACKTRACKS = 15
"""After so many tries no step is taken."""


class Search(NamedTuple):
    """What the search along a step found.

    Attributes:
        fraction: Of the step that may be taken; 0 if none.
        loss: There.
        divergence: There.
        num_backtracks: Tries before it; ``MAX_BACKTRACKS`` if none was good enough.
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
    """The Fisher matrix of policies at some parameters, as the product with a vector.

    It is the second derivative of the mean divergence of policies at other parameters from those at
    these. The divergence is least, 0, where both are equal, so its second derivative there is
    ``J^T M J`` with the Jacobian ``J`` of means and log standard deviations and the second
    derivative ``M`` of the divergence in these: never negative, and without the derivatives of
    ``J``. For ``J v`` backward passes suffice: ``J^T u`` is linear in ``u``, so pulling ``v`` back
    through this map gives ``J v``.

    Args:
        distribution: From parameters to mean ``(N, B, T, A)`` and log std ``(N, A)``.
        params: Where.

    Returns:
        From a vector to the product. It holds the graph of ``distribution`` and can be called any
        number of times.
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

    The residuals are orthogonal to each other, but rounding costs that soon where the eigenvalues
    of ``A`` lie as far apart as those of a Fisher matrix. The usual code lets it happen: in single
    precision its tenth step depends on the order in which the tasks were summed. Here every
    residual is made orthogonal to the former ones, so that the solution is good to rounding.

    Args:
        product: From ``x`` to ``A x``; ``A`` is symmetric and positive definite.
        target: ``b``.
        num_steps: Products at most; it ends earlier where the residual is down to rounding.

    Returns:
        ``x``, zero where ``b`` is.

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
        if float(curvature) <= 0.0:  # By rounding alone: what is found so far is the best there is.
            break
        length = remaining / curvature
        solution = solution + length * direction
        residual = _orthogonal(residual - length * image, units)
        previous, remaining = remaining, residual @ residual
        direction = residual + (remaining / previous) * direction
    return solution


def _orthogonal(vector: Tensor, units: list[Tensor]) -> Tensor:
    """What a vector has at right angles to others, which are so to each other."""
    for _ in range(2):  # Once more for what rounding left of the first time.
        for unit in units:
            vector = vector - (unit @ vector) * unit
    return vector


def step_length(direction: Tensor, image: Tensor, max_kl: float) -> float:
    """How far along a direction the divergence reaches its bound, were it quadratic.

    Args:
        direction: ``x``.
        image: ``F x``, with the Fisher matrix ``F``.
        max_kl: Bound on ``(length x)^T F (length x) / 2``.

    Returns:
        The length; 0 if there is no curvature to tell it by, and NaN if that is not finite.
    """
    curvature = float(direction @ image)
    if curvature <= 0.0:
        return 0.0
    return math.sqrt(2.0 * max_kl / curvature) if math.isfinite(curvature) else math.nan


def line_search(
    evaluate: Callable[[float], tuple[float, float]], loss_before: float, max_kl: float
) -> Search:
    """The largest fraction of a step, of those tried, that is good and trusted.

    Args:
        evaluate: From a fraction of the step to loss and divergence there.
        loss_before: Must be undercut.
        max_kl: Must not be exceeded by the divergence.

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
