"""Base classes of this project's RLlib algorithms and of their settings."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from gymnasium.spaces import Box
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    LEARNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
)
from torch import Tensor

from cluster.divided_play import DividedPlay
from cluster.env_runner import MetaEnvRunner
from cluster.held_out import evaluate_held_out
from cluster.ignored_settings import refuse_ignored
from cluster.work_item import NUM_LOST_PARTS, RolloutResult
from ssmrl.config import TrainConfig
from ssmrl.learner import Learner, Metrics
from ssmrl.meta.algorithms import ALGORITHMS, get_algorithm
from ssmrl.rollout.play import Play
from ssmrl.rollout.worker import env_shape


class MetaConfig(AlgorithmConfig):
    """Settings of a ``MetaAlgorithm``; everything the mathematics depends on is ``train_config``.

    Args:
        algo_class: The ``MetaAlgorithm`` to build.

    Attributes:
        kind: How its algorithms adapt, ``gradient`` or ``memory``; the default algorithm is the
            first of that kind in ``ALGORITHMS``.
    """

    kind: str

    def __init__(self, algo_class: type) -> None:
        super().__init__(algo_class=algo_class)
        self.env_runner_cls = MetaEnvRunner
        self.num_env_runners = 0
        self.num_physics_threads = 0
        self.run_name = ""  # names the actors of this training in the dashboard
        self.restart_failed_env_runners = True
        self.delay_between_env_runner_restarts_s = 0.0
        self.num_consecutive_env_runner_failures_tolerance = 100
        self.sample_timeout_s = 600.0
        # Every iteration probes a runner even while it is being replaced and cannot answer.
        self.env_runner_health_probe_timeout_s = 1.0
        self.custom_evaluation_function = evaluate_held_out
        self.evaluation_interval = None
        default = next(name for name, each in ALGORITHMS.items() if each.kind == self.kind)
        self._set_train_config(TrainConfig(algorithm=default))

    def training(
        self,
        *,
        train_config: TrainConfig | None = None,
        num_physics_threads: int | None = None,
        **kwargs: Any,
    ) -> Self:
        """Set the training configuration.

        Args:
            train_config: The knobs.
            num_physics_threads: MuJoCo's threads in each runner; 0 means all cores for a local
                runner, and the number of reserved CPUs for a remote one.
            kwargs: RLlib's own settings.

        Raises:
            ValueError: If the knobs belong to an algorithm of another kind.

        ``validate`` rejects RLlib's settings that have no effect here, such as ``lr``.
        """
        super().training(**kwargs)
        if train_config is not None:
            self._set_train_config(train_config)
        if num_physics_threads is not None:
            self.num_physics_threads = num_physics_threads
        return self

    def validate(self) -> None:
        """Check the constraints that RLlib does not know of.

        Raises:
            ValueError: If a setting has no effect; the message names the knobs that replace it.
        """
        if not self.in_evaluation:  # RLlib derives those settings, and nothing here reads them
            usual = type(self)()  # type: ignore[call-arg]
            refuse_ignored(self, usual.training(train_config=self.train_config))
        super().validate()

    def _set_train_config(self, train_config: TrainConfig) -> None:
        kind = get_algorithm(train_config.algorithm).kind
        if kind != self.kind:
            raise ValueError(
                f"`train_config` must be of an algorithm that adapts by {self.kind}, but got "
                f"{train_config.algorithm!r}, which adapts by {kind}; use the class that "
                "`cluster.algorithms` lists for it"
            )
        shape = env_shape(train_config.env)
        self.train_config = train_config
        # RLlib seeds global generators with it, which nothing here uses; they take 32 bits.
        self.seed = train_config.seed % 2**32
        self.observation_space = Box(-np.inf, np.inf, (shape.observation_dim,), np.float32)
        self.action_space = Box(-np.inf, np.inf, (shape.action_dim,), np.float32)


class MetaAlgorithm(Algorithm):
    """Meta-trains on RLlib's actors; a seed gives the same result for any number of runners."""

    config: MetaConfig
    _is_stopped = False

    def step(self) -> dict[str, Any]:
        """One iteration; RLlib's ``train`` calls it.

        Raises:
            RuntimeError: After ``stop``, which ended the runners and learners.
        """
        self._check_running()
        return super().step()  # type: ignore[no-any-return]

    def _check_running(self) -> None:
        """Check that runners and learners have not been stopped.

        Raises:
            RuntimeError: After ``stop``.
        """
        if self._is_stopped:
            raise RuntimeError(
                f"`stop` has ended this {type(self).__name__}, which cannot run any more; "
                "build a new one, or restore one from a checkpoint"
            )

    def cleanup(self) -> None:
        """End runners and learners for good; RLlib's ``stop`` calls it."""
        self._is_stopped = True
        super().cleanup()

    @property
    @abstractmethod
    def learner(self) -> Learner:
        """The learner in ``ssmrl``'s sense; the algorithm may take over its ``iterate``."""

    @abstractmethod
    def play(self, play: Play) -> list[RolloutResult]:
        """Collect rollouts with the current parameters; the trajectories are not returned."""

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and optimiser state by name, as a checkpoint holds them."""
        return self.learner.tensors()

    def load(self, tensors: Mapping[str, Tensor], iteration: int, folder: Path) -> None:
        """Resume from a checkpoint.

        Args:
            tensors: Tensors that ``tensors`` returned.
            iteration: Number of iterations made before.
            folder: Folder of the learner's experience.
        """
        self.learner.load(tensors, iteration, folder)
        self.set_state({"training_iteration": iteration})

    def iterate(self) -> Metrics:
        """RLlib's ``train``, with its results as ``ssmrl``'s ``Metrics``.

        Raises:
            DivergedError: If a number is not finite.
            RuntimeError: If runners or learners were lost for good.
        """
        results = self.train()
        runners, learners = results[ENV_RUNNER_RESULTS], results[LEARNER_RESULTS]
        numbers = learners[DEFAULT_MODULE_ID] | {
            NUM_LOST_PARTS: runners.get(NUM_LOST_PARTS, 0),
            "trajectory_bytes": runners["trajectory_bytes"],
        }
        return Metrics(
            self.training_iteration,
            self.training_iteration * self.learner.env_steps_per_iteration,
            float(runners["return_before"]),
            float(runners["return_after"]),
            float(runners["sample_seconds"]),
            float(runners["update_seconds"]),
            {name: float(value) for name, value in numbers.items()},
        )

    @cached_property
    def _divided_play(self) -> DividedPlay:
        return DividedPlay(self)

    def _report(self, played: Iterable[RolloutResult], **values: float) -> None:
        """Add values to this iteration's runner results."""
        played = list(played)
        shards = [shard for one in played for shard in one.shards.values()]
        values |= {"trajectory_bytes": float(sum(shard.num_bytes for shard in shards))}
        for name, value in values.items():
            self.metrics.log_value((ENV_RUNNER_RESULTS, name), value, window=1)
        self.metrics.log_value(
            (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME),
            sum(one.env_steps for one in played),
            reduce="lifetime_sum",
        )

    def _timesteps(self) -> dict[str, int]:
        """RLlib's counter of env steps, for its learners."""
        key = (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME)
        return {NUM_ENV_STEPS_SAMPLED_LIFETIME: int(self.metrics.peek(key, default=0))}
