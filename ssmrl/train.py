"""Meta-training by gradient in a few lines and one process, and evaluation of the policy."""

from collections.abc import Iterator
from copy import deepcopy

from ssmrl.config import TrainConfig
from ssmrl.device import checked_device
from ssmrl.learner import Metrics
from ssmrl.meta.gradient_learner import GradientLearner
from ssmrl.models.actor import GaussianActor
from ssmrl.rollout.evaluate import Evaluation, judge
from ssmrl.rollout.play import LocalCollector


def train(
    config: TrainConfig,
    actor: GaussianActor | None = None,
    num_threads: int = 0,
    device: str = "cpu",
) -> Iterator[Metrics]:
    """Meta-train a policy that adapts by gradient, for as long as the caller iterates.

    ``ssmrl.run`` does the same for every algorithm, with evaluations, and can be resumed.

    Args:
        config: Complete configuration of the run.
        actor: Policy to train in place; a new one if left out.
        num_threads: Threads of the physics; 0 means all cores. The result does not depend on it.
        device: Device of the meta-updates, for example ``"cuda"``; the actor moves there. In
            rollouts policies act on the CPU, beside the physics.

    Yields:
        Metrics of each iteration.

    Raises:
        DivergedError: If a meta-gradient is not finite.
        ValueError: If there is no such device.
    """
    learner = GradientLearner(config, actor, checked_device(device))
    collect = LocalCollector(config, num_threads)
    while True:
        yield learner.iterate(collect)


def evaluate(
    config: TrainConfig,
    actor: GaussianActor,
    *,
    num_steps: int,
    draw: int = 0,
    num_threads: int = 0,
) -> Evaluation:
    """Adapt to held-out tasks by gradient and measure the return after each step.

    Args:
        config: Configuration: task family, number of tasks and episodes, inner learning rate.
        actor: Policy with the meta-parameters; they are not changed.
        num_steps: Adaptation steps, ``K``.
        draw: Index of the held-out task set.
        num_threads: Threads of the physics; 0 means all cores.
    """
    player = deepcopy(actor).cpu()
    params = {name: value.detach() for name, value in player.named_parameters()}
    collect = LocalCollector(config, num_threads)
    return judge(config, params, collect, num_episodes=num_steps + 1, draw=draw)
