"""Deployment of a trained policy: one simulation, one step at a time."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssmrl.adaptation.adaptation import Decision
from ssmrl.config import TrainConfig
from ssmrl.envs.families import get_family
from ssmrl.envs.task import Task
from ssmrl.meta.algorithms import get_algorithm
from ssmrl.rollout.assignment import Assignment
from ssmrl.rollout.play import Mode, Play, Player
from ssmrl.rollout.worker import env_shape
from ssmrl.saved_policy import SavedPolicy
from ssmrl.types import Params, Trajectory


class DeployedPolicy:
    """A policy that adapts to the one task it is used on.

    A policy that adapts by memory does so at every step, from the observations and rewards it
    receives, and does not explore. A policy that adapts by gradient explores. Once it has
    ``num_lanes`` full lanes, it makes one gradient step on them, at the start of the next episode.
    Both keep adapting as long as they are used; ``reset`` forgets the task.

    A lane is ``env.horizon`` steps long, as in training. An episode that ends earlier shares its
    lane with the next one. Steps of an episode after its lane is full are not learnt from.

    Args:
        config: Configuration the policy was trained with.
        params: Parameters that acting needs, as in ``SavedPolicy``.
        rng: Source of exploration noise.
        num_lanes: Lanes of experience per gradient step; default: ``meta.num_episodes``, as in
            training.

    Attributes:
        config: Configuration the policy was trained with.

    Raises:
        ValueError: If ``num_lanes`` is not positive, or not 1 for a policy that adapts by memory.
    """

    def __init__(
        self,
        config: TrainConfig,
        params: Params,
        *,
        rng: np.random.Generator,
        num_lanes: int | None = None,
    ) -> None:
        self.config, self._rng = config, rng
        algorithm = get_algorithm(config.algorithm)
        by_gradient = algorithm.kind == "gradient"
        usual = config.meta.num_episodes if by_gradient else 1
        self._num_lanes = usual if num_lanes is None else num_lanes
        if self._num_lanes < 1 or (self._num_lanes > 1 and not by_gradient):
            raise ValueError(
                "`num_lanes` must be "
                f"{'at least 1' if by_gradient else '1 for a policy that adapts by memory'}, but "
                f"got {num_lanes}; leave it out to take {usual}"
            )
        family = get_family(config.env.task)
        self._limit, self._shape = family.limit_action, env_shape(config.env)
        player: Player = algorithm.player_type()(config)
        nobody_knows = Task(family.name, (math.nan,) * family.spec.num_parameters)
        assignment = Assignment((nobody_knows,), (np.random.SeedSequence(0),))
        play = Play(assignment, 1, player.num_reported_episodes, Mode.USED)
        self._adaptation = player.adaptation(params, play)
        self.reset()

    def reset(self) -> None:
        """Forget the task and all experience; the next ``act`` starts a new task."""
        self._state = self._lane_start = self._adaptation.begin(1, 1)
        self._lanes: list[_Lane] = []
        self._lane = _Lane(self.config.env.horizon)
        self._last: Decision | None = None

    @torch.no_grad()
    def act(
        self,
        observation: np.ndarray,
        reward: float | None = None,
        episode_start: bool = False,
    ) -> np.ndarray:
        """Take in the result of the last action and choose the next action.

        Args:
            observation: Current observation, ``(O,)``.
            reward: Reward of the last action. At the first step of a task there is none, and it
                is ignored.
            episode_start: Whether the last episode has ended and ``observation`` is the first of
                a new one with the same task. The first step of a task always counts as one.

        Returns:
            The action in the simulator's own scale, [-1, 1], ``(A,)`` float32, as the family's
            Gymnasium environment takes it.

        Raises:
            ValueError: If the observation has another shape, or a reward is missing or not finite.
        """
        seen = self._checked(observation)
        first = torch.tensor([[episode_start or self._last is None]])
        if self._last is not None:
            self._observe(self._last, reward, ended=episode_start)
            if episode_start:
                self._end_episode(seen)
        noise = torch.from_numpy(self._rng.standard_normal(self._shape.action_dim, np.float32))
        self._last, self._state = self._adaptation.act(seen, first, noise[None, None], self._state)
        self._lane.act(seen, first, self._last)
        action = self._last.action[0, 0].double().numpy() / self.config.env.action_scale
        return self._limit(action).astype(np.float32)

    def _checked(self, observation: np.ndarray) -> Tensor:
        seen = torch.as_tensor(np.asarray(observation), dtype=torch.float32)
        if seen.shape != (self._shape.observation_dim,):
            raise ValueError(
                f"`observation` must have shape ({self._shape.observation_dim},) on "
                f"{self.config.env.task}, but got {tuple(seen.shape)}; pass that of one simulation"
            )
        return seen[None, None]

    def _observe(self, last: Decision, reward: float | None, *, ended: bool) -> None:
        if reward is None or not math.isfinite(reward):
            raise ValueError(
                f"`reward` must be the last action's reward, a finite number, but got {reward}; "
                "only the first step of a task has none: call `reset` before a new task"
            )
        given = torch.tensor([[float(reward)]])
        self._state = self._adaptation.observe(last.action, given, self._state)
        self._lane.receive(given, ended=ended)

    def _end_episode(self, seen: Tensor) -> None:
        """If the lane is full, start a new one; adapt once ``num_lanes`` are full."""
        if not self._lane.is_full:
            return
        self._lanes.append(self._lane)
        self._lane = _Lane(self.config.env.horizon)
        if len(self._lanes) == self._num_lanes:
            trajectory = _joined(self._lanes, seen)
            self._lane_start = self._adaptation.end_of_episode(trajectory, self._state)
            self._lanes = []
        self._state = self._lane_start


class _Lane:
    """One lane, filled step by step; steps beyond its length are dropped."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._actions: list[tuple[Tensor, Tensor, Decision]] = []
        self._results: list[tuple[Tensor, bool]] = []

    @property
    def is_full(self) -> bool:
        return len(self._results) == self._length

    def act(self, observation: Tensor, first: Tensor, decision: Decision) -> None:
        if not self.is_full:
            self._actions.append((observation, first, decision))

    def receive(self, reward: Tensor, *, ended: bool) -> None:
        if not self.is_full:
            self._results.append((reward, ended))

    def trajectory(self, last_observation: Tensor) -> Trajectory:
        observations, firsts, decisions = zip(*self._actions, strict=True)
        rewards, ended = zip(*self._results, strict=True)
        terminated = torch.tensor(ended)[None, None].clone()
        terminated[..., -1] = False  # whatever ended the episode, nothing follows in the lane
        truncated = torch.zeros_like(terminated)
        truncated[..., -1] = True
        return Trajectory(
            observation=torch.stack(observations, dim=2),
            action=torch.stack([decision.action for decision in decisions], dim=2),
            reward=torch.stack(rewards, dim=2),
            log_prob=torch.stack([decision.log_prob for decision in decisions], dim=2),
            first=torch.stack(firsts, dim=2),
            terminated=terminated,
            truncated=truncated,
            last_observation=last_observation,
            motion=torch.empty(1, 1, self._length, 0, dtype=torch.float64),
        )


def _joined(lanes: list[_Lane], last_observation: Tensor) -> Trajectory:
    """All lanes of one task, ``(1, B, T, ...)``.

    ``last_observation`` is the first observation of the next episode, because the caller does not
    give the final one of the ended episode.
    """
    parts = [lane.trajectory(last_observation) for lane in lanes]
    return Trajectory(*(torch.cat(values, dim=1) for values in zip(*parts, strict=True)))


def load(path: Path | str, *, seed: Any = 0, num_lanes: int | None = None) -> DeployedPolicy:
    """Load a saved policy for use in a plain Gymnasium loop.

    Args:
        path: A checkpoint, or the folder of a training run or a sweep.
        seed: Seed of exploration noise: anything that ``numpy.random.default_rng`` takes.
        num_lanes: As in ``DeployedPolicy``.

    Raises:
        ValueError: If the seed is invalid, or as in ``DeployedPolicy``.
        FileNotFoundError: If there is no checkpoint.
        CheckpointError: If the file is not a checkpoint of this version, or is damaged.
    """
    try:
        rng = np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`seed` must be a NumPy seed, such as a whole number of at least 0, but got {seed!r}"
        ) from error
    saved = SavedPolicy.load(Path(path))
    return DeployedPolicy(saved.config, saved.params, rng=rng, num_lanes=num_lanes)
