"""The outer loop's optimiser: meta-parameters in, better meta-parameters out."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ssmrl.config import MetaConfig
from ssmrl.meta.inner import task_parts
from ssmrl.meta.objectives import discounted_sum, standardise_over_tasks
from ssmrl.meta.promp import (
    Distribution,
    Sample,
    adapt,
    adapted_distribution,
    adapted_divergence,
    make_sample,
    meta_loss,
    surrogate,
)
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
from ssmrl.models.actor import GaussianActor, encoder_names
from ssmrl.types import Params, Trajectory


class DivergedError(ArithmeticError):
    """A loss or a gradient is not finite; that gradient was not applied."""


class MetaLearner:
    """Owns Adam's state over the meta-parameters of an actor, and updates both in place.

    The algorithm ``maml-trpo`` has no use for Adam, whose state then stays empty.

    Args:
        actor: Its parameters are the meta-parameters; updates are computed on their device.
        config: The algorithm's settings.

    Attributes:
        optimizer: The optimiser, for checkpoints.
    """

    def __init__(self, actor: GaussianActor, config: MetaConfig) -> None:
        self._actor = actor
        self._config = config
        encoder = encoder_names(actor)
        groups: list[dict[str, Any]] = [
            {"params": [], "lr": config.outer_lr},
            {"params": [], "lr": config.outer_lr * config.encoder_lr_scale},
        ]
        for name, parameter in actor.named_parameters():
            groups[name in encoder]["params"].append(parameter)
        self.optimizer = torch.optim.Adam(groups)

    def params(self) -> Params:
        """The meta-parameters, detached."""
        return {name: value.detach() for name, value in self._actor.named_parameters()}

    def state(self) -> dict[str, Tensor]:
        """Meta-parameters (``actor.*``) and Adam's moments (``optimizer.*``) by name, copied."""
        tensors = {f"actor.{name}": value.clone() for name, value in self.params().items()}
        for name, parameter in self._actor.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"optimizer.{key}.{name}"] = torch.as_tensor(value).clone()
        return tensors

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of ``state``.

        Raises:
            KeyError: If a meta-parameter is missing.
        """
        with torch.no_grad():
            for name, parameter in self._actor.named_parameters():
                parameter.copy_(tensors[f"actor.{name}"])
                self.optimizer.state[parameter] = {
                    key: tensors[f"optimizer.{key}.{name}"].clone()
                    for key in ("step", "exp_avg", "exp_avg_sq")
                    if f"optimizer.{key}.{name}" in tensors
                }

    def adapt(self, params: Params, support: Trajectory) -> Params:
        """One adaptation step of every task; leaves ``(N, ...)`` in and out."""
        return adapt(self._actor, params, self._sample(support), self._config)

    def loss(self, supports: Sequence[Trajectory], query: Trajectory) -> Tensor:
        """The outer loss of a meta-batch at the present meta-parameters, which do not change.

        The returns that E-MAML weighs with are standardised over these tasks.
        """
        batch = self._batch(supports, query, None, None)
        value, _ = meta_loss(
            self._actor,
            self.params(),
            batch.supports,
            batch.query,
            None,
            self._config,
            batch.adjusted_return,
        )
        return value

    def update(
        self,
        supports: Sequence[Trajectory],
        query: Trajectory,
        *,
        num_tasks: int | None = None,
        sum_over_learners: Callable[[Tensor], Tensor] | None = None,
    ) -> dict[str, float]:
        """Improve the meta-parameters on one meta-batch.

        Several learners that start from equal meta-parameters can share a meta-batch: each has some
        of its tasks, and all make the same step, for whatever a step depends on is a sum over them.

        Args:
            supports: Experience before each adaptation step, in order.
            query: Experience after the last one.
            num_tasks: Of the whole meta-batch; the trajectories' own number if left out.
            sum_over_learners: Adds up a vector over the learners; without it there is one.

        Returns:
            Loss of the first and the last epoch, divergence, and the gradient's norm. For
            ``maml-trpo`` the loss before and after the step, the divergence of the adapted
            policies by the step, and how often the step was shortened before it was good;
            ``MAX_BACKTRACKS`` if it never was, and then the meta-parameters are what they were.

        Raises:
            DivergedError: If the loss, its gradient or the trust region's curvature is not finite.
        """
        batch = self._batch(supports, query, num_tasks, sum_over_learners)
        if self._config.algorithm == "maml-trpo":
            return self._step_in_trust_region(batch)
        return self._steps_of_adam(batch)

    def _steps_of_adam(self, batch: "_MetaBatch") -> dict[str, float]:
        sampled_from: list[Distribution] | None = None
        first_loss = 0.0
        for epoch in range(self._config.num_epochs):
            outer = batch.gradient(self.params(), sampled_from)
            norm = _finite_norm(outer, epoch, "meta.outer_lr")
            if epoch == 0:
                first_loss, sampled_from = float(outer.loss), outer.distributions
            for name, parameter in self._actor.named_parameters():
                parameter.grad = outer.gradient[name]
            self.optimizer.step()
        return {
            "loss_first": first_loss,
            "loss_last": float(outer.loss),
            "divergence": float(outer.divergence),
            "gradient_norm": norm,
        }

    def _step_in_trust_region(self, batch: "_MetaBatch") -> dict[str, float]:
        params, max_kl = self.params(), self._config.max_kl
        outer = batch.gradient(params, None)
        norm = _finite_norm(outer, 0, "meta.max_kl")
        product = batch.fisher_product(params)
        direction = conjugate_gradient(product, to_vector(outer.gradient), NUM_DIRECTIONS)
        length = step_length(direction, product(direction), max_kl)
        if not math.isfinite(length):
            raise DivergedError(
                "the curvature of the divergence is not finite, so that no step can be trusted; "
                "lower `meta.inner_lr` or `meta.max_kl`"
            )
        step = from_vector(-length * direction, params)
        sampled_from = batch.adapted(params)

        def moved(fraction: float) -> Params:
            return {name: value + fraction * step[name] for name, value in params.items()}

        loss_before, _ = batch.surrogate(params, sampled_from)
        found = line_search(
            lambda fraction: batch.surrogate(moved(fraction), sampled_from), loss_before, max_kl
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

    def _batch(
        self,
        supports: Sequence[Trajectory],
        query: Trajectory,
        num_tasks: int | None,
        sum_over_learners: Callable[[Tensor], Tensor] | None,
    ) -> "_MetaBatch":
        config = self._config
        num_tasks = num_tasks or len(query.reward)
        adjusted_return = None
        if config.algorithm == "e-maml":
            after = self._on_device(query)
            returns = discounted_sum(after.reward, after.terminated, config.discount)[..., 0]
            adjusted_return = standardise_over_tasks(
                returns.mean(-1), num_tasks, sum_over_learners or _itself
            )
        return _MetaBatch(
            self._actor,
            config,
            [self._sample(support) for support in supports],
            self._sample(query),
            adjusted_return,
            num_tasks,
            sum_over_learners,
        )

    def _sample(self, trajectory: Trajectory) -> Sample:
        return make_sample(self._on_device(trajectory), self._config)

    def _on_device(self, trajectory: Trajectory) -> Trajectory:
        device = self._actor.log_std.device
        return Trajectory(*(leaf.to(device) for leaf in trajectory))


class _Outer(NamedTuple):
    """A meta-gradient and what is had beside it: means over the tasks of a meta-batch.

    The distributions are those along the supports of the tasks that are here.
    """

    gradient: Params
    loss: Tensor
    divergence: Tensor
    distributions: list[Distribution]


class _Part(NamedTuple):
    """Some tasks of a meta-batch, and their share in its means."""

    tasks: slice
    share: float
    supports: list[Sample]
    query: Sample


@dataclass(frozen=True)
class _MetaBatch:
    """A meta-batch, or one learner's tasks of it; means over all of it, a few tasks at a time."""

    actor: GaussianActor
    config: MetaConfig
    supports: Sequence[Sample]
    query: Sample
    adjusted_return: Tensor | None
    num_tasks: int
    sum_over_learners: Callable[[Tensor], Tensor] | None

    def parts(self) -> Iterator[_Part]:
        """The tasks that are here, as many at a time as should be in memory together."""
        num_here, num_lanes, num_steps = self.query.first.shape
        for tasks in task_parts(num_here, num_lanes * num_steps):
            yield _Part(
                tasks,
                (tasks.stop - tasks.start) / self.num_tasks,
                [Sample(*(leaf[tasks] for leaf in support)) for support in self.supports],
                Sample(*(leaf[tasks] for leaf in self.query)),
            )

    def gradient(self, params: Params, sampled_from: Sequence[Distribution] | None) -> _Outer:
        """Of the outer loss."""

        def loss(
            params: Params, part: _Part
        ) -> tuple[Tensor, tuple[Tensor, tuple[list[Distribution], Tensor]]]:
            old = sampled_from and [
                Distribution(*(leaf[part.tasks] for leaf in each)) for each in sampled_from
            ]
            worth = None if self.adjusted_return is None else self.adjusted_return[part.tasks]
            value, extra = meta_loss(
                self.actor, params, part.supports, part.query, old, self.config, worth
            )
            return value, (value, extra)

        total: Params = {name: torch.zeros_like(value) for name, value in params.items()}
        value = kl = torch.zeros((), device=self.query.advantage.device)
        distributions: list[list[Distribution]] = []
        for part in self.parts():
            gradient, (part_value, (part_distributions, part_kl)) = torch.func.grad(
                loss, has_aux=True
            )(params, part)
            total = {name: total[name] + part.share * gradient[name] for name in total}
            value, kl = value + part.share * part_value, kl + part.share * part_kl
            distributions.append(part_distributions)
        joined = [
            Distribution(*(torch.cat(leaves) for leaves in zip(*parts, strict=True)))
            for parts in zip(*distributions, strict=True)
        ]
        if self.sum_over_learners is not None:
            total, value, kl = _summed(self.sum_over_learners, total, value, kl)
        return _Outer(total, value, kl, joined)

    def adapted(self, params: Params) -> list[Distribution]:
        """Of the adapted policies along their queries, for each part."""
        with torch.no_grad():
            return [self._adapted(params, part) for part in self.parts()]

    def surrogate(self, params: Params, sampled_from: list[Distribution]) -> tuple[float, float]:
        """Loss of the policies adapted from ``params``, and their divergence from others.

        Args:
            params: Meta-parameters.
            sampled_from: The others, for each part.
        """
        total = torch.zeros(2, device=self.query.advantage.device)
        with torch.no_grad():
            for part, old in zip(self.parts(), sampled_from, strict=True):
                new = self._adapted(params, part)
                values = [surrogate(new, part.query), adapted_divergence(old, new)]
                total = total + part.share * torch.stack(values)
        loss, kl = self._add_up(total).tolist()
        return loss, kl

    def fisher_product(self, params: Params) -> Callable[[Tensor], Tensor]:
        """The damped Fisher matrix of the adapted policies, as the product with a vector.

        Each call computes the graphs of all parts anew, unless there is but one: that is what
        bounds the memory.
        """

        def of_part(part: _Part) -> Callable[[Params], Params]:
            return fisher_product(lambda params: self._adapted(params, part), params)

        parts = list(self.parts())
        kept = of_part(parts[0]) if len(parts) == 1 else None

        def product(vector: Tensor) -> Tensor:
            direction = from_vector(vector, params)
            total = torch.zeros_like(vector)
            for part in parts:
                of_these = kept or of_part(part)
                total = total + part.share * to_vector(of_these(direction))
            return self._add_up(total) + DAMPING * vector

        return product

    def _adapted(self, params: Params, part: _Part) -> Distribution:
        return adapted_distribution(self.actor, params, part.supports, part.query, self.config)

    def _add_up(self, vector: Tensor) -> Tensor:
        return vector if self.sum_over_learners is None else self.sum_over_learners(vector)


def _finite_norm(outer: _Outer, epoch: int, knob: str) -> float:
    """The gradient's norm; if that is not finite there is nothing to apply, and it is raised."""
    norm = torch.stack([value.norm() for value in outer.gradient.values()]).norm()
    if not bool(torch.isfinite(norm) & torch.isfinite(outer.loss)):
        raise DivergedError(
            f"the meta-gradient is not finite in epoch {epoch} (loss {float(outer.loss)}, norm "
            f"{float(norm)}); lower `meta.inner_lr` or `{knob}`"
        )
    return float(norm)


def _itself(vector: Tensor) -> Tensor:
    return vector


def _summed(
    sum_over_learners: Callable[[Tensor], Tensor], gradient: Params, loss: Tensor, kl: Tensor
) -> tuple[Params, Tensor, Tensor]:
    """The contributions of all learners, which travel as one vector."""
    parts = [*gradient.values(), loss, kl]
    vector = sum_over_learners(torch.cat([part.flatten() for part in parts]))
    sums = vector.split([part.numel() for part in parts])
    *gradients, loss, kl = (one.view_as(part) for one, part in zip(sums, parts, strict=True))
    return dict(zip(gradient, gradients, strict=True)), loss, kl
