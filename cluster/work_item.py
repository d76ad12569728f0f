"""The parts of a play, a request for rollouts: tasks for runners, trajectories for learners."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Any

import numpy as np
import ray
import torch
from torch import Tensor

from ssmrl.rollout.play import Mode, Play
from ssmrl.rollout.returns import episode_return
from ssmrl.types import Trajectory

NUM_LOST_PARTS = "num_lost_parts_lifetime"
"""Name of the metric that counts lost parts."""


class Delivery(Enum):
    """How trajectories leave the runner that collected them; each is sent at most once."""

    NONE = "only their returns are sent"
    DIRECT = "with the runner's answer, to the learner in the algorithm's process"
    REFERENCE = "each learner fetches its own from the object store"


@dataclass(frozen=True)
class WorkItem:
    """The part of a play that one runner collects.

    Attributes:
        number: Index of the part; the parts divide the tasks of the play in this order.
        play: Play of all runners together.
        tasks: Slice of the play's tasks that belongs to this part.
        shares: Learner number -> number of these tasks in its share; shares take them in order.
    """

    number: int
    play: Play
    tasks: slice
    shares: Mapping[int, int]

    @property
    def num_episodes(self) -> int:
        """The number of episodes of all lanes of the part."""
        num_tasks: int = self.tasks.stop - self.tasks.start
        return num_tasks * self.play.num_lanes * self.play.num_episodes


@dataclass(frozen=True)
class TrajectoryShard:
    """Trajectories of the tasks of one part that belong to one learner.

    Attributes:
        part: Number of the part.
        num_bytes: Size of the trajectories [bytes].
        content: ``K`` trajectories along the adaptation, or Ray's reference to them.
    """

    part: int
    num_bytes: int
    content: list[Trajectory] | ray.ObjectRef[list[Trajectory]]

    def fetch(self) -> list[Trajectory]:
        """The trajectories themselves.

        Raises:
            ray.exceptions.ObjectLostError: If the runner that holds them has died.
        """
        if isinstance(self.content, ray.ObjectRef):
            trajectories: list[Trajectory] = ray.get(self.content)
            return trajectories
        return self.content


@dataclass(frozen=True)
class RolloutResult:
    """The result of a part.

    Attributes:
        number: Number of the part.
        returns: Returns of ``K`` successive episodes, ``N`` tasks and ``B`` lanes, ``(K, N, B)``.
        env_steps: Env steps of all lanes, even after an episode that ended early [env steps].
        shards: Trajectories by the number of the learner's share; empty if they are not sent.
    """

    number: int
    returns: Tensor
    env_steps: int
    shards: Mapping[int, TrajectoryShard]

    @classmethod
    def of(
        cls, part: WorkItem, trajectories: Sequence[Trajectory], delivery: Delivery
    ) -> "RolloutResult":
        """Summarise a part, and make its trajectories available to the learners."""
        shards: dict[int, TrajectoryShard] = {}
        start = 0
        for share, num_tasks in part.shares.items() if delivery is not Delivery.NONE else ():
            content: Any = [
                Trajectory(*(leaf[start : start + num_tasks] for leaf in trajectory))
                for trajectory in trajectories
            ]
            num_bytes = sum(leaf.nbytes for trajectory in content for leaf in trajectory)
            if delivery is Delivery.REFERENCE:
                content = ray.put(content)
            shards[share] = TrajectoryShard(part.number, num_bytes, content)
            start += num_tasks
        return cls(
            part.number,
            torch.stack([episode_return(trajectory) for trajectory in trajectories]),
            sum(trajectory.reward.numel() for trajectory in trajectories),
            shards,
        )


def split(play: Play, num_parts: int, num_shares: int = 1) -> list[WorkItem]:
    """Divide a play among runners, and each part again among learners.

    The shares of the learners, and so their results, do not depend on the number of parts. A play
    with the rewards of other tasks, ``Mode.OTHER_REWARDS``, is not divided.

    Args:
        play: Play of all tasks.
        num_parts: Maximum number of parts; each part has at least one task.
        num_shares: Number of learners.
    """
    assignment = play.assignment
    num_parts = 1 if play.mode is Mode.OTHER_REWARDS else num_parts
    bounds = np.linspace(0, len(assignment.tasks), num_shares + 1).astype(int)
    parts: list[WorkItem] = []
    start = 0
    for number, piece in enumerate(assignment.split(num_parts)):
        end = start + len(piece.tasks)
        common = {
            share: min(end, high) - max(start, low)
            for share, (low, high) in enumerate(pairwise(bounds))
        }
        shares = {share: n for share, n in common.items() if n > 0}
        parts.append(WorkItem(number, play, slice(start, end), shares))
        start = end
    return parts


def concatenate(parts: Sequence[Sequence[Trajectory]]) -> list[Trajectory]:
    """Concatenate the tasks of several parts, for each trajectory along the adaptation."""
    return [
        Trajectory(*(torch.cat(leaves) for leaves in zip(*collections, strict=True)))
        for collections in zip(*parts, strict=True)
    ]
