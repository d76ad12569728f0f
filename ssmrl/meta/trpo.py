"""MAML with TRPO: one step along the natural gradient, inside a trust region.

References:
    Finn et al. 2017, "Model-Agnostic Meta-Learning", section 5.3; Schulman et al. 2015, "Trust
    Region Policy Optimization", appendix C.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ssmrl.meta.batch import MetaBatch, Part, finite_norm
from ssmrl.meta.diverged import DivergedError
from ssmrl.meta.gradient import Distribution, Sample, adapted_distribution
from ssmrl.meta.objectives import likelihood_ratio_loss
from ssmrl.meta.settings import TrustRegionSettings
from ssmrl.meta.trust_region import (
    DAMPING,
    NUM_DIRECTIONS,
    conjugate_gradient,
    fisher_product,
    from_vector,
    line_search,
    step_length,
    to_vector,
)
from ssmrl.models.actor import GaussianActor, divergence, log_density
from ssmrl.types import Params


class MAMLTRPO:
    """A step inside a trust region of ``max_kl``.

    Args:
        actor: Policy; its parameters are the meta-parameters.
        settings: Settings of the adaptation, and the size of the trust region.

    Attributes:
        optimizer: Placeholder that holds the parameters; it has no state and makes no step.
    """

    def __init__(self, actor: GaussianActor, settings: TrustRegionSettings) -> None:
        self._actor, self._settings = actor, settings
        self.optimizer = torch.optim.SGD(actor.parameters())

    def loss(self, batch: MetaBatch) -> Tensor:
        """The outer loss at the present meta-parameters."""
        return trpo_loss(self._actor, batch.params(), batch.supports, batch.query, self._settings)

    def step(self, batch: MetaBatch) -> dict[str, float]:
        """Update the meta-parameters in place, or leave them if the line search finds no step.

        Returns:
            The loss before and after the step, the divergence of the adapted policies caused by
            the step, the gradient's norm, and the number of failed tries of the line search;
            ``MAX_BACKTRACKS`` if all failed.

        Raises:
            DivergedError: If loss, gradient or curvature is not finite.
        """
        params = batch.params()
        outer = batch.gradient(params, self._part_loss)
        norm = finite_norm(outer, 0, "meta.max_kl")
        step = self._longest_step(batch, params, outer.gradient)
        sampled_from = self._adapted_of_parts(batch, params)

        def moved(fraction: float) -> Params:
            return {name: value + fraction * step[name] for name, value in params.items()}

        loss_before, _ = self._surrogate(batch, params, sampled_from)
        found = line_search(
            lambda fraction: self._surrogate(batch, moved(fraction), sampled_from),
            loss_before,
            self._settings.max_kl,
        )
        if found.fraction > 0.0:
            accepted = moved(found.fraction)
            with torch.no_grad():
                for name, parameter in self._actor.named_parameters():
                    parameter.copy_(accepted[name])
        return {
            "loss_first": loss_before,
            "loss_last": found.loss,
            "divergence": found.divergence,
            "gradient_norm": norm,
            "num_backtracks": float(found.num_backtracks),
        }

    def _longest_step(self, batch: MetaBatch, params: Params, gradient: Params) -> Params:
        """The step against the natural gradient at which the divergence would reach its bound."""
        product = self._fisher_product(batch, params)
        direction = conjugate_gradient(product, to_vector(gradient), NUM_DIRECTIONS)
        length = step_length(direction, product(direction), self._settings.max_kl)
        if not math.isfinite(length):
            raise DivergedError(
                "the curvature of the divergence is not finite, so that no step can be trusted; "
                "lower `meta.inner_lr` or `meta.max_kl`"
            )
        return from_vector(-length * direction, params)

    def _part_loss(
        self, params: Params, part: Part
    ) -> tuple[Tensor, tuple[list[Distribution], Tensor]]:
        loss = trpo_loss(self._actor, params, part.supports, part.query, self._settings)
        return loss, ([], torch.zeros(()))

    def _adapted(self, params: Params, part: Part) -> Distribution:
        """Action distributions of the adapted policies along the queries of some tasks."""
        return adapted_distribution(self._actor, params, part.supports, part.query, self._settings)

    def _adapted_of_parts(self, batch: MetaBatch, params: Params) -> list[Distribution]:
        with torch.no_grad():
            return [self._adapted(params, part) for part in batch.parts()]

    def _surrogate(
        self, batch: MetaBatch, params: Params, sampled_from: list[Distribution]
    ) -> tuple[float, float]:
        """Loss of the policies adapted from ``params``, and their divergence from the old ones."""
        total = torch.zeros(2, device=batch.query.advantage.device)
        with torch.no_grad():
            for part, old in zip(batch.parts(), sampled_from, strict=True):
                new = self._adapted(params, part)
                values = [surrogate(new, part.query), adapted_divergence(old, new)]
                total = total + part.share * torch.stack(values)
        loss, kl = batch.add_up(total).tolist()
        return loss, kl

    def _fisher_product(self, batch: MetaBatch, params: Params) -> Callable[[Tensor], Tensor]:
        """The damped Fisher matrix of the adapted policies, as the product with a vector.

        Each call recomputes the graphs of all parts, unless there is only one; this bounds the
        memory.
        """

        def of_part(part: Part) -> Callable[[Params], Params]:
            return fisher_product(lambda params: self._adapted(params, part), params)

        parts = list(batch.parts())
        only = of_part(parts[0]) if len(parts) == 1 else None

        def product(vector: Tensor) -> Tensor:
            direction = from_vector(vector, params)
            total = torch.zeros_like(vector)
            for part in parts:
                of_these = only or of_part(part)
                total = total + part.share * to_vector(of_these(direction))
            return batch.add_up(total) + DAMPING * vector

        return product


def trpo_loss(
    actor: GaussianActor,
    params: Params,
    supports: Sequence[Sample],
    query: Sample,
    settings: TrustRegionSettings,
) -> Tensor:
    """The outer loss of a meta-batch: minus the surrogate objective of the adapted policies.

    It has no clipping and no divergence term, since the trust region limits the step.

    Args:
        actor: The policy's structure.
        params: Meta-parameters, without a task axis.
        supports: Experience before each adaptation step, in order.
        query: Experience after the last one.
        settings: Inner learning rate and order.
    """
    return surrogate(adapted_distribution(actor, params, supports, query, settings), query)


def surrogate(adapted: Distribution, query: Sample) -> Tensor:
    """The outer loss of adapted policies: minus likelihood ratio times advantage, not clipped."""
    log_std = adapted.log_std[:, None, None, :]
    log_prob = log_density(query.action, adapted.mean, log_std)
    return likelihood_ratio_loss(log_prob, query.log_prob, query.advantage)


def adapted_divergence(old: Distribution, new: Distribution) -> Tensor:
    """Mean divergence of new adapted policies from old ones, over tasks and query steps."""
    (mean, log_std), (new_mean, new_log_std) = old, new
    return divergence(
        mean, log_std[:, None, None, :], new_mean, new_log_std[:, None, None, :]
    ).mean()
