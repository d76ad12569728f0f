"""Saved networks as the initial weights of a new run; resuming a run is in ``ssmrl.run``."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ssmrl.checkpoint import Checkpoint, check_tensors
from ssmrl.config import TrainConfig
from ssmrl.meta.algorithms import get_algorithm
from ssmrl.saved_policy import SavedPolicy, acting_part, checkpoint_file

_RANDOM = "meta.random_env_steps"


@dataclass(frozen=True)
class SavedStart:
    """The networks of a checkpoint, as the initial weights of another run.

    Attributes:
        path: Path as given.
        content: Bytes of the file.
        checkpoint: The checkpoint read from them.
    """

    path: Path
    content: bytes
    checkpoint: Checkpoint

    @classmethod
    def load(cls, path: Path) -> "SavedStart":
        """Read a checkpoint, either complete or reduced to its policy.

        Args:
            path: The file, or a folder, as in ``SavedPolicy.load``.

        Raises:
            FileNotFoundError: If there is no such file.
            OSError: If the file cannot be read.
            CheckpointError: As in ``SavedPolicy.load``.
        """
        file = checkpoint_file(path)
        checkpoint = Checkpoint.load(file)
        SavedPolicy.of(checkpoint, file)
        return cls(path, file.read_bytes(), checkpoint)

    @property
    def sha256(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def is_whole(self) -> bool:
        """Whether the checkpoint holds more than acting needs: critics, or optimiser state."""
        config, tensors = self.checkpoint.config, self.checkpoint.tensors
        return len(acting_part(config, tensors)) < len(tensors)

    def configured(
        self, changed: Mapping[str, Any], *, task: str | None = None, algorithm: str | None = None
    ) -> TrainConfig:
        """The configuration of a run that starts from these networks.

        Knobs left out are as in the checkpoint; another task brings its own horizon and action
        scale. By default there are no initial random steps: the saved policy collects all rollouts,
        and its observation normalisation is kept.

        Args:
            changed: Values by knob.
            task: Task family, if it differs from the checkpoint's.
            algorithm: Name of the algorithm; it must be that of the checkpoint.

        Raises:
            KeyError: If a task or a knob is unknown.
            TypeError: If a knob's value has another type.
            ValueError: If the networks would have other sizes; the message names the knob.
        """
        own = self.checkpoint.config
        wanted = changed.get("algorithm", algorithm)
        if wanted is not None and wanted != own.algorithm:
            raise self._differs("algorithm", own.algorithm, wanted)
        config = own
        if task is not None and task != own.env.task:
            env = TrainConfig.for_task(task, own.algorithm).knobs()
            config = own.with_knobs({k: v for k, v in env.items() if k.startswith("env.")})
        unasked = {_RANDOM: 0} if _RANDOM in own.knobs() else {}
        config = config.with_knobs(unasked | dict(changed))
        self._check_sizes(config)
        return config

    def over(self, fresh: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The initial tensors of a run: the checkpoint's, and fresh ones where it has none.

        Args:
            fresh: Newly initialised weights and optimiser state of the run.

        Raises:
            CheckpointError: If a tensor has another size, or is missing in a complete checkpoint
                or in the policy part of a reduced one.
        """
        saved = self.checkpoint.tensors
        common = {name: value for name, value in saved.items() if name in fresh}
        is_asked = fresh if self.is_whole else acting_part(self.checkpoint.config, fresh)
        check_tensors(self.path, common, is_asked)
        return {**fresh, **saved}

    def _check_sizes(self, config: TrainConfig) -> None:
        own = self.checkpoint.config
        known = own.knobs()
        differing = {knob: v for knob, v in config.knobs().items() if known[knob] != v}
        for knob, value in differing.items():
            is_size = knob.startswith("meta.") and knob.endswith("_dim")
            if knob.startswith("policy.") or is_size:
                raise self._differs(knob, known[knob], value)
        there = _shapes(own)
        if _shapes(config) == there:
            return
        for knob, value in differing.items():
            here = _shapes(own.with_knobs({knob: value}))
            if here != there:
                name = next(n for n in {**there, **here} if there.get(n) != here.get(n))
                raise ValueError(
                    f"`{knob}` must leave the networks of {self.path} as they are, but {value!r} "
                    f"changes {name} from {there.get(name, 'absent')} to "
                    f"{here.get(name, 'absent')}; choose another value, or train from scratch"
                )

    def _differs(self, knob: str, own: Any, wanted: Any) -> ValueError:
        return ValueError(
            f"`{knob}` must be {own!r}, as in {self.path}, from which the run starts, but got "
            f"{wanted!r}; leave it out, or train from scratch without --from"
        )


def _shapes(config: TrainConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of all parameters that acting needs, by name."""
    params = get_algorithm(config.algorithm).player_type()(config).initial_params()
    return {name: tuple(value.shape) for name, value in params.items()}
