"""What was played, kept in preallocated tensors, and paid anew for any task of the family."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ssmrl.config import TrainConfig
from ssmrl.context.networks import hidden_code
from ssmrl.device import CPU
from ssmrl.envs.families import get_family
from ssmrl.envs.rewards import Motion
from ssmrl.rollout.worker import env_shape, motion_dim
from ssmrl.types import Trajectory


class Transitions(NamedTuple):
    """Raw transitions ``M``, and what their rewards were made of.

    Attributes:
        observation: ``(M, O)``.
        action: ``(M, A)``.
        reward: As it was paid, ``(M,)``.
        next_observation: ``(M, O)``.
        continues: 0 where the episode ended by its own rules, else 1, ``(M,)``.
        code: Of the hidden variable that paid, ``(M, Z)``.
        motion: Columns of ``Motion``, ``(M, D + 3)`` float64.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    next_observation: Tensor
    continues: Tensor
    code: Tensor
    motion: Tensor


class Replay:
    """The last env steps, episode by episode; the oldest turn makes room for the newest.

    A turn is what is played at once: an iteration, or that of a group of its lanes.

    Args:
        config: Of context-sac: how much is kept, and how much comes with a turn.
        device: Where it is kept; what is played comes from the CPU.
        tensors: Where it is kept, if others own the memory.

    Attributes:
        num_env_steps: What is kept now.

    Raises:
        ValueError: If an iteration does not fit in, a batch is larger than the replay, or the
            groups of lanes are not equal.
    """

    def __init__(
        self,
        config: TrainConfig,
        device: torch.device = CPU,
        tensors: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._group = _episodes_per_turn(config)
        self._horizon = config.env.horizon
        self._tensors = _empty(config, 1, device) if tensors is None else tensors
        self._num_groups = _num_groups(config)
        self._num_added = 0

    @property
    def num_rows(self) -> int:
        """Episodes that are kept."""
        num_rows: int = min(self._num_added, self._num_groups) * self._group
        return num_rows

    @property
    def num_env_steps(self) -> int:
        """Env steps that are kept."""
        return self.num_rows * self._horizon

    @property
    def kept(self) -> range:
        """Numbers of the turns that are kept, counted from 0."""
        return range(max(0, self._num_added - self._num_groups), self._num_added)

    @staticmethod
    def kept_after(config: TrainConfig, num_iterations: int) -> range:
        """Numbers of the turns that are kept after so many iterations."""
        num_turns = num_iterations * config.meta.num_turns
        return range(max(0, num_turns - _num_groups(config)), num_turns)

    def add(self, trajectories: Sequence[Trajectory], code: Tensor) -> None:
        """Keep a turn: all episodes of all its lanes.

        Args:
            trajectories: ``K`` of them, each of ``N`` tasks and one lane.
            code: Of the tasks' hidden variables, ``(N, Z)``.
        """
        rows = self._rows_of(self._num_added)
        for episode, trajectory in enumerate(trajectories):
            own = slice(rows.start + episode, rows.stop, len(trajectories))
            last = trajectory.last_observation.unsqueeze(2)
            values = {
                "observation": torch.cat([trajectory.observation, last], dim=2),
                "action": trajectory.action,
                "reward": trajectory.reward,
                "first": trajectory.first,
                "terminated": trajectory.terminated,
                "motion": trajectory.motion,
            }
            for name, value in values.items():
                self._tensors[name][own] = value[:, 0]
            self._tensors["code"][own] = code
        self._num_added += 1

    def take(self, index: Tensor) -> Transitions:
        """Transitions by their place.

        Args:
            index: ``(M,)``, each below ``num_env_steps``.
        """
        return _taken(self._tensors, index, self._horizon)

    def observations(self) -> Tensor:
        """All that was seen, ``(M, O)``."""
        return self._tensors["observation"][: self.num_rows].flatten(0, 1)

    def lanes(self, turn: int, num_episodes: int) -> dict[str, Tensor]:
        """A turn as whole meta-episodes.

        Args:
            turn: One of ``kept``.
            num_episodes: ``K``; they follow each other in time.

        Returns:
            ``observation`` ``(N, K * T, O)``, ``action``, ``reward``, ``first``, ``motion``
            likewise, and ``code`` ``(N, Z)``.
        """
        rows = self._rows_of(turn)
        kept = {name: value[rows] for name, value in self._tensors.items()}
        kept["observation"] = kept["observation"][:, :-1]
        joined = {
            name: kept[name].unflatten(0, (-1, num_episodes)).flatten(1, 2)
            for name in ("observation", "action", "reward", "first", "motion")
        }
        return joined | {"code": kept["code"][::num_episodes]}

    def segment(self, turn: int) -> dict[str, Tensor]:
        """All tensors of a turn that is kept, on the CPU, to be written to a file."""
        rows = self._rows_of(turn)
        return {name: value[rows].cpu() for name, value in self._tensors.items()}

    def restore(self, turn: int, segment: Mapping[str, Tensor]) -> None:
        """Put a turn back that was written to a file; in rising order."""
        rows = self._rows_of(turn)
        for name, value in segment.items():
            self._tensors[name][rows] = value
        self._num_added = turn + 1

    def clear(self) -> None:
        """Forget everything."""
        self._num_added = 0

    def _rows_of(self, turn: int) -> slice:
        start = turn % self._num_groups * self._group
        return slice(start, start + self._group)


class StackedReplay:
    """The replays of several seeds side by side, so that one gather takes from all of them.

    Args:
        config: Of context-sac, whatever its seed.
        num_seeds: How many.
        device: Where they are kept.

    Attributes:
        own: Of each seed.
        env_steps_of_one: What one of them can hold: places of a seed begin at so many times its
            number [env steps].
    """

    def __init__(self, config: TrainConfig, num_seeds: int, device: torch.device = CPU) -> None:
        self._tensors, self._horizon = _empty(config, num_seeds, device), config.env.horizon
        num_rows = len(self._tensors["reward"]) // num_seeds
        self.env_steps_of_one = num_rows * self._horizon
        parts = {name: value.split(num_rows) for name, value in self._tensors.items()}
        self.own = [
            Replay(config, device, {name: part[place] for name, part in parts.items()})
            for place in range(num_seeds)
        ]

    def take(self, index: Tensor) -> Transitions:
        """Transitions by their place among those of all seeds.

        Args:
            index: ``(M,)``.
        """
        return _taken(self._tensors, index, self._horizon)


def _empty(config: TrainConfig, num_seeds: int, device: torch.device) -> dict[str, Tensor]:
    num_rows = num_seeds * _num_groups(config) * _episodes_per_turn(config)
    return {
        name: torch.empty(num_rows, *size, dtype=dtype, device=device)
        for name, (size, dtype) in _row_shapes(config).items()
    }


def _taken(kept: Mapping[str, Tensor], index: Tensor, horizon: int) -> Transitions:
    row, place = index // horizon, index % horizon
    seen = row * (horizon + 1) + place
    observation = kept["observation"].flatten(0, 1)
    return Transitions(
        observation.index_select(0, seen),
        kept["action"].flatten(0, 1).index_select(0, index),
        kept["reward"].flatten().index_select(0, index),
        observation.index_select(0, seen + 1),
        1.0 - kept["terminated"].flatten().index_select(0, index).float(),
        kept["code"].index_select(0, row),
        kept["motion"].flatten(0, 1).index_select(0, index),
    )


def paid_by(motion: Tensor, parameters: Tensor, config: TrainConfig) -> Tensor:
    """What tasks of the family would have paid for steps that were played.

    Args:
        motion: Columns of ``Motion``, ``(..., D + 3)``.
        parameters: Hidden variables of the tasks, ``(..., P)``; their type is computed with.
        config: Says which family.

    Returns:
        Rewards, ``(...)``.
    """
    formula = get_family(config.env.task).reward
    assert formula is not None, "callers relabel only where rewards tell"
    reward: Tensor = formula.total(parameters, Motion.of_columns(motion.to(parameters.dtype)))
    return reward


def replay_bytes(config: TrainConfig) -> int:
    """What the replay takes of the memory when it is full [bytes]."""
    row = sum(math.prod(size) * dtype.itemsize for size, dtype in _row_shapes(config).values())
    return _num_groups(config) * _episodes_per_turn(config) * row


def _episodes_per_turn(config: TrainConfig) -> int:
    episodes: int = config.meta.lanes_per_turn * config.meta.episodes_per_task
    return episodes


def _num_groups(config: TrainConfig) -> int:
    meta = config.meta
    per_iteration = meta.env_steps_per_iteration(config.env.horizon)
    if meta.num_lanes % meta.num_turns:
        raise ValueError(
            f"`meta.lane_groups` must divide `meta.num_lanes`, but got {meta.lane_groups} and "
            f"{meta.num_lanes}: groups are equal; change one of them"
        )
    per_turn = per_iteration // meta.num_turns
    num_groups = int(meta.replay_env_steps // per_turn)
    if num_groups < meta.num_turns:
        raise ValueError(
            "`meta.replay_env_steps` must hold what an iteration plays, "
            f"{meta.num_lanes} lanes x {meta.episodes_per_task} episodes x {config.env.horizon} = "
            f"{per_iteration} env steps, but is {meta.replay_env_steps}; raise it"
        )
    if num_groups * per_turn < meta.batch_size:
        raise ValueError(
            f"`meta.replay_env_steps` must hold a batch, but only {num_groups * per_turn} env "
            f"steps fit in beside `meta.batch_size` {meta.batch_size}; raise it"
        )
    return num_groups


def _row_shapes(config: TrainConfig) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Shape and type of what is kept of an episode, by name."""
    horizon, code = config.env.horizon, hidden_code(config).dim
    shape = env_shape(config.env)
    return {
        "observation": ((horizon + 1, shape.observation_dim), torch.float32),
        "action": ((horizon, shape.action_dim), torch.float32),
        "reward": ((horizon,), torch.float32),
        "first": ((horizon,), torch.bool),
        "terminated": ((horizon,), torch.bool),
        "motion": ((horizon, motion_dim(config.env)), torch.float64),
        "code": ((code,), torch.float32),
    }
