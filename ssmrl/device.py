"""The torch device on which networks learn, checked by name before any work starts."""

import warnings
from typing import TypedDict

import torch

CPU = torch.device("cpu")


class AdamOptions(TypedDict):
    """Adam's options for a device: fused kernels, and whether a CUDA graph can capture it."""

    fused: bool
    capturable: bool


def checked_device(name: str) -> torch.device:
    """The device of this name.

    Args:
        name: ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ValueError: If the device is unknown or cannot be used; the message says what to do.

    Example:
        >>> checked_device("cpu")
        device(type='cpu')
    """
    device = _named(name)
    if device.type == "cpu":
        return CPU
    if not torch.backends.cuda.is_built():
        raise ValueError(
            f"`--device` is {name!r}, but torch {torch.__version__} is built without CUDA; "
            f"install the build of torch {torch.__version__.partition('+')[0]} for this machine's "
            "CUDA, or use cpu"
        )
    num_devices, warned = _started_cuda(name)
    if (device.index or 0) >= num_devices:
        raise ValueError(
            f"`--device` is {name!r}, but torch sees {num_devices} CUDA devices{warned}; use "
            + ("cuda:0" if num_devices else "")
            + (f" to cuda:{num_devices - 1}" if num_devices > 1 else "")
            + (", or cpu" if num_devices else "cpu")
        )
    return device


def check_device_name(name: str) -> None:
    """Check the form of a device name; the device itself need not exist here.

    Raises:
        ValueError: If the name is none of ``cpu``, ``cuda`` and ``cuda:N``.
    """
    _named(name)


def visible_gpus(name: str) -> tuple[int, ...]:
    """Indices of the visible GPUs that a device name covers; ``cuda`` covers all.

    Args:
        name: Name of a device of this machine.

    Example:
        >>> visible_gpus("cuda:1"), visible_gpus("cpu")
        ((1,), ())
    """
    device = torch.device(name)
    if device.type == "cpu":
        return ()
    index: int | None = device.index  # torch's annotation is int
    return tuple(range(torch.cuda.device_count())) if index is None else (index,)


def _named(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f"`--device` must be cpu, cuda or cuda:N, but got {name!r}")
    return device


def _started_cuda(name: str) -> tuple[int, str]:
    """Start CUDA; return the number of its devices, and its first warning in brackets or ''."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        num_devices = torch.cuda.device_count()
        try:
            if num_devices:
                torch.cuda.init()
        except RuntimeError as error:
            raise ValueError(
                f"`--device` is {name!r}, but CUDA does not start: {_first_sentence(error)}; "
                "update the driver, or install the build of torch that is made for it, or use cpu"
            ) from error
    said = [_first_sentence(each.message) for each in caught if "CUDA" in str(each.message)]
    return num_devices, f" ({said[0]})" if said else ""


def _first_sentence(message: object) -> str:
    """The first sentence of torch's message; its advice may not suit this machine."""
    line = " ".join(str(message).split())
    return line.removeprefix("CUDA initialization: ").partition(". ")[0].rstrip(".")


def adam_options(device: torch.device, *, captured: bool = False) -> AdamOptions:
    """Adam's options for the device of its parameters.

    Args:
        device: Device of the parameters; on a CPU and on CUDA a step is one fused kernel.
        captured: Whether steps are captured in a graph; this has an effect only on CUDA.

    Example:
        >>> adam_options(CPU, captured=True)
        {'fused': True, 'capturable': False}
    """
    on_cuda = device.type == "cuda"
    return {"fused": on_cuda or device.type == "cpu", "capturable": on_cuda and captured}


def on_cpu(tensor: torch.Tensor) -> torch.Tensor:
    """A CPU copy for a checkpoint, so that any device can load it."""
    return tensor.detach().to("cpu", copy=True)


def handed_over(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Move a tensor to a device without waiting for the device's pending work.

    Args:
        tensor: Tensor to move; from the CPU to CUDA it goes through pinned memory.
        device: Target device.
    """
    if device.type == "cuda" and tensor.device == CPU:
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def handed_back(tensor: torch.Tensor) -> torch.Tensor:
    """Copy a tensor to the CPU and wait until the copy is complete."""
    here = tensor.to(CPU, non_blocking=True)  # from CUDA the copy goes to pinned memory
    if tensor.device.type == "cuda":
        torch.cuda.current_stream(tensor.device).synchronize()
    return here


def generator_on(device: torch.device, seed: int) -> torch.Generator:
    """A random generator for a device: on the device itself if it is CUDA, else on the CPU.

    The seed decides the numbers, but CUDA and the CPU give different ones.

    Args:
        device: Device where the numbers are needed.
        seed: Seed of the generator.
    """
    there = device if device.type == "cuda" else CPU
    return torch.Generator(there).manual_seed(seed)
