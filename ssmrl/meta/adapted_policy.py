"""Checkpoint of a policy after its gradient steps on one task."""

from ssmrl.adaptation.by_gradient import GradientAdaptation
from ssmrl.checkpoint import Checkpoint
from ssmrl.config import TrainConfig
from ssmrl.envs.task import Task
from ssmrl.meta.algorithms import get_algorithm
from ssmrl.meta.gradient_player import ACTOR, GradientPlayer
from ssmrl.rollout.assignment import one_task_assignment
from ssmrl.rollout.play import Mode, Play
from ssmrl.rollout.worker import RolloutWorker
from ssmrl.types import Params


def check_saves(config: TrainConfig) -> None:
    """Check that the algorithm has adapted weights that can be saved.

    Raises:
        ValueError: If the algorithm does not adapt by gradient.
    """
    if get_algorithm(config.algorithm).player_type() is not GradientPlayer:
        raise ValueError(
            "only a policy that adapts by gradient can be saved as adapted, but "
            f"{config.algorithm} stores what it learns of a task in its memory; leave out --save"
        )


def adapted_policy(
    config: TrainConfig, params: Params, task: Task, *, draw: int, num_steps: int
) -> Checkpoint:
    """The policy that ``PolicyReport.of`` evaluates after ``num_steps`` on this task and draw.

    Args:
        config: Configuration of the policy.
        params: Initial parameters.
        task: Task to adapt to.
        draw: Index of the draw of start states and exploration noise.
        num_steps: Gradient steps.

    Raises:
        ValueError: If the algorithm does not adapt by gradient.
    """
    check_saves(config)
    assignment, lanes = one_task_assignment(task, draw), config.evaluation.num_episodes
    play = Play(assignment, lanes, num_steps + 1, Mode.USED)
    adaptation: GradientAdaptation = GradientPlayer(config).adaptation(params, play)
    worker, state = RolloutWorker(config.env), adaptation.begin(1, lanes)
    for phase in range(num_steps):
        trajectory, state = worker.episode(adaptation, state, assignment, lanes, phase)
        state = adaptation.end_of_episode(trajectory, state)
    tensors = {f"{ACTOR}{name}": value[0] for name, value in state.params.items()}
    return Checkpoint(
        config, tensors, {"adapted_to": list(task.parameters), "adaptation_steps": num_steps}
    )
