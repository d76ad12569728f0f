"""Any module, with or without a hidden state, as a function of its parameters and checked batches.

Not an optimiser: steps are taken in ``ssmrl.meta.maml`` and ``ssmrl.adaptation.adapter``.
"""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssmrl.meta.affine_apart import AffineApart
from ssmrl.meta.masks import masked_mse
from ssmrl.models.policy import SequencePolicy
from ssmrl.types import Hidden

LossFn: TypeAlias = Callable[[Tensor, Tensor], Tensor] | Callable[[Tensor, Tensor, Tensor], Tensor]
"""Loss function from (prediction, target) to a scalar.

If tasks have unequal lengths, the third argument is a mask of the valid steps, ``(B, T)``.
"""

SupervisedTask: TypeAlias = Sequence[Tensor]
"""``(support_x, support_y, query_x, query_y)``."""

_PARTS = ("support_x", "support_y", "query_x", "query_y")


class FunctionalModel:
    """A module whose parameters are an argument.

    A module has a hidden state if it has a method ``init_hidden(batch_size)``, as every
    ``SequencePolicy`` does, or if its ``forward`` takes a second positional argument. It then maps
    ``(x, hidden_state)`` to ``(output, next_hidden)``; the hidden state is a tensor with the batch
    on axis 0. Any other module maps ``x`` to its output.

    Args:
        module: Any module; its parameters that require a gradient adapt, and the others and its
            buffers stay as they are.

    Attributes:
        module: The same module.
        has_memory: Whether it has a hidden state.

    Raises:
        ValueError: If no parameter requires a gradient.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        positional = [
            parameter
            for parameter in inspect.signature(module.forward).parameters.values()
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        ]
        self._init_hidden: Callable[[int], Hidden] | None = getattr(module, "init_hidden", None)
        self.has_memory = self._init_hidden is not None or len(positional) > 1
        self._must_be_given = (
            len(positional) > 1 and positional[1].default is inspect.Parameter.empty
        )
        if not self.params():
            raise ValueError(
                "a model must have a parameter that requires a gradient, but "
                f"{type(module).__name__} has none; there is nothing to adapt"
            )

    def params(self) -> dict[str, nn.Parameter]:
        """The module's own parameters that adapt, by name, not copied."""
        return {name: p for name, p in self.module.named_parameters() if p.requires_grad}

    def __call__(
        self, params: Mapping[str, Tensor], x: Tensor, hidden_state: Hidden | None
    ) -> tuple[Tensor, Hidden | None]:
        """Evaluate the module at these parameters.

        Args:
            params: Parameters with the names of ``params()``.
            x: Inputs, ``(B, I)`` or ``(B, T, I)``.
            hidden_state: Hidden state, ``(B, S)``; the module's initial one if left out.

        Returns:
            The output, and the next hidden state or None.

        Raises:
            ValueError: If ``x`` or the hidden state has an invalid shape.
            TypeError: If the module does not return what a module with, or without, a hidden state
                should return.
        """
        check_input(x)
        if not self.has_memory:
            if hidden_state is not None:
                raise ValueError(
                    f"{type(self.module).__name__} has no memory, but got a hidden state of shape "
                    f"{tuple(hidden_state.shape)}; leave it out"
                )
            output = self._call(params, (x,))
            if not isinstance(output, Tensor):
                raise TypeError(
                    f"{type(self.module).__name__} has no memory, so it must return a tensor, but "
                    f"returned {type(output).__name__}"
                )
            return output, None
        hidden = self._checked_hidden(x.shape[0], hidden_state)
        arguments = (x,) if hidden is None else (x, hidden)
        result = self._call(params, arguments)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise TypeError(
                f"{type(self.module).__name__} has a memory, so it must return (output, "
                f"next_hidden), but returned {type(result).__name__}"
            )
        return result

    def loss(
        self,
        params: Mapping[str, Tensor],
        x: Tensor,
        y: Tensor,
        hidden_state: Hidden | None,
        loss_fn: LossFn | None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Loss at these parameters on one batch, a scalar.

        Args:
            params: Parameters with the names of ``params()``.
            x: Inputs, ``(B, I)`` or ``(B, T, I)``.
            y: Targets, of the output's shape; your own loss may need another last axis or integers.
            hidden_state: Hidden state, as in ``__call__``.
            loss_fn: Loss function; mean squared error if left out.
            mask: Mask of the valid steps, ``(T,)``, passed to the loss as ``(B, T)``; all if left
                out.

        Raises:
            ValueError: If the shapes of ``x``, ``y``, hidden state and output do not fit, or the
                loss is not a scalar.
        """
        check_input(x)
        check_tensor("y", y)
        if y.ndim == 0 or y.shape[0] != x.shape[0]:
            raise ValueError(
                f"`x` and `y` must have the same batch size, but got {tuple(x.shape)} and "
                f"{tuple(y.shape)}"
            )
        output, _ = self(params, x, hidden_state)
        _check_target(output, y, is_default=loss_fn is None)
        arguments = (output, y) if mask is None else (output, y, mask.expand(x.shape[:2]))
        default = functional.mse_loss if mask is None else masked_mse
        compute: Callable[..., Tensor] = default if loss_fn is None else loss_fn
        loss = compute(*arguments)
        if loss.ndim != 0:
            raise ValueError(
                f"`loss_fn` must return a scalar, but got shape {tuple(loss.shape)}; reduce it, "
                "for example with `.mean()`"
            )
        return loss

    def _call(self, params: Mapping[str, Tensor], arguments: tuple[Tensor, ...]) -> Any:
        """Call the module; ``SequencePolicy`` models contain no norms that need ``AffineApart``."""
        with nullcontext() if isinstance(self.module, SequencePolicy) else AffineApart():
            return torch.func.functional_call(self.module, dict(params), arguments)

    def hidden_shape(self, batch_size: int) -> tuple[int, ...] | None:
        """Shape of the hidden state for this batch size; None without ``init_hidden``."""
        return None if self._init_hidden is None else tuple(self._init_hidden(batch_size).shape)

    def _checked_hidden(self, batch_size: int, hidden_state: Hidden | None) -> Hidden | None:
        if hidden_state is None:
            if not self._must_be_given:
                return None
            if self._init_hidden is None:
                raise ValueError(
                    f"{type(self.module).__name__}.forward needs a hidden state, but got none; "
                    "pass one, or give the model a method `init_hidden(batch_size)`"
                )
            return self._init_hidden(batch_size)
        check_tensor("hidden_state", hidden_state)
        wanted = self.hidden_shape(batch_size) or (batch_size, *hidden_state.shape[1:])
        if tuple(hidden_state.shape) != wanted:
            raise ValueError(
                f"the hidden state must have the shape {wanted} for a batch of {batch_size}, but "
                f"got {tuple(hidden_state.shape)}; make one with `init_hidden({batch_size})`"
            )
        return hidden_state


def check_tensor(name: str, value: object) -> None:
    """Check that a value is a tensor.

    Raises:
        TypeError: If it is not; the message gives its name.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"`{name}` must be a tensor, but got a {type(value).__name__}: {value!r}")


def check_input(x: Tensor) -> None:
    """Check that ``x`` is a batch of steps or of sequences, and not empty.

    Raises:
        ValueError: If ``x`` has neither 2 nor 3 axes, or no elements.
        TypeError: If ``x`` is not a tensor.
    """
    check_tensor("x", x)
    if x.ndim not in (2, 3) or x.numel() == 0:
        raise ValueError(f"`x` must be (B, I) or (B, T, I), not empty, but got {tuple(x.shape)}")


def stack_tasks(tasks: Sequence[SupervisedTask]) -> list[Tensor]:
    """Stack the four parts of all tasks, each with a leading task axis ``N``.

    Raises:
        ValueError: If there are no tasks, a task does not have four parts, shapes differ between
            tasks, or a part is empty.
        TypeError: If a task is not a sequence, or a part is not a tensor.
    """
    if not isinstance(tasks, Collection):
        raise TypeError(f"`tasks` must be a list of tasks, but got {tasks!r}")
    if any(isinstance(part, Tensor) for part in tasks):  # also true if `tasks` is one tensor
        raise ValueError(
            "`tasks` must be a list of (support_x, support_y, query_x, query_y), one for each "
            "task, but holds tensors; `list(zip(*tensors))` makes one of four collated tensors"
        )
    if not tasks:
        raise ValueError("`tasks` must hold at least one task, but is empty")
    for index, task in enumerate(tasks):
        if not isinstance(task, Sequence):
            raise TypeError(
                f"each of `tasks` must be ({', '.join(_PARTS)}), but task {index} is {task!r}"
            )
        if len(task) != len(_PARTS):
            raise ValueError(
                f"each task must be ({', '.join(_PARTS)}), but task {index} has {len(task)} parts"
            )
        for name, tensor in zip(_PARTS, task, strict=True):
            check_tensor(f"{name}` of task `{index}", tensor)
    for part, name in enumerate(_PARTS):
        shapes = [tuple(task[part].shape) for task in tasks]
        others = [index for index, shape in enumerate(shapes) if shape != shapes[0]]
        if others:
            raise ValueError(
                f"all tasks must have the same shapes, but `{name}` is {shapes[0]} in task 0 and "
                f"{shapes[others[0]]} in task {others[0]} (differing tasks: {others}); cut or pad "
                "them, or update on groups of equal shape"
            )
        if 0 in shapes[0]:
            raise ValueError(f"`{name}` must not be empty, but is {shapes[0]} in each task")
    return [torch.stack([task[part] for task in tasks]) for part in range(len(_PARTS))]


def _check_target(output: Tensor, y: Tensor, *, is_default: bool) -> None:
    """Refuse shapes that torch would silently broadcast.

    A user's loss may interpret the last axis differently (such as mean and variance), and integer
    targets are class labels.
    """
    if is_default:
        fits = output.shape == y.shape
        if fits and y.dtype != output.dtype:
            raise ValueError(
                f"`y` must be {output.dtype}, as the output is, but is {y.dtype}; convert it with "
                f"`y.to({output.dtype})`"
            )
    else:
        fits = not y.is_floating_point() or (
            output.ndim == y.ndim and output.shape[:-1] == y.shape[:-1]
        )
    if not fits:
        raise ValueError(
            f"`y` must have the output's shape {tuple(output.shape)}, but got {tuple(y.shape)}; "
            "torch would broadcast one against the other"
        )
