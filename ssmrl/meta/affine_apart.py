"""Norm layers with the affine part computed separately, as torch's own are wrong under ``vmap``."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class AffineApart(TorchFunctionMode):
    """A context in which ``layer_norm`` and ``batch_norm`` normalise first, then multiply and add.

    Differentiated twice under ``torch.func.vmap`` with a different weight per task, torch's fused
    kernels silently give wrong numbers. Without weights they are right, so weight and bias are
    applied as separate operations.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Replace the two norms, and pass every other function through."""
        del types
        apart = _APART.get(func)
        return (func if apart is None else apart)(*args, **(kwargs or {}))


def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    normal: Tensor = torch.layer_norm(input, list(normalized_shape), None, None, eps)
    normal = normal if weight is None else normal * weight
    return normal if bias is None else normal + bias


def _batch_norm(  # noqa: PLR0917  # as torch has them
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    def by_channel(vector: Tensor) -> Tensor:
        return vector.view(-1, *(1 for _ in range(input.ndim - 2)))

    normal = functional.batch_norm(
        input, running_mean, running_var, None, None, training, momentum, eps
    )
    normal = normal if weight is None else normal * by_channel(weight)
    return normal if bias is None else normal + by_channel(bias)


_APART: Mapping[Any, Callable[..., Tensor]] = {
    functional.layer_norm: _layer_norm,
    functional.batch_norm: _batch_norm,
}
