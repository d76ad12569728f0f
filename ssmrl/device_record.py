"""``device.json``: device and software versions of the results in the same folder."""

from pathlib import Path
from typing import Any

import torch

from ssmrl.device import checked_device
from ssmrl.files import replace_file
from ssmrl.provenance import provenance
from ssmrl.strict_json import json_object, json_text

_FILE = "device.json"


def settled_device(given: str | None, folder: Path, *, resume: bool) -> str:
    """The device name to use: the given one, else that of the run to resume, else cpu.

    Args:
        given: Device from the command line; None if left out.
        folder: Folder of the results.
        resume: Whether the run in the folder is resumed.

    Raises:
        ValueError: If the device of the run to resume is needed but cannot be read.
    """
    if given is not None:
        return given
    path = folder / _FILE
    if not (resume and path.is_file()):
        return "cpu"
    try:
        return str(json_object(path.read_text(), str(path))["device"])
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path} is damaged; name the device with `--device`") from error


def checked_device_of(given: str | None, folder: Path, *, resume: bool) -> torch.device:
    """The device that ``settled_device`` names, checked to be usable here.

    Raises:
        ValueError: If it is not usable here; the message says what to do.
    """
    name = settled_device(given, folder, resume=resume)
    try:
        return checked_device(name)
    except ValueError as error:
        if given is not None:
            raise
        raise ValueError(
            f"{error}; {folder} was made on that device; resume it here with `--device cpu`"
        ) from error


def record_device(folder: Path, name: str) -> None:
    """Record the device that makes the results in a folder from now on.

    Args:
        folder: Folder of the results.
        name: Name of the device; a cluster's device need not exist on this machine.
    """
    content = {
        "device": name,
        "gpu": gpu_name(name),
        "torch": torch.__version__,
        "made_with": provenance(),
    }
    replace_file(folder / _FILE, json_text(content, indent=2) + "\n")


def recorded_device(folder: Path) -> dict[str, Any]:
    """The latest record of ``record_device``; empty if there is none or it cannot be read.

    Args:
        folder: Folder of the results.
    """
    path = folder / _FILE
    try:
        return json_object(path.read_text(), str(path))
    except (OSError, ValueError):
        return {}


def gpu_name(name: str) -> str | None:
    """Model name of the GPU; None for a CPU, or if this machine does not have the device."""
    device = torch.device(name)
    if device.type != "cuda" or (device.index or 0) >= torch.cuda.device_count():
        return None
    return torch.cuda.get_device_name(device)
