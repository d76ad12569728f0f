"""The outer loop's optimiser: meta-parameters in, better meta-parameters out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ssmrl.config import MetaConfig
from ssmrl.meta.inner import task_parts
from ssmrl.meta.promp import Distribution, Sample, adapt, make_sample, meta_loss
from ssmrl.models.actor import GaussianActor, encoder_names
from ssmrl.types import Params, Trajectory


class DivergedError(ArithmeticError):
    """A loss or a gradient is not finite; that gradient was not applied."""


class MetaLearner:
    """Owns Adam's state over the meta-parameters of an actor, and updates both in place.

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
        """The outer loss of a meta-batch at the present meta-parameters, which do not change."""
        before = [self._sample(support) for support in supports]
        value, _ = meta_loss(
            self._actor, self.params(), before, self._sample(query), None, self._config
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
        of its tasks, and all make the same step, along the sum of their weighted gradients.

        Args:
            supports: Experience before each adaptation step, in order.
            query: Experience after the last one.
            num_tasks: Of the whole meta-batch; the trajectories' own number if left out.
            sum_over_learners: Adds up a vector over the learners; without it there is one.

        Returns:
            Loss of the first and the last epoch, divergence, and the gradient's norm.

        Raises:
            DivergedError: If the loss or its gradient is not finite.
        """
        config = self._config
        before = [self._sample(support) for support in supports]
        after = self._sample(query)
        sampled_from: list[Distribution] | None = None
        first_loss = 0.0
        for epoch in range(config.num_epochs):
            gradient, (loss, (distributions, kl)) = _gradient(
                self._actor, self.params(), before, after, sampled_from, config, num_tasks
            )
            if sum_over_learners is not None:
                gradient, loss, kl = _summed(sum_over_learners, gradient, loss, kl)
            norm = torch.stack([value.norm() for value in gradient.values()]).norm()
            if not bool(torch.isfinite(norm) & torch.isfinite(loss)):
                raise DivergedError(
                    f"the meta-gradient is not finite in epoch {epoch} (loss {float(loss)}, norm "
                    f"{float(norm)}); "
                    "lower `meta.inner_lr` or `meta.outer_lr`"
                )
            if epoch == 0:
                first_loss, sampled_from = float(loss), distributions
            for name, parameter in self._actor.named_parameters():
                parameter.grad = gradient[name]
            self.optimizer.step()
        return {
            "loss_first": first_loss,
            "loss_last": float(loss),
            "divergence": float(kl),
            "gradient_norm": float(norm),
        }

    def _sample(self, trajectory: Trajectory) -> Sample:
        device = self._actor.log_std.device
        moved = Trajectory(*(leaf.to(device) for leaf in trajectory))
        return make_sample(moved, self._config)


def _gradient(
    actor: GaussianActor,
    params: Params,
    supports: Sequence[Sample],
    query: Sample,
    sampled_from: Sequence[Distribution] | None,
    config: MetaConfig,
    num_tasks: int | None,
) -> tuple[Params, tuple[Tensor, tuple[list[Distribution], Tensor]]]:
    """Meta-gradient, loss, distributions and divergence: means over tasks, a few at a time.

    Of more tasks than there are here, it is what these contribute to the mean.
    """

    def loss(
        params: Params,
        supports: Sequence[Sample],
        query: Sample,
        sampled_from: Sequence[Distribution] | None,
    ) -> tuple[Tensor, tuple[Tensor, tuple[list[Distribution], Tensor]]]:
        value, extra = meta_loss(actor, params, supports, query, sampled_from, config)
        return value, (value, extra)

    num_here, num_lanes, num_steps = query.first.shape
    total: Params = {name: torch.zeros_like(value) for name, value in params.items()}
    value = kl = torch.zeros((), device=query.advantage.device)
    distributions: list[list[Distribution]] = []
    for part in task_parts(num_here, num_lanes * num_steps):
        share = (part.stop - part.start) / (num_tasks or num_here)
        gradient, (part_value, (part_distributions, part_kl)) = torch.func.grad(loss, has_aux=True)(
            params,
            [Sample(*(leaf[part] for leaf in support)) for support in supports],
            Sample(*(leaf[part] for leaf in query)),
            sampled_from and [Distribution(*(leaf[part] for leaf in d)) for d in sampled_from],
        )
        total = {name: total[name] + share * gradient[name] for name in total}
        value, kl = value + share * part_value, kl + share * part_kl
        distributions.append(part_distributions)
    joined = [
        Distribution(*(torch.cat(leaves) for leaves in zip(*parts, strict=True)))
        for parts in zip(*distributions, strict=True)
    ]
    return total, (value, (joined, kl))


def _summed(
    sum_over_learners: Callable[[Tensor], Tensor], gradient: Params, loss: Tensor, kl: Tensor
) -> tuple[Params, Tensor, Tensor]:
    """The contributions of all learners, which travel as one vector."""
    parts = [*gradient.values(), loss, kl]
    vector = sum_over_learners(torch.cat([part.flatten() for part in parts]))
    sums = vector.split([part.numel() for part in parts])
    *gradients, loss, kl = (one.view_as(part) for one, part in zip(sums, parts, strict=True))
    return dict(zip(gradient, gradients, strict=True)), loss, kl
