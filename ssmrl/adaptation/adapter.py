"""Adaptation at test time: gradient steps on a copy of the weights, undone if the loss rises.

Not meta-training: the initial weights and the learning rate are not learnt here.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ssmrl.checkpoint import CheckpointError, check_tensors, read_with_settings, write_tensors
from ssmrl.knobs import check_positive, whole
from ssmrl.meta.diverged import DivergedError
from ssmrl.meta.supervised import FunctionalModel, LossFn, check_tensor
from ssmrl.strict_json import json_text
from ssmrl.types import Hidden, Params


@dataclass(frozen=True)
class AdaptationConfig:
    """Settings of an ``Adapter``.

    Attributes:
        learning_rate: Learning rate of gradient descent.
        num_steps: Gradient steps per update.
        grad_clip_norm: Largest norm of a step's gradient, over all parameters together; a longer
            gradient is scaled down to it. None for no limit.
        trust_region: Largest Euclidean distance of all adapted parameters together from the
            adapter's initial weights. A step that leaves this ball is projected back onto its
            surface. None for no limit.
        ema_decay: Decay ``d`` of averaged weights, which are used for predictions. The average
            starts at the adapter's initial weights. After each gradient step it becomes
            ``d * average + (1 - d) * weights``. Gradients are taken at the weights themselves.
            None for no average.

    Raises:
        ValueError: If a value is outside its range.
    """

    learning_rate: float = 0.01
    num_steps: int = 1
    grad_clip_norm: float | None = None
    trust_region: float | None = None
    ema_decay: float | None = None

    def __post_init__(self) -> None:
        for name in ("learning_rate", "grad_clip_norm", "trust_region"):
            if name == "learning_rate" or getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        whole("num_steps", self.num_steps, least=0)
        is_number = isinstance(self.ema_decay, int | float) and self.ema_decay is not True
        if self.ema_decay is not None and not (is_number and 0.0 <= self.ema_decay < 1.0):
            raise ValueError(
                f"`0 <= ema_decay < 1` must hold, but got {self.ema_decay!r}; "
                "with 1 the average would never move"
            )


class AdaptationReport(NamedTuple):
    """Result of one update.

    Attributes:
        loss_before: Loss on the update's data before the update, at the predicting weights.
        loss_after: Loss on the same data after the steps, whether they were kept or not.
        rolled_back: Whether the steps were undone: the loss rose, or it or a weight was not finite.
        distance: Euclidean distance of the kept weights from the initial weights.
    """

    loss_before: float
    loss_after: float
    rolled_back: bool
    distance: float


class Adapter:
    """Adapts its own copy of a model to incoming data, without raising the loss on that data.

    If an update's steps raise the loss on its own data, the update is rolled back: the weights and
    their average are restored. The copy is in evaluation mode, so the two losses are comparable.

    Args:
        model: Model, as in ``MetaMAML``; it is copied and never changed.
        config: Settings of the adaptation.
        device: Device of the copy; inputs are moved there.

    Attributes:
        config: Settings of the adaptation.
        last_report: Report of the last update; None before the first one.

    Example:
        >>> model = nn.Linear(1, 1)
        >>> adapter = Adapter(model, AdaptationConfig(learning_rate=0.1, num_steps=5))
        >>> x = torch.linspace(-1, 1, 8).unsqueeze(-1)
        >>> loss, steps_taken = adapter.update_step(x, 3 * x)
        >>> steps_taken, loss < adapter.last_report.loss_before
        (5, True)
    """

    def __init__(
        self,
        model: nn.Module,
        config: AdaptationConfig = AdaptationConfig(),
        device: str | torch.device = "cpu",
    ) -> None:
        self.config = config
        self.last_report: AdaptationReport | None = None
        self._device = torch.device(device)
        self._model = FunctionalModel(copy.deepcopy(model).to(self._device).eval())
        self._start: Params = {k: v.detach().clone() for k, v in self._model.params().items()}
        self._params = self._average = self._start

    @property
    def model(self) -> nn.Module:
        """A copy of the model with the predicting weights, in evaluation mode."""
        model = copy.deepcopy(self._model.module)
        model.load_state_dict(self._predicting(), strict=False)
        return model

    def params(self) -> Params:
        """A copy of the predicting weights by name: the average if there is one."""
        return {name: value.clone() for name, value in self._predicting().items()}

    def update_step(
        self,
        x: Tensor,
        y: Tensor,
        hidden_state: Hidden | None = None,
        loss_fn: LossFn | None = None,
    ) -> tuple[float, int]:
        """Adapt to one batch.

        Args:
            x: Inputs, ``(B, I)`` or ``(B, T, I)``.
            y: Targets, of the output's shape.
            hidden_state: Hidden state, ``(B, S)``; the model's initial one if left out.
            loss_fn: Loss function; mean squared error if left out.

        Returns:
            The loss on this batch at the weights that predict from now on, and the number of
            gradient steps kept: ``config.num_steps``, or 0 after a rollback. ``last_report`` has
            the details.

        Raises:
            ValueError: If shapes do not fit.
            DivergedError: If the loss is not finite before any step; then nothing changed.
        """
        check_tensor("x", x)
        check_tensor("y", y)
        if hidden_state is not None:
            check_tensor("hidden_state", hidden_state)
        x, y = x.detach().to(self._device), y.detach().to(self._device)
        hidden = None if hidden_state is None else hidden_state.detach().to(self._device)

        def loss(params: Params) -> Tensor:
            return self._model.loss(params, x, y, hidden, loss_fn)

        before = float(loss(self._predicting()))
        if not math.isfinite(before):
            raise DivergedError(
                f"the loss before adapting must be finite, but is {before}; look for values in "
                "`x`, `y` and the hidden state that are not finite, or `reset()` the adapter"
            )
        params, average = self._params, self._average
        for _ in range(self.config.num_steps):
            params = self._stepped(params, torch.func.grad(loss)(params))
            average = self._averaged(average, params)
        after = float(loss(params if self.config.ema_decay is None else average))
        rolled_back = not (after <= before and _is_finite(params))
        if not rolled_back:
            self._params, self._average = params, average
        self.last_report = AdaptationReport(
            before, after, rolled_back, float(_distance(self._params, self._start))
        )
        return (before, 0) if rolled_back else (after, self.config.num_steps)

    def predict(
        self, x: Tensor, hidden_state: Hidden | None = None
    ) -> tuple[Tensor, Hidden | None]:
        """The adapted model's output, without a graph.

        Args:
            x: Inputs, ``(B, I)`` or ``(B, T, I)``.
            hidden_state: Hidden state, ``(B, S)``; the model's initial one if left out.

        Returns:
            The output, and the next hidden state, which is None for a model without memory.

        Raises:
            ValueError: If shapes do not fit.
        """
        check_tensor("x", x)
        if hidden_state is not None:
            check_tensor("hidden_state", hidden_state)
        hidden = None if hidden_state is None else hidden_state.to(self._device)
        with torch.no_grad():
            return self._model(self._predicting(), x.to(self._device), hidden)

    def reset(self) -> None:
        """Restore the adapter's initial weights."""
        self._params = self._average = self._start
        self.last_report = None

    def save(self, path: Path | str) -> None:
        """Save the weights (initial, present, averaged), buffers and settings without pickle."""
        write_tensors(Path(path), self._tensors(), {"adapter": json_text(asdict(self.config))})

    def load(self, path: Path | str) -> None:
        """Load saved weights, buffers and settings.

        Raises:
            FileNotFoundError: If there is no such file.
            CheckpointError: If the file is damaged, of another kind, or of another model; then
                nothing changed.
        """
        tensors, settings = read_with_settings(Path(path), "adapter", "Adapter")
        check_tensors(Path(path), tensors, self._tensors())
        if settings.keys() != asdict(self.config).keys():
            raise CheckpointError(f"{path} does not have the settings of this version: {settings}")
        config = AdaptationConfig(**settings)
        on_device = {name: value.to(self._device) for name, value in tensors.items()}
        module = self._model.module
        module.load_state_dict({name: on_device[f"model.{name}"] for name in module.state_dict()})
        # In the model's order, since the last bits of norms depend on the order of summation.
        self._start, self._params, self._average = (
            {name: on_device[f"{group}.{name}"] for name in self._model.params()}
            for group in ("start", "present", "average")
        )
        self.config = config
        self.last_report = None

    def _tensors(self) -> dict[str, Tensor]:
        """All tensors of the adapter; ``model`` also holds buffers and frozen parameters."""
        groups: dict[str, Mapping[str, Tensor]] = {
            "model": self._model.module.state_dict(),
            "start": self._start,
            "present": self._params,
            "average": self._average,
        }
        return {f"{group}.{k}": v for group, part in groups.items() for k, v in part.items()}

    def _predicting(self) -> Params:
        return self._params if self.config.ema_decay is None else self._average

    def _stepped(self, params: Params, gradient: Params) -> Params:
        """One step of gradient descent, kept inside the trust region."""
        config = self.config
        scale = 1.0
        if config.grad_clip_norm is not None:
            scale = min(1.0, config.grad_clip_norm / max(float(_norm(gradient)), 1e-30))
        params = {
            name: value - config.learning_rate * scale * gradient[name]
            for name, value in params.items()
        }
        if config.trust_region is None:
            return params
        distance = float(_distance(params, self._start))
        if distance <= config.trust_region:
            return params
        share = config.trust_region / distance
        return {
            name: self._start[name] + share * (value - self._start[name])
            for name, value in params.items()
        }

    def _averaged(self, average: Params, params: Params) -> Params:
        decay = self.config.ema_decay
        if decay is None:
            return average
        return {
            name: decay * value + (1.0 - decay) * params[name] for name, value in average.items()
        }


def _norm(params: Params) -> Tensor:
    """Euclidean norm of all values together."""
    norms = torch.stack([torch.linalg.vector_norm(value) for value in params.values()])
    norm: Tensor = torch.linalg.vector_norm(norms)
    return norm


def _distance(params: Params, others: Params) -> Tensor:
    return _norm({name: value - others[name] for name, value in params.items()})


def _is_finite(params: Params) -> bool:
    return all(bool(value.isfinite().all()) for value in params.values())
