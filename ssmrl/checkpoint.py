"""Weights, configuration and progress in one file without pickle."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ssmrl.config import TrainConfig


class CheckpointError(ValueError):
    """The file is not a checkpoint, or it was damaged."""


@dataclass(frozen=True)
class Checkpoint:
    """A state of training.

    Attributes:
        config: What is being trained.
        tensors: Weights and optimiser state by name.
        progress: Anything that JSON can hold: counters, curves, the code's commit.
    """

    config: TrainConfig
    tensors: Mapping[str, Tensor]
    progress: Mapping[str, Any]

    def save(self, path: Path) -> None:
        """Write the file in one move: readers see the old one or the new one, never half.

        Args:
            path: A ``.safetensors`` file; its folder is made if missing.
        """
        metadata = {"config": self.config.to_json(), "progress": json.dumps(dict(self.progress))}
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.tensors.items()}
        metadata["sha256"] = _digest(metadata, tensors)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        with part.open("wb") as file:
            file.write(save(tensors, metadata))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Read a file and check its digest.

        Raises:
            FileNotFoundError: If there is no such file.
            CheckpointError: If the file is damaged or of another kind.
        """
        if not path.is_file():
            raise FileNotFoundError(f"there is no checkpoint at {path}")
        try:
            with safe_open(path, framework="pt") as file:
                metadata = dict(file.metadata() or {})
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise CheckpointError(f"{path} is not a complete checkpoint: {error}") from error
        if metadata.pop("sha256", None) != _digest(metadata, tensors):
            raise CheckpointError(f"{path} was changed or damaged: its SHA-256 does not fit")
        return cls(
            TrainConfig.from_json(metadata["config"]), tensors, json.loads(metadata["progress"])
        )


def _digest(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, contents and metadata, in sorted order."""
    digest = hashlib.sha256()
    for key in sorted(metadata):
        digest.update(f"{key}={metadata[key]}\n".encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
