"""Replay buffer in preallocated tensors; rewards can be relabelled for any task of the family."""

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
    """``M`` raw transitions, and the motions that their rewards were computed from.

    Attributes:
        observation: ``(M, O)``.
        action: ``(M, A)``.
        reward: Reward as paid by the environment, ``(M,)``.
        next_observation: ``(M, O)``.
        continues: 0 if the episode terminated, else 1, ``(M,)``.
        code: Code of the hidden variable behind the reward, ``(M, Z)``.
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
    """The latest env steps, stored by episode; the newest turn overwrites the oldest.

    A turn is what is collected at once: a whole iteration, or that of one group of its lanes.

    Args:
        config: Configuration of context-sac; it sets the capacity and the size of a turn.
        device: Device of the buffer; new rollouts come from the CPU.
        tensors: Storage owned by others; allocated here by default.

    Attributes:
        num_env_steps: Number of stored env steps.

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
        """Number of stored episodes."""
        num_rows: int = min(self._num_added, self._num_groups) * self._group
        return num_rows

    @property
    def num_env_steps(self) -> int:
        """Number of stored env steps."""
        return self.num_rows * self._horizon

    @property
    def kept(self) -> range:
        """Numbers of the stored turns, counted from 0."""
        return range(max(0, self._num_added - self._num_groups), self._num_added)

    @staticmethod
    def kept_after(config: TrainConfig, num_iterations: int) -> range:
        """Numbers of the turns that are stored after ``num_iterations`` iterations."""
        num_turns = num_iterations * config.meta.num_turns
        return range(max(0, num_turns - _num_groups(config)), num_turns)

    def add(self, trajectories: Sequence[Trajectory], code: Tensor) -> None:
        """Store a turn: all episodes of all its lanes.

        Args:
            trajectories: ``K`` trajectories, each of ``N`` tasks and one lane.
            code: Codes of the tasks' hidden variables, ``(N, Z)``.
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
        """Transitions at the given indices.

        Args:
            index: Indices, ``(M,)``, each below ``num_env_steps``.
        """
        return _taken(self._tensors, index, self._horizon)

    def observations(self) -> Tensor:
        """All stored observations, ``(M, O)``."""
        return self._tensors["observation"][: self.num_rows].flatten(0, 1)

    def lanes(self, turn: int, num_episodes: int) -> dict[str, Tensor]:
        """A turn as whole meta-episodes.

        Args:
            turn: Number of a turn, one of ``kept``.
            num_episodes: Consecutive episodes of a meta-episode, ``K``.

        Returns:
            Tensors by name: ``observation`` ``(N, K * T, O)``; ``action``, ``reward``, ``first``
            and ``motion`` with the same leading axes; and ``code`` ``(N, Z)``.
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
        """All tensors of a stored turn, on the CPU, to be written to a file."""
        rows = self._rows_of(turn)
        return {name: value[rows].cpu() for name, value in self._tensors.items()}

    def restore(self, turn: int, segment: Mapping[str, Tensor]) -> None:
        """Restore a turn from a file; turns must be restored in ascending order."""
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
    """The replays of several seeds in one storage, so that one gather reads all of them.

    Args:
        config: Configuration of context-sac, with any seed.
        num_seeds: Number of seeds.
        device: Device of the storage.

    Attributes:
        own: Replay of each seed.
        env_steps_of_one: Capacity of one replay [env steps]; indices of seed ``i`` start at ``i``
            times this.
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
        """Transitions at indices into the storage of all seeds.

        Args:
            index: Indices, ``(M,)``.
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
    """Relabelled rewards: what given tasks would have paid for recorded steps.

    Args:
        motion: Columns of ``Motion``, ``(..., D + 3)``.
        parameters: Hidden variables of the tasks, ``(..., P)``; their dtype is that of the result.
        config: Configuration with the task family.

    Returns:
        Rewards, ``(...)``.
    """
    formula = get_family(config.env.task).reward
    assert formula is not None, "callers relabel only with a reward formula"
    reward: Tensor = formula.total(parameters, Motion.of_columns(motion.to(parameters.dtype)))
    return reward


def replay_bytes(config: TrainConfig) -> int:
    """Memory of a full replay [bytes]."""
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
            f"{meta.num_lanes}: groups must be of equal size; change one of them"
        )
    per_turn = per_iteration // meta.num_turns
    num_groups = int(meta.replay_env_steps // per_turn)
    if num_groups < meta.num_turns:
        raise ValueError(
            "`meta.replay_env_steps` must hold one iteration, "
            f"{meta.num_lanes} lanes x {meta.episodes_per_task} episodes x {config.env.horizon} = "
            f"{per_iteration} env steps, but is {meta.replay_env_steps}; raise it"
        )
    if num_groups * per_turn < meta.batch_size:
        raise ValueError(
            f"`meta.replay_env_steps` must hold a batch of `meta.batch_size` {meta.batch_size}, "
            f"but only {num_groups * per_turn} env steps fit in; raise it"
        )
    return num_groups


def _row_shapes(config: TrainConfig) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Shape and dtype of each stored tensor of an episode, by name."""
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
