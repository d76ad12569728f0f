"""A batched ``Adapter`` for many lanes at once, each with its own copy of the same weights."""

from typing import NamedTuple

import torch
from torch import Tensor

from ssmrl.adaptation.adapter import AdaptationConfig
from ssmrl.meta.supervised import FunctionalModel, LossFn
from ssmrl.types import Params


class LaneReport(NamedTuple):
    """Result of the steps in each of ``M`` lanes, as in ``AdaptationReport``.

    Attributes:
        loss_before: Loss of the initial weights on the lane's own data, ``(M,)``.
        loss_after: Loss on the same data after the steps, whether they were kept or not, ``(M,)``.
        rolled_back: Whether the steps were undone: the loss rose, or it or a weight was not
            finite, ``(M,)``.
        distance: Euclidean distance of the kept weights from the initial weights, ``(M,)``.
    """

    loss_before: Tensor
    loss_after: Tensor
    rolled_back: Tensor
    distance: Tensor


class LaneAdapter:
    """Equals one new ``Adapter`` per lane, used for a single update; all lanes in one batch.

    If a lane's steps raise the loss on its own data, only that lane is rolled back. A lane whose
    loss is not finite keeps its initial weights. ``Adapter`` would raise, but here one broken
    simulation would then stop all lanes.

    Args:
        model: Model, as in ``Adapter``; it is not changed.
        config: Settings of the adaptation; ``ema_decay`` must be None, as a single update needs no
            average.

    Raises:
        ValueError: If ``config`` asks for an average.
    """

    def __init__(self, model: torch.nn.Module, config: AdaptationConfig) -> None:
        if config.ema_decay is not None:
            raise ValueError(
                f"`ema_decay` must be None where each lane adapts once, but got "
                f"{config.ema_decay}; use `Adapter`"
            )
        self._model, self._config = FunctionalModel(model), config

    def adapt(
        self, x: Tensor, y: Tensor, loss_fn: LossFn | None = None, mask: Tensor | None = None
    ) -> tuple[Params, LaneReport]:
        """Adapt every lane to its own data.

        Args:
            x: Inputs, ``(M, T, I)``; the model starts from its initial hidden state.
            y: Targets, of the output's shape, ``(M, T, ...)``.
            loss_fn: Loss function; mean squared error if left out.
            mask: Steps of each lane that count in the loss, ``(M, T)``; all if left out.

        Returns:
            The weights of each lane, every tensor ``(M, ...)`` without a graph, and the report.
        """
        start = {name: value.detach() for name, value in self._model.params().items()}

        def adapted(
            x: Tensor, y: Tensor, mask: Tensor | None
        ) -> tuple[Params, tuple[Tensor, Tensor, Tensor, Tensor]]:
            def loss(params: Params) -> Tensor:
                return self._model.loss(params, x[None], y[None], None, loss_fn, mask)

            before, params = loss(start), start
            for _ in range(self._config.num_steps):
                params = self._stepped(params, torch.func.grad(loss)(params), start)
            after = loss(params)
            finite = torch.stack([value.isfinite().all() for value in params.values()]).all()
            kept = finite & after.isfinite() & (after <= before)
            params = {name: torch.where(kept, value, start[name]) for name, value in params.items()}
            return params, (before, after, ~kept, _distance(params, start))

        with torch.no_grad():
            run = torch.func.vmap(adapted, in_dims=(0, 0, None if mask is None else 0))
            params, report = run(x, y, mask)
        return params, LaneReport(*report)

    def _stepped(self, params: Params, gradient: Params, start: Params) -> Params:
        """One step of gradient descent, kept inside the trust region, without reading a value."""
        config = self._config
        rate: Tensor | float = config.learning_rate
        if config.grad_clip_norm is not None:
            norm = _norm(gradient).clamp(min=1e-30)
            rate = config.learning_rate * (config.grad_clip_norm / norm).clamp(max=1.0)
        params = {name: value - rate * gradient[name] for name, value in params.items()}
        if config.trust_region is None:
            return params
        distance = _distance(params, start)
        share = config.trust_region / distance.clamp(min=1e-30)
        return {
            name: torch.where(
                distance <= config.trust_region,
                value,
                start[name] + share * (value - start[name]),
            )
            for name, value in params.items()
        }


def _norm(params: Params) -> Tensor:
    """Euclidean norm of all values together."""
    norms = torch.stack([torch.linalg.vector_norm(value) for value in params.values()])
    norm: Tensor = torch.linalg.vector_norm(norms)
    return norm


def _distance(params: Params, others: Params) -> Tensor:
    return _norm({name: value - others[name] for name, value in params.items()})
