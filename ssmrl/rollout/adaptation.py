"""Rollouts of tasks before and after each step of their adaptation by gradient."""

from ssmrl.adaptation.by_gradient import GradientAdaptation
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
    settings: GradientSettings,
    *,
    num_steps: int,
    num_episodes: int,
) -> list[Trajectory]:
    """Collect before and after each of ``num_steps`` adaptation steps.

    Args:
        worker: Worker that collects the rollouts.
        actor: The policy's structure.
        params: Meta-parameters, without a task axis.
        assignment: ``N`` tasks and their randomness.
        settings: Inner learning rate and discounts.
        num_steps: Adaptation steps.
        num_episodes: Lanes per task and collection.

    Returns:
        ``num_steps + 1`` trajectories; the last one is the query.
    """
    return worker.meta_episode(
        GradientAdaptation(actor, params, settings),
        assignment,
        num_episodes=num_steps + 1,
        num_lanes=num_episodes,
    )


def collect_once(
    worker: RolloutWorker,
    actor: GaussianActor,
    params: Params,
    assignment: Assignment,
    settings: GradientSettings,
    num_episodes: int,
    phase: int = 0,
) -> Trajectory:
    """Collect with separate parameters for each task.

    Args:
        worker: Worker that collects the rollouts.
        actor: The policy's structure.
        params: Parameters of each task, every leaf ``(N, ...)``.
        assignment: ``N`` tasks and their randomness.
        settings: Settings as in ``collect_adapting``; no adaptation takes place.
        num_episodes: Lanes per task.
        phase: Index of the collection on these tasks; each index has its own random numbers.
    """
    adaptation = GradientAdaptation(actor, params, settings, is_per_task=True)
    state = adaptation.begin(len(assignment.tasks), num_episodes)
    return worker.episode(adaptation, state, assignment, num_episodes, phase)[0]
