"""Play, adapt, play again: the experience of tasks along their adaptation."""

import torch
from torch import Tensor

from ssmrl.meta.gradient import adapt, make_sample
from ssmrl.meta.inner import stack_params
from ssmrl.meta.settings import GradientSettings
from ssmrl.models.actor import GaussianActor
from ssmrl.rollout.assignment import Assignment
from ssmrl.rollout.worker import RolloutWorker
from ssmrl.types import Params, Trajectory


def collect_adapting(
    worker: RolloutWorker,
    actor: GaussianActor,
    params: Params,
    assignment: Assignment,
    config: GradientSettings,
    *,
    num_steps: int,
    num_episodes: int,
) -> list[Trajectory]:
    """Collect before and after each of ``num_steps`` adaptation steps.

    Args:
        worker: Plays.
        actor: The policy's structure.
        params: Meta-parameters, without a task axis.
        assignment: ``N`` tasks and their randomness.
        config: Inner learning rate and discounts.
        num_steps: Adaptation steps.
        num_episodes: Lanes per task and collection.

    Returns:
        ``num_steps + 1`` trajectories; the last one is the query.
    """
    adapted = stack_params(params, len(assignment.tasks))
    trajectories = []
    with torch.no_grad():
        for phase in range(num_steps + 1):
            trajectory = worker.collect(adapted, assignment, num_episodes, phase)
            trajectories.append(trajectory)
            if phase < num_steps:
                adapted = adapt(actor, adapted, make_sample(trajectory, config), config)
    return trajectories


def episode_return(trajectory: Trajectory) -> Tensor:
    """Undiscounted return of the episode that started at ``t = 0`` of each lane, ``(N, B)``."""
    ended_before = trajectory.terminated.cumsum(-1) - trajectory.terminated.long() > 0
    return trajectory.reward.masked_fill(ended_before, 0.0).sum(-1)
