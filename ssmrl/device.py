"""Where networks learn: a device of torch by its name, checked before any work starts."""

from typing import TypedDict

import torch

CPU = torch.device("cpu")


class AdamOptions(TypedDict):
    """What Adam is told of a device: one kernel a step, and whether a graph can hold it."""

    fused: bool
    capturable: bool


def checked_device(name: str) -> torch.device:
    """The device of this name.

    Args:
        name: ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ValueError: If networks cannot learn there; the message says what to do.

    Example:
        >>> checked_device("cpu")
        device(type='cpu')
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f"`--device` must be cpu, cuda or cuda:N, but got {name!r}")
    if device.type == "cpu":
        return CPU
    if not torch.backends.cuda.is_built():
        raise ValueError(
            f"`--device` is {name!r}, but torch {torch.__version__} is built without CUDA; "
            f"install the build of torch {torch.__version__.partition('+')[0]} for this machine's "
            "CUDA, or use cpu"
        )
    num_devices = torch.cuda.device_count()
    if (device.index or 0) >= num_devices:
        raise ValueError(
            f"`--device` is {name!r}, but torch sees {num_devices} CUDA devices; use "
            + (f"cuda:0 to cuda:{num_devices - 1}, or cpu" if num_devices else "cpu")
        )
    return device


def adam_options(device: torch.device, *, captured: bool = False) -> AdamOptions:
    """What Adam is told of the device on which its parameters are.

    Args:
        device: A step is one kernel where there is such a one.
        captured: Whether steps are captured; only on CUDA need Adam know.

    Example:
        >>> adam_options(CPU, captured=True)
        {'fused': True, 'capturable': False}
    """
    on_cuda = device.type == "cuda"
    return {"fused": on_cuda or device.type == "cpu", "capturable": on_cuda and captured}


def on_cpu(tensor: torch.Tensor) -> torch.Tensor:
    """A copy for a checkpoint, which any device loads."""
    return tensor.detach().to("cpu", copy=True)
