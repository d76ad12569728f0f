"""Conversion of Adam's state to named tensors and back, for checkpoints without pickle."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ssmrl.device import on_cpu

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def optimizer_tensors(name: str, optimizer: torch.optim.Adam) -> dict[str, Tensor]:
    """Adam's state on the CPU, under the names ``{name}.{moment}.{index of the parameter}``."""
    return {
        f"{name}.{moment}.{index}": on_cpu(torch.as_tensor(value))
        for index, parameter in enumerate(_parameters(optimizer))
        for moment, value in optimizer.state[parameter].items()
    }


def load_optimizer_tensors(
    name: str, optimizer: torch.optim.Adam, tensors: Mapping[str, Tensor]
) -> None:
    """The inverse of ``optimizer_tensors``; a parameter never updated has no moments."""
    for index, parameter in enumerate(_parameters(optimizer)):
        optimizer.state[parameter] = {
            moment: moment_on(tensors[key], moment, parameter, optimizer)
            for moment in _MOMENTS
            if (key := f"{name}.{moment}.{index}") in tensors
        }


def moment_on(
    value: Tensor, moment: str, parameter: Tensor, optimizer: torch.optim.Optimizer
) -> Tensor:
    """A copy on the device the optimiser expects.

    The step count stays on the CPU unless Adam is fused or capturable.
    """
    group = optimizer.param_groups[0]
    stays = moment == "step" and not (group.get("fused") or group.get("capturable"))
    return value.to("cpu" if stays else parameter.device, copy=True)


def _parameters(optimizer: torch.optim.Adam) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
