"""Where networks learn: a device of torch by its name, checked before any work starts."""

import warnings
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
    """Refuse what is no name of a device; whether there is such a one is not asked.

    Raises:
        ValueError: If it is none of ``cpu``, ``cuda`` and ``cuda:N``.
    """
    _named(name)


def visible_gpus(name: str) -> tuple[int, ...]:
    """Which of the GPUs that this process sees a device of that name may mean; ``cuda`` means all.

    Args:
        name: Of a device that is here.

    Example:
        >>> visible_gpus("cuda:1"), visible_gpus("cpu")
        ((1,), ())
    """
    device = torch.device(name)
    if device.type == "cpu":
        return ()
    index: int | None = device.index  # torch says int
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
    """How many devices CUDA has once it runs, and of what it warned on the way."""
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
    """Torch's own, without its advice, which may be that of another machine."""
    line = " ".join(str(message).split())
    return line.removeprefix("CUDA initialization: ").partition(". ")[0].rstrip(".")


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


def handed_over(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor on a device, without waiting for what the device has to do before.

    Args:
        tensor: Goes from the CPU to a CUDA device by memory that it may read at any time.
        device: Where it goes.
    """
    if device.type == "cuda" and tensor.device == CPU:
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def handed_back(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of a device on the CPU, once it is all there."""
    here = tensor.to(CPU, non_blocking=True)  # from CUDA to memory of the kind that it may write
    if tensor.device.type == "cuda":
        torch.cuda.current_stream(tensor.device).synchronize()
    return here


def generator_on(device: torch.device, seed: int) -> torch.Generator:
    """Draws random numbers for a device: where it is if that is a CUDA device, else on the CPU.

    Its numbers are those of the seed, but others on CUDA than on the CPU.

    Args:
        device: Where the numbers are needed.
        seed: Of them.
    """
    there = device if device.type == "cuda" else CPU
    return torch.Generator(there).manual_seed(seed)
