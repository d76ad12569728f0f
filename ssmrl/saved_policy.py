"""Loading of a saved policy: only the parameters that acting needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ssmrl.checkpoint import Checkpoint, CheckpointError, check_tensors
from ssmrl.config import TrainConfig
from ssmrl.meta.algorithms import get_algorithm
from ssmrl.types import Params

POLICY_FILE = "policy.safetensors"
_FILES = (POLICY_FILE, "checkpoint.safetensors", "best/checkpoint.safetensors")


@dataclass(frozen=True)
class SavedPolicy:
    """The policy in a checkpoint of any algorithm.

    Attributes:
        config: Configuration it was trained with.
        params: Parameters that acting needs.
    """

    config: TrainConfig
    params: Params

    @classmethod
    def load(cls, path: Path) -> "SavedPolicy":
        """Read a checkpoint, either complete or reduced to its policy.

        Args:
            path: The file; or a folder that holds ``policy.safetensors``,
                ``checkpoint.safetensors`` or ``best/checkpoint.safetensors``, searched in this
                order.

        Raises:
            FileNotFoundError: If there is no such file.
            OSError: If the file cannot be read.
            CheckpointError: If the file is not a checkpoint of this version, lacks a part of the
                policy, or has a policy parameter that is not finite.
        """
        file = checkpoint_file(path)
        return cls.of(Checkpoint.load(file), file)

    @classmethod
    def of(cls, saved: Checkpoint, file: Path) -> "SavedPolicy":
        """The policy of a loaded checkpoint.

        Args:
            saved: The checkpoint.
            file: File it was read from, for the message.

        Raises:
            CheckpointError: If a part of the policy is missing, or a parameter is not finite.
        """
        player = get_algorithm(saved.config.algorithm).player_type()
        params = player.params_of(saved.tensors)
        check_tensors(file, params, player(saved.config).initial_params())
        if strange := [name for name, value in params.items() if not value.isfinite().all()]:
            raise CheckpointError(
                f"{file} must hold finite numbers, but in {strange[0]} some are not finite: its "
                "training diverged"
            )
        return cls(saved.config, params)


def acting_part(config: TrainConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint that its policy needs to act.

    Args:
        config: Configuration; its algorithm decides which tensors these are.
        tensors: Tensors by name, as ``Learner.tensors`` returns them.
    """
    params_of = get_algorithm(config.algorithm).player_type().params_of
    return {name: value for name, value in tensors.items() if params_of({name: value})}


def checkpoint_file(path: Path) -> Path:
    """The checkpoint file at a path.

    Args:
        path: A file, or a folder as in ``SavedPolicy.load``.

    Raises:
        FileNotFoundError: If the folder holds no checkpoint.
    """
    if not path.is_dir():
        return path
    for name in _FILES:
        if (path / name).is_file():
            return path / name
    raise FileNotFoundError(f"there is no checkpoint at {path}: it holds none of {list(_FILES)}")
