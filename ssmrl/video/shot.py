"""Films an episode: its pictures, its rewards, and what the task judges."""

import zlib
from dataclasses import dataclass

import numpy as np

from ssmrl.config import TrainConfig
from ssmrl.envs.batched_env import BatchedEnv, Camera, Step
from ssmrl.envs.task import Task
from ssmrl.meta.algorithms import get_algorithm
from ssmrl.rollout.assignment import one_task_assignment
from ssmrl.rollout.play import LocalCollector, Mode, Play, Player
from ssmrl.rollout.report import MODE_WORDS
from ssmrl.types import Params


@dataclass(frozen=True)
class Shot:
    """One episode of one lane, up to its end.

    Attributes:
        title: Text that says how the policy adapted.
        rewards: Reward of each env step, ``(T,)``.
        achieved: ``Motion.achieved`` of each env step, ``(T, D)``.
        pictures: Picture after each env step, ``(H, W, 3)`` uint8, compressed to save memory.
        size: Size of a picture, ``(H, W)``.
    """

    title: str
    rewards: np.ndarray
    achieved: np.ndarray
    pictures: tuple[bytes, ...]
    size: tuple[int, int]

    @property
    def num_steps(self) -> int:
        """``T`` [env steps]; less than the horizon if the episode ended earlier."""
        return len(self.rewards)

    @property
    def episode_return(self) -> float:
        """The sum of the rewards."""
        return float(self.rewards.sum())

    def picture(self, step: int) -> np.ndarray:
        """The picture after a step, ``(H, W, 3)`` uint8."""
        pixels = np.frombuffer(zlib.decompress(self.pictures[step]), dtype=np.uint8)
        return pixels.reshape(*self.size, 3)


def film(
    config: TrainConfig,
    params: Params,
    task: Task,
    *,
    seed: int = 0,
    num_episodes: int | None = None,
) -> tuple[Shot, Shot]:
    """Film the first episode without adaptation, and the last one with adaptation.

    Both start states come from the same distribution; with a single episode they are equal.

    Args:
        config: Configuration of the policy.
        params: Parameters of the policy.
        task: Task to play.
        seed: Seed of start states and exploration.
        num_episodes: Episodes with the task; by default as many as the algorithm reports.

    Raises:
        NoPictureError: If nothing can be drawn on this machine; the message says what helps.
        ValueError: If ``num_episodes`` is not positive.
    """
    algorithm = get_algorithm(config.algorithm)
    player: Player = algorithm.player_type()(config)
    num = player.num_reported_episodes if num_episodes is None else num_episodes
    if num < 1:
        raise ValueError(f"`num_episodes` must be at least 1, but got {num}")
    if algorithm.kind == "memory":
        titles = (MODE_WORDS[Mode.OFF], f"{MODE_WORDS[Mode.USED]}, episode {num}")
    else:
        titles = ("before adaptation", f"after {num - 1} adaptation steps")
    before = _filmed(config, params, task, seed, titles[0], 1, Mode.OFF)
    return before, _filmed(config, params, task, seed, titles[1], num, Mode.USED)


def _filmed(
    config: TrainConfig,
    params: Params,
    task: Task,
    seed: int,
    title: str,
    num_episodes: int,
    mode: Mode,
) -> Shot:
    """Film the last of ``num_episodes`` episodes."""
    filming = _Filming(num_episodes - 1)
    collect = LocalCollector(config, 1, watch=filming)
    lanes = config.evaluation.num_episodes
    collect(params, Play(one_task_assignment(task, seed), lanes, num_episodes, mode))
    return filming.shot(title)


class _Filming:
    """Callback that records the first lane during one of the episodes, until its end."""

    def __init__(self, phase: int) -> None:
        self._phase = phase
        self._camera: Camera | None = None
        self._rewards: list[float] = []
        self._achieved: list[np.ndarray] = []
        self._pictures: list[bytes] = []
        self._size, self._has_ended = (0, 0), False

    def __call__(self, phase: int, env: BatchedEnv, step: Step) -> None:
        if self._camera is None:  # at once, so that a missing renderer fails early
            self._camera = env.camera()
        if phase != self._phase or self._has_ended:
            return
        picture = np.asarray(self._camera(0), dtype=np.uint8)
        self._size = (picture.shape[0], picture.shape[1])
        self._pictures.append(zlib.compress(picture.tobytes(), level=1))
        self._rewards.append(float(step.reward[0]))
        self._achieved.append(np.array(step.motion.achieved[0], dtype=np.float64))
        self._has_ended = bool(step.terminated[0])

    def shot(self, title: str) -> Shot:
        return Shot(
            title,
            np.array(self._rewards),
            np.stack(self._achieved),
            tuple(self._pictures),
            self._size,
        )
