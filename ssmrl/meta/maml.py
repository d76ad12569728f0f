"""MAML on supervised tasks with any model; reinforcement learning is in ``ssmrl.meta.learner``."""

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ssmrl.checkpoint import CheckpointError, check_tensors, read_with_settings, write_tensors
from ssmrl.knobs import check_positive, whole
from ssmrl.meta.diverged import DivergedError
from ssmrl.meta.inner import inner_adapt
from ssmrl.meta.masks import Lengths
from ssmrl.meta.supervised import FunctionalModel, LossFn, SupervisedTask
from ssmrl.meta.task_batch import TaskBatch, make_batch
from ssmrl.meta.task_parts import task_parts
from ssmrl.meta.vmap_check import check_vmap
from ssmrl.models.policy import SequencePolicy
from ssmrl.strict_json import json_text
from ssmrl.types import Hidden, Params
from ssmrl.unknown_name import UnknownNameError

_RATE = "optimizer.learning_rate"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class _Objective(NamedTuple):
    """Support loss, query loss and number of adaptation steps."""

    support: LossFn | None
    query: LossFn | None
    num_steps: int


class MetaMAML:
    """Learns initial parameters from which a few gradient steps fit a new task.

    All tasks of a meta-batch are adapted at once under ``torch.func.vmap``. Every operation of the
    model must be twice differentiable there: the models of ``ssmrl`` are; ``torch.nn``'s fused
    recurrent and attention layers, and dropout, are not. For any other model, the first
    meta-gradient is also computed in a plain loop over two tasks. If the two differ, the model is
    refused, since torch silently gives some wrong numbers there.

    Args:
        model: A ``SequencePolicy``, a module from ``x`` to an output, or a module from
            ``(x, hidden_state)`` to ``(output, next_hidden)``; its parameters are the
            meta-parameters, and ``meta_update`` changes them in place.
        inner_lr: Learning rate of the adaptation.
        outer_lr: Adam's learning rate on the meta-parameters.
        first_order: Whether to leave the second derivative out of the meta-gradient.
        grad_clip_norm: Largest norm of the meta-gradient, over all parameters together; a longer
            one is scaled down to it. The inner gradient is not clipped.

    Attributes:
        model: The model.
        optimizer: Adam over all parameters of the model that require a gradient, also those that
            are unfrozen later. Its learning rate may be changed, and is saved by ``save``.

    Raises:
        ValueError: If a learning rate or the norm is not positive and finite.

    Example:
        >>> maml = MetaMAML(nn.Linear(1, 1), inner_lr=0.1)
        >>> x = torch.linspace(-1, 1, 8).unsqueeze(-1)
        >>> tasks = [(x, slope * x, x, slope * x) for slope in (1.0, 2.0)]
        >>> losses = [maml.meta_update(tasks) for _ in range(50)]
        >>> losses[-1] < losses[0]
        True

    References:
        Finn et al. 2017, "Model-Agnostic Meta-Learning", algorithm 1 and section 5.2 (first order).
    """

    def __init__(
        self,
        model: nn.Module,
        inner_lr: float = 0.01,
        outer_lr: float = 0.001,
        first_order: bool = False,
        *,
        grad_clip_norm: float | None = None,
    ) -> None:
        self.model = model
        self._functional = FunctionalModel(model)
        self._settings: dict[str, Any] = {
            "inner_lr": inner_lr,
            "outer_lr": outer_lr,
            "first_order": first_order,
            "grad_clip_norm": grad_clip_norm,
        }
        for name in ("inner_lr", "outer_lr", "grad_clip_norm"):
            if name != "grad_clip_norm" or grad_clip_norm is not None:
                check_positive(name, self._settings[name])
        self.optimizer = torch.optim.Adam(self._functional.params().values(), lr=outer_lr)
        self._is_trusted = isinstance(model, SequencePolicy)

    @property
    def settings(self) -> dict[str, Any]:
        """A copy of the constructor's settings, by argument name."""
        return dict(self._settings)

    def functional_forward(
        self,
        x: Tensor,
        hidden_state: Hidden | None = None,
        params: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, Hidden | None]:
        """Evaluate the model at given parameters.

        Args:
            x: Inputs, ``(B, I)`` or ``(B, T, I)``.
            hidden_state: Hidden state, ``(B, S)``; the model's initial one if left out.
            params: Parameters, as returned by ``adapt_task``; the model's own if left out.

        Returns:
            The output, and the next hidden state, which is None for a model without memory.

        Raises:
            ValueError: If shapes do not fit.
            KeyError: If ``params`` has other names than the model.
        """
        own: Mapping[str, Tensor] = self._functional.params()
        if params is not None and params.keys() != own.keys():
            raise UnknownNameError(
                f"`params` must name the model's parameters {sorted(own)}, but got {sorted(params)}"
            )
        return self._functional(own if params is None else params, x, hidden_state)

    def adapt_task(
        self,
        support_x: Tensor,
        support_y: Tensor,
        initial_hidden_state: Hidden | None = None,
        loss_fn: LossFn | None = None,
        num_steps: int = 1,
    ) -> OrderedDict[str, Tensor]:
        """Adapt the meta-parameters to one task by gradient steps.

        Args:
            support_x: Inputs, ``(B, I)``, one step for each sequence, or ``(B, T, I)``.
            support_y: Targets, of the output's shape.
            initial_hidden_state: Hidden state, ``(B, S)``; the model's initial one if left out.
            loss_fn: Loss function; mean squared error if left out.
            num_steps: Gradient steps; with 0 the result equals the meta-parameters.

        Returns:
            Adapted parameters by name. They carry the graph back to the model's own parameters,
            which stay as they are; under ``torch.no_grad`` they carry none.

        Raises:
            ValueError: If shapes do not fit, or ``num_steps`` is negative.
        """
        objective = _objective(loss_fn, None, num_steps)
        return OrderedDict(
            self._adapt(objective, self._meta(), support_x, support_y, initial_hidden_state, None)
        )

    def meta_loss(
        self,
        tasks: Sequence[SupervisedTask],
        initial_hidden_state: Hidden | Sequence[Hidden] | None = None,
        loss_fn: LossFn | None = None,
        num_steps: int = 1,
        *,
        query_loss_fn: LossFn | None = None,
        lengths: Lengths | None = None,
    ) -> Tensor:
        """Mean loss on the query data after adaptation to the support data; changes nothing.

        The arguments are those of ``meta_update``.

        Returns:
            A scalar that carries the graph back to the model's parameters; under ``torch.no_grad``
            it carries none.
        """
        objective = _objective(loss_fn, query_loss_fn, num_steps)
        batch = self._checked_batch(objective, tasks, initial_hidden_state, lengths)
        return self._mean_loss(objective, batch)

    def meta_gradient(
        self,
        tasks: Sequence[SupervisedTask],
        initial_hidden_state: Hidden | Sequence[Hidden] | None = None,
        loss_fn: LossFn | None = None,
        num_steps: int = 1,
        *,
        query_loss_fn: LossFn | None = None,
        lengths: Lengths | None = None,
    ) -> tuple[float, Params]:
        """Meta-loss and its gradient by parameter, computed a few tasks at a time; changes nothing.

        Arguments and errors are those of ``meta_update``.
        """
        objective = _objective(loss_fn, query_loss_fn, num_steps)
        batch = self._checked_batch(objective, tasks, initial_hidden_state, lengths)
        params = self._functional.params()
        total = {name: torch.zeros_like(value) for name, value in params.items()}
        mean = 0.0
        rows = max(batch.data[part][0, ..., 0].numel() for part in (0, 2))
        for part in task_parts(len(tasks), rows):
            share = (part.stop - part.start) / len(tasks)
            with torch.enable_grad():
                loss = self._mean_loss(objective, batch.part(part))
            gradients = torch.autograd.grad(loss, list(params.values()), materialize_grads=True)
            for name, gradient in zip(params, gradients, strict=True):
                total[name] += share * gradient
            mean += share * float(loss.detach())
        return mean, total

    def meta_update(
        self,
        tasks: Sequence[SupervisedTask],
        initial_hidden_state: Hidden | Sequence[Hidden] | None = None,
        loss_fn: LossFn | None = None,
        num_steps: int = 1,
        *,
        query_loss_fn: LossFn | None = None,
        lengths: Lengths | None = None,
    ) -> float:
        """Make one step of Adam on the meta-parameters, with the gradient through the adaptation.

        Args:
            tasks: ``(support_x, support_y, query_x, query_y)`` of each task; all tasks have the
                same shapes, while support and query may differ from each other.
            initial_hidden_state: Hidden state before the support and again before the query
                sequences: one ``(B, S)`` for all tasks, or one for each task as ``(N, B, S)`` or
                as a list of ``N``. The model's initial one if left out.
            loss_fn: Loss function; mean squared error if left out. It runs under ``vmap``, so it
                must not branch on values.
            num_steps: Gradient steps of the adaptation; with 0 this is training on all tasks.
            query_loss_fn: Loss function of the query; ``loss_fn`` if left out.
            lengths: Number of valid steps of each task, ``(N,)``, if sequences are padded; or a
                pair of such tensors for support and query, or ``(N, T)`` masks. Loss functions
                then receive a mask of the valid steps, ``(B, T)``, as a third argument.

        Returns:
            The meta-loss before the step.

        Raises:
            ValueError: If there is no task, tasks are ragged, shapes do not fit, or the model's
                gradient is wrong under ``vmap``.
            DivergedError: If the meta-loss or its gradient is not finite; then nothing changed.
        """
        value, gradient = self.meta_gradient(
            tasks,
            initial_hidden_state,
            loss_fn,
            num_steps,
            query_loss_fn=query_loss_fn,
            lengths=lengths,
        )
        norm = torch.stack([each.norm() for each in gradient.values()]).norm()
        if not (math.isfinite(value) and bool(torch.isfinite(norm))):
            raise DivergedError(
                f"the meta-loss must be finite, but got {value} with a gradient of norm "
                f"{float(norm)}; lower `inner_lr`, or look for values in the tasks that are not "
                "finite"
            )
        clip = self._settings["grad_clip_norm"]
        scale = 1.0 if clip is None else min(1.0, clip / max(float(norm), 1e-30))
        self._take_in_unfrozen()
        for name, parameter in self._functional.params().items():
            parameter.grad = gradient[name] * scale
        self.optimizer.step()
        self.optimizer.zero_grad()
        return value

    def save(self, path: Path | str) -> None:
        """Save weights, buffers, Adam's state and settings to one file without pickle."""
        write_tensors(Path(path), self._tensors(), {"maml": json_text(self._settings)})

    def load(self, path: Path | str) -> None:
        """Load a saved state; the optimiser stays the same object, so that schedulers keep working.

        Raises:
            FileNotFoundError: If there is no such file.
            CheckpointError: If the file is damaged, of another kind, or of another model; then
                nothing changed.
        """
        tensors, settings = read_with_settings(Path(path), "maml", "MetaMAML")
        if settings.keys() != self._settings.keys():
            raise CheckpointError(f"{path} does not have the settings of this version: {settings}")
        model = {k: v for k, v in tensors.items() if k.startswith("model.")}
        check_tensors(Path(path), model, _prefixed("model", self.model.state_dict()))
        self.model.load_state_dict({k.removeprefix("model."): v for k, v in model.items()})
        self._settings = settings
        self._take_in_unfrozen()
        self.optimizer.state.clear()
        for group in self.optimizer.param_groups:
            group["lr"] = float(tensors.get(_RATE, settings["outer_lr"]))
        for name, parameter in self._functional.params().items():
            moments = {key: tensors.get(f"optimizer.{key}.{name}") for key in _MOMENTS}
            if all(value is not None for value in moments.values()):
                self.optimizer.state[parameter] = {
                    key: value if key == "step" else value.to(parameter.device)
                    for key, value in moments.items()
                    if value is not None
                }

    @property
    def _learning_rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def _take_in_unfrozen(self) -> None:
        """Add parameters to the optimiser that were frozen when it was made."""
        known = {
            id(parameter) for group in self.optimizer.param_groups for parameter in group["params"]
        }
        new = [each for each in self._functional.params().values() if id(each) not in known]
        if new:
            self.optimizer.add_param_group({"params": new, "lr": self._learning_rate})

    def _compare_with_loop(self, objective: _Objective, batch: TaskBatch) -> None:
        with torch.enable_grad():
            losses = [self._task_loss(objective, self._meta(), *task) for task in batch.tasks()]
            together = self._mean_loss(objective, batch)
        check_vmap(self.model, together, losses, list(self._functional.params().values()))

    def _tensors(self) -> dict[str, Tensor]:
        tensors = _prefixed("model", self.model.state_dict())
        tensors[_RATE] = torch.tensor(self._learning_rate, dtype=torch.float64)
        for name, parameter in self._functional.params().items():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"optimizer.{key}.{name}"] = torch.as_tensor(value)
        return tensors

    def _meta(self) -> Params:
        # Clones carry the graph and survive the optimiser, which writes in place.
        return {name: value.clone() for name, value in self._functional.params().items()}

    def _adapt(
        self,
        objective: _Objective,
        params: Params,
        x: Tensor,
        y: Tensor,
        hidden: Hidden | None,
        mask: Tensor | None,
    ) -> Params:
        def loss(params: Params) -> Tensor:
            return self._functional.loss(params, x, y, hidden, objective.support, mask)

        return inner_adapt(
            loss,
            params,
            lr=self._settings["inner_lr"],
            num_steps=objective.num_steps,
            first_order=self._settings["first_order"],
        )

    def _mean_loss(self, objective: _Objective, batch: TaskBatch) -> Tensor:
        losses: Tensor = torch.func.vmap(
            partial(self._task_loss, objective),
            in_dims=(None, 0, batch.hidden_axis, None if batch.masks is None else 0),
        )(self._meta(), batch.data, batch.hidden, batch.masks)
        return losses.mean()

    def _task_loss(
        self,
        objective: _Objective,
        params: Params,
        task: SupervisedTask,
        hidden: Hidden | None,
        masks: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        support_x, support_y, query_x, query_y = task
        support, query = (None, None) if masks is None else masks
        adapted = self._adapt(objective, params, support_x, support_y, hidden, support)
        return self._functional.loss(adapted, query_x, query_y, hidden, objective.query, query)

    def _checked_batch(
        self,
        objective: _Objective,
        tasks: Sequence[SupervisedTask],
        hidden: Hidden | Sequence[Hidden] | None,
        lengths: Lengths | None,
    ) -> TaskBatch:
        shape = self._functional.hidden_shape(1)
        ndim = 2 if shape is None else len(shape)
        batch = make_batch(tasks, hidden, lengths, hidden_ndim=ndim)
        if not self._is_trusted:
            self._compare_with_loop(objective, batch.part(slice(0, 2)))
            self._is_trusted = True
        return batch


def _objective(loss_fn: LossFn | None, query_loss_fn: LossFn | None, num_steps: int) -> _Objective:
    query = loss_fn if query_loss_fn is None else query_loss_fn
    return _Objective(loss_fn, query, whole("num_steps", num_steps, least=0))


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in tensors.items()}
