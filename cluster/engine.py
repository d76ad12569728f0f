"""The engine that trains a run with RLlib's actors; ``ssmrl.run`` drives it."""

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
    """An engine for ``TrainingRun`` on the Ray session that this process has joined.

    The result does not depend on the numbers of runners and threads.

    Args:
        config: Training configuration.
        num_env_runners: Number of remote rollout actors; 0 collects rollouts in this process.
        cpus_per_runner: Share of a CPU that Ray reserves for each rollout actor.
        num_learners: Number of remote learners; 0 learns in this process.
        num_physics_threads: MuJoCo's threads in each runner; 0 means all of its cores.
        run_name: Name of this training's actors in Ray's dashboard.
        gpus_per_learner: Share of a GPU for each learner, or for this process if it learns; 0
            learns on CPUs.

    Raises:
        DeviceMemoryError: If a learner's device has too little memory.
        KeyError: If RLlib does not run the algorithm.
        ValueError: If there are too many runners or learners to give each some work.
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
    """An RLlib algorithm behind ``ssmrl``'s ``Engine`` interface."""

    def __init__(self, algorithm: MetaAlgorithm) -> None:
        self.algorithm = algorithm
        self.learner: Learner = algorithm.learner

    def iterate(self) -> Metrics:
        """One training iteration; its statistics include lost parts and trajectory bytes."""
        return self.algorithm.iterate()

    def judge(self, *, num_episodes: int, mode: Mode, draw: int) -> Evaluation:
        """Evaluate the current weights on held-out tasks."""
        return held_out(self.algorithm, num_episodes=num_episodes, mode=mode, draw=draw)

    def tensors(self) -> dict[str, Tensor]:
        """Weights and optimiser state."""
        return self.algorithm.tensors()

    def load(self, tensors: Mapping[str, Tensor], iteration: int, folder: Path) -> None:
        """Resume from a checkpoint."""
        self.algorithm.load(tensors, iteration, folder)

    def stop(self) -> None:
        """Release actors and memory."""
        self.algorithm.stop()
