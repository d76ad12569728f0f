"""A policy after its gradient steps on one task, as a checkpoint of its own."""

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
    """Refuse what has no weights of its own after adaptation.

    Raises:
        ValueError: If the algorithm does not adapt by gradient.
    """
    if get_algorithm(config.algorithm).player_type() is not GradientPlayer:
        raise ValueError(
            "only a policy that adapts by gradient can be saved as adapted, but "
            f"{config.algorithm} keeps what it learns of a task in its memory; leave out --save"
        )


def adapted_policy(
    config: TrainConfig, params: Params, task: Task, *, draw: int, num_steps: int
) -> Checkpoint:
    """The policy that ``PolicyReport.of`` played after so many steps with this task and draw.

    Args:
        config: Of the policy.
        params: Where it starts.
        task: What it adapts to.
        draw: Which start states and exploration.
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
