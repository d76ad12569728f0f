"""The outer loop's optimiser: meta-parameters in, better meta-parameters out."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ssmrl.config import MetaConfig
from ssmrl.meta.promp import Distribution, Sample, adapt, make_sample, meta_loss
from ssmrl.models.actor import GaussianActor
from ssmrl.types import Params, Trajectory


class DivergedError(ArithmeticError):
    """A loss or a gradient is not finite; that gradient was not applied."""


class MetaLearner:
    """Owns Adam's state over the meta-parameters of an actor, and updates both in place.

    Args:
        actor: Its parameters are the meta-parameters.
        config: The algorithm's settings.

    Attributes:
        optimizer: The optimiser, for checkpoints.
    """

    def __init__(self, actor: GaussianActor, config: MetaConfig) -> None:
        self._actor = actor
        self._config = config
        self.optimizer = torch.optim.Adam(actor.parameters(), lr=config.outer_lr)

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
        return adapt(self._actor, params, make_sample(support, self._config), self._config)

    def loss(self, supports: Sequence[Trajectory], query: Trajectory) -> Tensor:
        """The outer loss of a meta-batch at the present meta-parameters, which do not change."""
        before = [make_sample(support, self._config) for support in supports]
        after = make_sample(query, self._config)
        value, _ = meta_loss(self._actor, self.params(), before, after, None, self._config)
        return value

    def update(self, supports: Sequence[Trajectory], query: Trajectory) -> dict[str, float]:
        """Improve the meta-parameters on one meta-batch.

        Args:
            supports: Experience before each adaptation step, in order.
            query: Experience after the last one.

        Returns:
            Loss of the first and the last epoch, divergence, and the gradient's norm.

        Raises:
            DivergedError: If the loss or its gradient is not finite.
        """
        config = self._config
        before = [make_sample(support, config) for support in supports]
        after = make_sample(query, config)
        sampled_from: list[Distribution] | None = None
        first_loss = 0.0
        for epoch in range(config.num_epochs):
            gradient, (loss, (distributions, kl)) = _gradient(
                self._actor, self.params(), before, after, sampled_from, config
            )
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


def _gradient(
    actor: GaussianActor,
    params: Params,
    supports: Sequence[Sample],
    query: Sample,
    sampled_from: Sequence[Distribution] | None,
    config: MetaConfig,
) -> tuple[Params, tuple[Tensor, tuple[list[Distribution], Tensor]]]:
    def loss(params: Params) -> tuple[Tensor, tuple[Tensor, tuple[list[Distribution], Tensor]]]:
        value, extra = meta_loss(actor, params, supports, query, sampled_from, config)
        return value, (value, extra)

    gradient, extra = torch.func.grad(loss, has_aux=True)(params)
    return gradient, extra
