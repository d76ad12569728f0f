"""``device.json``: where and with what the results beside it were made; no part of their names."""

from pathlib import Path
from typing import Any

import torch

from ssmrl.device import checked_device
from ssmrl.files import replace_file
from ssmrl.provenance import provenance
from ssmrl.strict_json import json_object, json_text

_FILE = "device.json"


def settled_device(given: str | None, folder: Path, *, resume: bool) -> str:
    """The name of the device to use: the one given, else that of the run to go on with, else cpu.

    Args:
        given: By the command line; None if left out.
        folder: Of the results.
        resume: Whether results in the folder are gone on with.

    Raises:
        ValueError: If the run's own device has to be known, and cannot be read.
    """
    if given is not None:
        return given
    path = folder / _FILE
    if not (resume and path.is_file()):
        return "cpu"
    try:
        return str(json_object(path.read_text(), str(path))["device"])
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path} is damaged; name the device by `--device`") from error


def checked_device_of(given: str | None, folder: Path, *, resume: bool) -> torch.device:
    """The device that ``settled_device`` names, which must be here.

    Raises:
        ValueError: If it is not; the message says what to do.
    """
    name = settled_device(given, folder, resume=resume)
    try:
        return checked_device(name)
    except ValueError as error:
        if given is not None:
            raise
        raise ValueError(
            f"{error}; {folder} was made there, and goes on elsewhere by `--device cpu`"
        ) from error


def record_device(folder: Path, name: str) -> None:
    """Write down on which device the results in a folder are made from now on.

    Args:
        folder: Theirs.
        name: Of the device; one of a cluster need not be here.
    """
    content = {
        "device": name,
        "gpu": gpu_name(name),
        "torch": torch.__version__,
        "made_with": provenance(),
    }
    replace_file(folder / _FILE, json_text(content, indent=2) + "\n")


def recorded_device(folder: Path) -> dict[str, Any]:
    """What ``record_device`` wrote down last; nothing if it did not, or it cannot be read.

    Args:
        folder: Of the results.
    """
    path = folder / _FILE
    try:
        return json_object(path.read_text(), str(path))
    except (OSError, ValueError):
        return {}


def gpu_name(name: str) -> str | None:
    """What the maker calls the device; None for a CPU, and where the device is not here."""
    device = torch.device(name)
    if device.type != "cuda" or (device.index or 0) >= torch.cuda.device_count():
        return None
    return torch.cuda.get_device_name(device)
