"""Control of adaptation: the same experience with its rewards in random order.

A gain that remains with shuffled rewards is no adaptation to the task. The control is no measure of
learning by itself.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ssmrl.config import TrainConfig
from ssmrl.meta.gradient import adapt, make_sample
from ssmrl.meta.inner import stack_params
from ssmrl.models.actor import GaussianActor
from ssmrl.rollout.adaptation import collect_once
from ssmrl.rollout.assignment import Assignment, held_out_assignment
from ssmrl.rollout.returns import episode_return
from ssmrl.rollout.worker import RolloutWorker
from ssmrl.types import Params, Trajectory


def shuffle_rewards(
    trajectory: Trajectory, streams: Sequence[np.random.SeedSequence]
) -> Trajectory:
    """Permute the rewards of each task over its lanes and its time.

    Args:
        trajectory: Trajectory of ``N`` tasks; not changed.
        streams: Random streams, one per task: a task's order does not depend on other tasks.

    Returns:
        The trajectory with each task's rewards in another order, and nothing else changed.
    """
    flat = trajectory.reward.flatten(1)
    order = np.stack(
        [np.random.default_rng(stream).permutation(flat.shape[1]) for stream in streams]
    )
    shuffled = flat.gather(1, torch.from_numpy(order)).view_as(trajectory.reward)
    return trajectory._replace(reward=shuffled)


def held_out_returns(
    config: TrainConfig, actor: GaussianActor, worker: RolloutWorker, draw: int
) -> dict[str, float]:
    """Mean return on held-out tasks: before adaptation, after one step, after one shuffled step.

    Both steps start from the same experience, and both are evaluated with the same randomness.

    Args:
        config: Family, numbers of tasks and episodes, inner learning rate.
        actor: Its parameters are the meta-parameters; they are not changed.
        worker: Collects the rollouts.
        draw: Number of the set of held-out tasks.

    Returns:
        ``held_out_before``, ``held_out_after`` and ``held_out_shuffled``.
    """
    assignment = held_out_assignment(config, draw)
    num_episodes = config.evaluation.num_episodes
    with torch.no_grad():
        params = stack_params(_detached(actor), len(assignment.tasks))
        support = collect_once(worker, actor, params, assignment, config.meta, num_episodes)
        shuffled = shuffle_rewards(support, _reward_streams(assignment, 0))
        queries = []
        for experience in (support, shuffled):
            adapted = adapt(actor, params, make_sample(experience, config.meta), config.meta)
            queries.append(
                collect_once(worker, actor, adapted, assignment, config.meta, num_episodes, phase=1)
            )
    before, after, control = (
        float(episode_return(trajectory).mean()) for trajectory in (support, *queries)
    )
    return {
        "held_out_before": before,
        "held_out_after": after,
        "held_out_shuffled": control,
    }


def collect_adapting_on_shuffled(
    config: TrainConfig, actor: GaussianActor, worker: RolloutWorker, assignment: Assignment
) -> tuple[list[Trajectory], Tensor]:
    """Collect a meta-batch whose tasks adapt on shuffled rewards, to train the control.

    Args:
        config: Inner steps, episodes and learning rate.
        actor: Its parameters are the meta-parameters; they are not changed.
        worker: Collects the rollouts.
        assignment: ``N`` tasks and their randomness.

    Returns:
        One trajectory per inner step, with shuffled rewards, then the query, with its own; and the
        mean true return of each of them.
    """
    meta = config.meta
    adapted = stack_params(_detached(actor), len(assignment.tasks))
    trajectories, returns = [], []
    with torch.no_grad():
        for phase in range(meta.num_inner_steps + 1):
            trajectory = collect_once(
                worker, actor, adapted, assignment, meta, meta.num_episodes, phase
            )
            returns.append(episode_return(trajectory).mean())
            if phase < meta.num_inner_steps:
                trajectory = shuffle_rewards(trajectory, _reward_streams(assignment, phase))
                adapted = adapt(actor, adapted, make_sample(trajectory, meta), meta)
            trajectories.append(trajectory)
    return trajectories, torch.stack(returns)


def _detached(actor: GaussianActor) -> Params:
    return {name: value.detach() for name, value in actor.named_parameters()}


def _reward_streams(assignment: Assignment, phase: int) -> list[np.random.SeedSequence]:
    """Streams distinct from those of the episodes, whose keys are one entry longer."""
    return [
        np.random.SeedSequence(stream.entropy, spawn_key=(*stream.spawn_key, phase))
        for stream in assignment.streams
    ]
