"""A policy as it lies on the disk, with what acting needs and nothing else."""

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
    """What a checkpoint of any algorithm says about how to act.

    Attributes:
        config: That it was trained with.
        params: What its player needs.
    """

    config: TrainConfig
    params: Params

    @classmethod
    def load(cls, path: Path) -> "SavedPolicy":
        """Read a checkpoint, whole or reduced to its policy.

        Args:
            path: The file; or a folder that holds ``policy.safetensors``,
                ``checkpoint.safetensors`` or ``best/checkpoint.safetensors``, looked for in this
                order.

        Raises:
            FileNotFoundError: If there is no such file.
            OSError: If it cannot be read.
            CheckpointError: If it is no checkpoint of this version, lacks a part of the policy, or
                a number of that is not finite.
        """
        file = checkpoint_file(path)
        return cls.of(Checkpoint.load(file), file)

    @classmethod
    def of(cls, saved: Checkpoint, file: Path) -> "SavedPolicy":
        """The policy of a checkpoint that was read.

        Args:
            saved: The checkpoint.
            file: Where it was read, for the message.

        Raises:
            CheckpointError: If it lacks a part of the policy, or a number of that is not finite.
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
    """Those tensors of a checkpoint without which its policy could not act.

    Args:
        config: Says which algorithm's they are.
        tensors: By name, as ``Learner.tensors`` gives them.
    """
    params_of = get_algorithm(config.algorithm).player_type().params_of
    return {name: value for name, value in tensors.items() if params_of({name: value})}


def checkpoint_file(path: Path) -> Path:
    """The checkpoint that a path means.

    Args:
        path: The file, or a folder as ``SavedPolicy.load`` has it.

    Raises:
        FileNotFoundError: If a folder holds none.
    """
    if not path.is_dir():
        return path
    for name in _FILES:
        if (path / name).is_file():
            return path / name
    raise FileNotFoundError(f"there is no checkpoint at {path}: it holds none of {list(_FILES)}")
