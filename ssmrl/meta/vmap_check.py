"""Whether ``vmap`` differentiates a model rightly; torch may give wrong numbers without a word."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_SAME = 1e-3  # of a gradient's norm: another order of single-precision sums is far below
_ROUNDINGS = 8.0  # of numbers with fewer bits, whose sums in another order are not
_TINY = 1e-6


def check_vmap(
    model: nn.Module, together: Tensor, one_by_one: Sequence[Tensor], params: Sequence[Tensor]
) -> None:
    """Refuse a model whose gradient for many tasks at once is not that of a loop over them.

    In half precision only differences show that are coarser than its rounding.

    Args:
        model: For the message.
        together: Mean loss of some tasks, computed under ``vmap``.
        one_by_one: The loss of each of them, computed without.
        params: What both losses are differentiated by.

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
            f"{100.0 * error / max(size, _TINY):.3g} % off that of a plain loop over the tasks; a "
            "layer of it is differentiated wrongly there: write it out in elementary operations"
        )


def _gradient(loss: Tensor, params: Sequence[Tensor]) -> Tensor:
    parts = torch.autograd.grad(loss, params, materialize_grads=True)
    return torch.cat([part.double().flatten() for part in parts])
