"""A training run's work done by RLlib's actors; the run itself is ``ssmrl.run``'s."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from cluster.algorithms import config_type
from cluster.held_out import held_out
from cluster.meta_algorithm import MetaAlgorithm
from ssmrl.config import TrainConfig
from ssmrl.device_memory import device_memory
from ssmrl.learner import Learner, Metrics
from ssmrl.rollout.evaluate import Evaluation
from ssmrl.rollout.play import Mode
from ssmrl.run import Engine


def rllib_engine(
    config: TrainConfig,
    *,
    num_env_runners: int,
    cpus_per_runner: float = 1.0,
    num_learners: int = 0,
    num_physics_threads: int = 1,
    run_name: str = "",
    gpus_per_learner: float = 0.0,
) -> Engine:
    """An engine for ``TrainingRun`` on the Ray that this process has joined.

    The result depends neither on the number of runners nor on that of threads.

    Args:
        config: What is trained.
        num_env_runners: Remote rollout actors; 0 plays in this process.
        cpus_per_runner: Share of a CPU that Ray keeps for each of them.
        num_learners: Remote learners; 0 learns in this process.
        num_physics_threads: MuJoCo's threads in each runner; 0 means all of its cores.
        run_name: What Ray's dashboard calls the actors of this training.
        gpus_per_learner: Share of a GPU for each learner, or for this process if it learns; 0
            learns on CPUs.

    Raises:
        DeviceMemoryError: If a learner's device has no room.
        KeyError: If RLlib does not run the algorithm.
        ValueError: If there are more runners or learners than work for them.
    """
    settings = config_type(config.algorithm)()  # type: ignore[call-arg]
    settings.run_name = run_name
    settings = (
        settings.training(train_config=config, num_physics_threads=num_physics_threads)
        .env_runners(num_env_runners=num_env_runners, num_cpus_per_env_runner=cpus_per_runner)
        .learners(num_learners=num_learners, num_gpus_per_learner=gpus_per_learner)
    )
    with device_memory(config):
        algorithm: MetaAlgorithm = settings.build_algo()
    return _RLlibEngine(algorithm)


class _RLlibEngine:
    """Drives an RLlib algorithm in ``ssmrl``'s words."""

    def __init__(self, algorithm: MetaAlgorithm) -> None:
        self.algorithm = algorithm
        self.learner: Learner = algorithm.learner

    def iterate(self) -> Metrics:
        """One iteration of training; the statistics tell what was lost and sent, too."""
        return self.algorithm.iterate()

    def judge(self, *, num_episodes: int, mode: Mode, draw: int) -> Evaluation:
        """Play held-out tasks with the present weights."""
        return held_out(self.algorithm, num_episodes=num_episodes, mode=mode, draw=draw)

    def tensors(self) -> dict[str, Tensor]:
        """Weights and optimiser state."""
        return self.algorithm.tensors()

    def load(self, tensors: Mapping[str, Tensor], iteration: int, folder: Path) -> None:
        """Go on from a checkpoint."""
        self.algorithm.load(tensors, iteration, folder)

    def stop(self) -> None:
        """Give back actors and memory."""
        self.algorithm.stop()
