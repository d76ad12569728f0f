"""Adam's moments as named tensors and back, for checkpoints without pickle."""

from collections.abc import Mapping

import torch
from torch import Tensor

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def optimizer_tensors(name: str, optimizer: torch.optim.Adam) -> dict[str, Tensor]:
    """The moments of every parameter, copied; ``{name}.{moment}.{place of the parameter}``."""
    return {
        f"{name}.{moment}.{index}": torch.as_tensor(value).clone()
        for index, parameter in enumerate(_parameters(optimizer))
        for moment, value in optimizer.state[parameter].items()
    }


def load_optimizer_tensors(
    name: str, optimizer: torch.optim.Adam, tensors: Mapping[str, Tensor]
) -> None:
    """The inverse of ``optimizer_tensors``; a parameter that never moved has no moments."""
    for index, parameter in enumerate(_parameters(optimizer)):
        optimizer.state[parameter] = {
            moment: tensors[key].clone()
            for moment in _MOMENTS
            if (key := f"{name}.{moment}.{index}") in tensors
        }


def _parameters(optimizer: torch.optim.Adam) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
