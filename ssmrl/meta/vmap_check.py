"""Check of a model's gradient under ``vmap``, where torch may silently give wrong numbers."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_SAME = 1e-3  # relative tolerance; reordered float32 sums differ by far less
_ROUNDINGS = 8.0  # tolerance in units of eps; decides for types of fewer bits than float32
_TINY = 1e-6


def check_vmap(
    model: nn.Module, together: Tensor, one_by_one: Sequence[Tensor], params: Sequence[Tensor]
) -> None:
    """Refuse a model whose gradient under ``vmap`` differs from that of a loop over the tasks.

    In half precision only differences larger than its rounding are found.

    Args:
        model: Model, for the message.
        together: Mean loss of some tasks, computed under ``vmap``.
        one_by_one: Loss of each of these tasks, computed without ``vmap``.
        params: Parameters that both losses are differentiated by.

    Raises:
        ValueError: If the two gradients differ.
    """
    found, wanted = (
        _gradient(together, params),
        _gradient(torch.stack([*one_by_one]).mean(), params),
    )
    error, size = float((found - wanted).norm()), float(wanted.norm())
    same = max(_SAME, _ROUNDINGS * max(torch.finfo(param.dtype).eps for param in params))
    if error > same * size + _TINY:
        raise ValueError(
            f"the meta-gradient of {type(model).__name__} under `torch.func.vmap` is "
            f"{100.0 * error / max(size, _TINY):.3g} % off that of a plain loop over the tasks; "
            "torch differentiates one of its layers wrongly: write it in elementary operations"
        )


def _gradient(loss: Tensor, params: Sequence[Tensor]) -> Tensor:
    parts = torch.autograd.grad(loss, params, materialize_grads=True)
    return torch.cat([part.double().flatten() for part in parts])
