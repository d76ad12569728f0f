"""Checkpoints: weights, configuration and progress in one file, without pickle."""

import hashlib
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ssmrl.config import TrainConfig
from ssmrl.files import part_path
from ssmrl.format import FORMAT, FormatError, check_format
from ssmrl.import_path import is_import_path, source_digest
from ssmrl.provenance import provenance
from ssmrl.strict_json import json_object, json_text
from ssmrl.unknown_name import UnknownNameError

_OWN_PARTS = "own_parts"
_USUAL_WIDTH, _USUAL_LAYERS = 1024, 64


class CheckpointError(ValueError):
    """The file is not a checkpoint, or is damaged."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training run.

    Attributes:
        config: Configuration of the run.
        tensors: Weights and optimiser state by name.
        progress: Counters and curves; anything that JSON can hold.
    """

    config: TrainConfig
    tensors: Mapping[str, Tensor]
    progress: Mapping[str, Any]

    def save(self, path: Path) -> None:
        """Write the file atomically: readers see the old file or the new one, never a part.

        The metadata also records the provenance: commit, versions and machine.

        Args:
            path: A ``.safetensors`` file; its folder is created if missing.

        Raises:
            ValueError: If a number of the progress is not finite; then nothing is written.
        """
        metadata = {
            "config": self.config.to_json(),
            "progress": json_text(dict(self.progress)),
            "made_with": json_text(provenance()),
        }
        if own := {path: source_digest(path) for path in own_parts(self.config)}:
            metadata[_OWN_PARTS] = json_text(own)
        write_tensors(path, self.tensors, metadata)

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Read a file and check its digest.

        Classes that the configuration names by import path are imported. If the source file of one
        has changed since, a warning says so.

        Raises:
            FileNotFoundError: If there is no such file.
            CheckpointError: If the file is damaged, of another kind or of another format, if an
                import path cannot be imported here, or if this version cannot read the
                configuration. Also if the configuration names sizes that do not fit the tensors;
                this is checked before memory for the model is allocated.
        """
        tensors, metadata = read_tensors(path)
        if not {"config", "progress"} <= metadata.keys():
            raise CheckpointError(
                f"{path} must hold a configuration and progress, but has only {sorted(metadata)}; "
                "it is not a checkpoint of a training run"
            )
        try:
            config = TrainConfig.from_json(metadata["config"], f"the configuration in {path}")
            progress = json_object(metadata["progress"], f"the progress in {path}")
        except (ValueError, UnknownNameError, TypeError) as error:  # bad configuration
            raise CheckpointError(f"{path} cannot be read: {error.args[0]}") from error
        _check_sizes(path, config, tensors)
        _warn_of_changes(path, metadata.get(_OWN_PARTS, "{}"))
        return cls(config, tensors, progress)


def own_parts(config: TrainConfig) -> list[str]:
    """The import paths among the knobs: classes and objects of other packages.

    Example:
        >>> own_parts(TrainConfig())
        []
    """
    return [str(value) for value in config.knobs().values() if is_import_path(value)]


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and metadata atomically: readers see the old file or the new, never a part.

    Args:
        path: A ``.safetensors`` file; its folder is created if missing.
        tensors: Tensors by name; saved by value.
        metadata: Text by name; the names ``format`` and ``sha256`` are reserved.
    """
    # Clones, because safetensors refuses tensors that share memory.
    values = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    marked = dict(metadata) | {"format": str(FORMAT)}
    signed = marked | {"sha256": _digest(marked, values)}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_path(path)
    try:
        with part.open("wb") as file:
            file.write(save(values, signed))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a file of ``write_tensors`` and check its digest.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If the file is damaged, of another format, or was not written by
            ``write_tensors``.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            _check_own(path, metadata)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a complete checkpoint: {error}") from error
    if metadata.pop("sha256") != _digest(metadata, tensors):
        raise CheckpointError(f"{path} was changed or damaged: its SHA-256 does not fit")
    del metadata["format"]
    return tensors, metadata


def check_tensors(path: Path, tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Check that the tensors of a file match a model in names, shapes and types.

    Args:
        path: File the tensors were read from, for the message.
        tensors: Tensors read.
        wanted: Tensors with the expected names, shapes and types.

    Raises:
        CheckpointError: If names, shapes or types differ; the message lists the differences.
    """
    read = {name: (tuple(value.shape), value.dtype) for name, value in tensors.items()}
    differences = [f"{name} is missing" for name in wanted if name not in read]
    differences += [f"{name} is unknown" for name in read if name not in wanted]
    for name, value in wanted.items():
        own = (tuple(value.shape), value.dtype)
        if name in read and read[name] != own:
            differences.append(f"{name} is {read[name]} there, but {own} here")
    if differences:
        raise CheckpointError(
            f"{path} must hold the same model, but {'; '.join(differences[:5])}"
            + (f"; and {len(differences) - 5} more" if len(differences) > 5 else "")
            + "; build the model with the sizes it was saved with"
        )


def check_progress(path: Path, progress: Mapping[str, Any], names: Sequence[str]) -> None:
    """Check that a checkpoint was written by the program that wants to resume from it.

    Args:
        path: Path of the checkpoint, for the message.
        progress: Progress of the checkpoint.
        names: Names that the progress must contain.

    Raises:
        CheckpointError: If a name is missing; the message gives the first one.
    """
    if missing := [name for name in names if name not in progress]:
        raise CheckpointError(
            f"{path} lacks `{missing[0]}`: another program wrote it; move it away, or choose "
            "another folder of checkpoints"
        )


def read_with_settings(
    path: Path, kind: str, owner: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors of a file and the settings stored with them.

    Args:
        path: Path of the file.
        kind: Metadata key of the settings; it identifies the kind of file.
        owner: Name of the class that writes such files, for the message.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If the file is damaged or of another kind, or its settings are not a JSON
            object.
    """
    tensors, metadata = read_tensors(path)
    if kind not in metadata:
        raise CheckpointError(f"{path} must be a file of `{owner}.save`, but is of another kind")
    try:
        return tensors, json_object(metadata[kind], f"the settings in {path}")
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def _check_sizes(path: Path, config: TrainConfig, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a configuration whose model cannot be the one in the file.

    A width may be unused by the chosen ``policy.method``, so usual values are always accepted.
    """
    lengths = [length for tensor in tensors.values() if tensor.numel() for length in tensor.shape]
    widest = max(_USUAL_WIDTH, 2 * max(lengths, default=0))  # a complex mode is two reals
    for knob, value in config.knobs().items():
        is_width = knob.startswith(("policy.", "meta.")) and knob.endswith("_dim")
        most = widest if is_width else max(_USUAL_LAYERS, len(tensors))
        if (is_width or knob == "policy.num_layers") and int(value) > most:
            raise CheckpointError(
                f"{path} must hold the model that it names, but `{knob}` is {value}, and none of "
                f"its {len(tensors)} tensors has an axis longer than {max(lengths, default=0)}; "
                "give the file that the training run wrote"
            )


def _warn_of_changes(path: Path, known: str) -> None:
    """Warn of each import path whose source file has changed since the checkpoint was written."""
    for own, digest in json_object(known, f"the parts in {path}").items():
        if source_digest(own) != digest:
            warnings.warn(
                f"the source of {own} is not what it was when {path} was written: the policy may "
                "behave differently than in training",
                stacklevel=3,
            )


def _check_own(path: Path, metadata: Mapping[str, str]) -> None:
    if "sha256" not in metadata:
        raise CheckpointError(
            f"{path} was not written by ssmrl: it has no SHA-256 of its content; give a checkpoint "
            "of a training run, or the folder that holds one"
        )
    try:
        check_format(metadata.get("format"), str(path))
    except FormatError as error:
        raise CheckpointError(str(error)) from error


def _digest(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the metadata and of all tensor names and contents, in sorted order."""
    digest = hashlib.sha256()
    for key in sorted(metadata):
        digest.update(f"{key}={metadata[key]}\n".encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}\n".encode())
        # Viewed as bytes, since numpy lacks some types; reshaped, since a scalar has no view.
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
