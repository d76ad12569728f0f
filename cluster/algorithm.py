"""Model-agnostic meta-learning as an RLlib algorithm, on the new API stack."""

import time
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import ray
from gymnasium.spaces import Box
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    EVALUATION_RESULTS,
    LEARNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
)
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger
from torch import Tensor

from cluster.env_runner import MAMLEnvRunner, concatenate
from cluster.learner import MAMLLearner, MetaBatch
from cluster.module import ActorModule
from ssmrl.config import TrainConfig
from ssmrl.rollout.adaptation import episode_return
from ssmrl.rollout.assignment import Assignment, held_out_assignment, train_assignment
from ssmrl.rollout.evaluate import REPORTED_STEPS, Evaluation
from ssmrl.rollout.worker import env_shape
from ssmrl.types import Trajectory

NUM_LOST_PARTS = "num_lost_parts_lifetime"


class MAMLConfig(AlgorithmConfig):
    """Settings of ``MAML``; everything the mathematics depends on is in ``train_config``.

    Example:
        >>> config = MAMLConfig().training(train_config=TrainConfig.for_task("point"))
        >>> config.train_config.env.task
        'point'
    """

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or MAML)
        self.env_runner_cls = MAMLEnvRunner
        self.num_env_runners = 0
        self.num_physics_threads = 0
        self.restart_failed_env_runners = True
        self.delay_between_env_runner_restarts_s = 0.0
        self.num_consecutive_env_runner_failures_tolerance = 100
        self.sample_timeout_s = 600.0
        self.custom_evaluation_function = evaluate_held_out
        self.evaluation_interval = None
        self._set_train_config(TrainConfig())

    def training(
        self,
        *,
        train_config: TrainConfig | None = None,
        num_physics_threads: int | None = None,
        **kwargs: Any,
    ) -> Self:
        """Set what is trained.

        Args:
            train_config: The knobs.
            num_physics_threads: MuJoCo's threads in each runner; 0 means all cores in process,
                and as many as CPUs are reserved for it in a remote runner.
            kwargs: RLlib's own settings.
        """
        super().training(**kwargs)
        if train_config is not None:
            self._set_train_config(train_config)
        if num_physics_threads is not None:
            self.num_physics_threads = num_physics_threads
        return self

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """The Gaussian actor over the configured sequence policy."""
        return RLModuleSpec(module_class=ActorModule, model_config=dict(self.train_config.knobs()))

    def get_default_learner_class(self) -> type[MAMLLearner]:
        """The learner that makes the meta-update."""
        return MAMLLearner

    def validate(self) -> None:
        """Check what RLlib cannot know.

        Raises:
            ValueError: If more than one learner is asked for.
        """
        super().validate()
        if self.num_learners > 0:
            raise ValueError(
                f"`num_learners` must be 0, but got {self.num_learners}: the meta-update runs in "
                "the algorithm's process; use `num_env_runners` to spread the rollouts"
            )

    def _set_train_config(self, train_config: TrainConfig) -> None:
        shape = env_shape(train_config.env)
        self.train_config = train_config
        self.seed = train_config.seed
        self.observation_space = Box(-np.inf, np.inf, (shape.observation_dim,), np.float32)
        self.action_space = Box(-np.inf, np.inf, (shape.action_dim,), np.float32)


class MAML(Algorithm):
    """Meta-trains a policy so that few gradient steps adapt it to a task of its family.

    The four steps of an iteration are those of ``ssmrl.train``: draw tasks, collect along their
    adaptation, update the meta-parameters, report. One seed gives the same parameters for any
    number of runners, also when runners die on the way.
    """

    config: MAMLConfig

    @classmethod
    def get_default_config(cls) -> MAMLConfig:
        """ProMP with the defaults of ``TrainConfig``."""
        return MAMLConfig()

    def training_step(self) -> None:
        """One meta-iteration."""
        config: TrainConfig = self.config.train_config
        started = time.perf_counter()
        trajectories = self.collect(
            train_assignment(config, self.training_iteration),
            num_steps=config.meta.num_inner_steps,
            num_episodes=config.meta.num_episodes,
        )
        sampled = time.perf_counter()
        results = self.learner_group.update(
            batch=MetaBatch(tuple(trajectories[:-1]), trajectories[-1]),
            timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: self._env_steps()},
        )
        updated = time.perf_counter()
        self.metrics.aggregate(results, key=LEARNER_RESULTS)
        self._log("return_before", float(episode_return(trajectories[0]).mean()))
        self._log("return_after", float(episode_return(trajectories[-1]).mean()))
        self._log("sample_seconds", sampled - started)
        self._log("update_seconds", updated - sampled)
        self.metrics.log_value(
            (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME),
            sum(trajectory.reward.numel() for trajectory in trajectories),
            reduce="lifetime_sum",
        )

    def collect(
        self, assignment: Assignment, *, num_steps: int, num_episodes: int
    ) -> list[Trajectory]:
        """Collect with the present meta-parameters, on however many runners are alive.

        A runner that dies has its part played again, with the same randomness, by another one.

        Args:
            assignment: ``N`` tasks and their randomness.
            num_steps: Adaptation steps, ``K``.
            num_episodes: Lanes per task and collection, ``B``.

        Returns:
            ``K + 1`` trajectories of all ``N`` tasks, in the assignment's order.

        Raises:
            RuntimeError: If parts were lost again and again; the runners' logs say why.
        """
        weights = self.learner_group.get_weights()[DEFAULT_MODULE_ID]
        settings: dict[str, Any] = {"num_steps": num_steps, "num_episodes": num_episodes}
        if self.config.num_env_runners == 0:
            runner = self.env_runner_group.local_env_runner
            _, trajectories = runner.sample(assignment=assignment, weights=weights, **settings)
            return list(trajectories)
        settings["weights"] = ray.put(weights)
        waiting = dict(enumerate(assignment.split(self.config.num_env_runners)))
        done: dict[int, list[Trajectory]] = {}
        num_losses = 0
        while waiting:
            results, num_lost = self._sample_once(waiting, settings)
            for part, trajectories in results:
                done[part] = trajectories
                del waiting[part]
            if num_lost or not results:
                num_losses += 1
                self._report_losses(num_losses, num_lost)
                self._revive()
        return concatenate([done[part] for part in sorted(done)])

    def _sample_once(
        self, waiting: Mapping[int, Assignment], settings: Mapping[str, Any]
    ) -> tuple[list[tuple[int, list[Trajectory]]], int]:
        """Give each living runner one of the waiting parts.

        Returns:
            The parts that came back with their trajectories, and how many did not.
        """
        ids = self.env_runner_group.healthy_env_runner_ids()[: len(waiting)]
        if not ids:
            return [], 0
        results = self.env_runner_group.foreach_env_runner(
            ["sample"] * len(ids),
            kwargs=[
                {"assignment": assignment, "part": part, **settings}
                for part, assignment in list(waiting.items())[: len(ids)]
            ],
            local_env_runner=False,
            remote_worker_ids=ids,
            timeout_seconds=self.config.sample_timeout_s,
        )
        return results, len(ids) - len(results)

    def _report_losses(self, num_losses: int, num_lost: int) -> None:
        """Count what was lost, and give up when it happens again and again."""
        key = (ENV_RUNNER_RESULTS, NUM_LOST_PARTS)
        self.metrics.log_value(key, num_lost, reduce="lifetime_sum")
        if num_losses > _MAX_LOSSES:
            raise RuntimeError(
                f"parts of a meta-batch were lost {num_losses} times in one iteration on "
                f"{self.config.num_env_runners} runners; their logs say why"
            )

    def tensors(self) -> dict[str, Tensor]:
        """Meta-parameters and optimiser state by name: what a checkpoint holds."""
        (result,) = self.learner_group.foreach_learner(lambda learner: learner.tensors())
        tensors: dict[str, Tensor] = result.get()
        return tensors

    def load_tensors(self, tensors: Mapping[str, Tensor], iteration: int) -> None:
        """Go on from a checkpoint.

        Args:
            tensors: What ``tensors`` returned.
            iteration: How many iterations had been made.
        """
        self.learner_group.foreach_learner(lambda learner: learner.load_tensors(tensors))
        self.set_state({"training_iteration": iteration})

    def _revive(self) -> None:
        """Wait for replacements of dead runners, as long as none is alive."""
        deadline = time.monotonic() + _REVIVAL_SECONDS
        while True:
            self.restore_env_runners(self.env_runner_group)
            if self.env_runner_group.num_healthy_remote_workers() or time.monotonic() > deadline:
                return
            time.sleep(0.2)

    def _env_steps(self) -> int:
        key = (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME)
        return int(self.metrics.peek(key, default=0))

    def _log(self, name: str, value: float) -> None:
        self.metrics.log_value((ENV_RUNNER_RESULTS, name), value, window=1)


_MAX_LOSSES = 10
_REVIVAL_SECONDS = 60.0


def evaluate_held_out(
    algorithm: MAML, eval_env_runner_group: Any = None
) -> tuple[dict[str, Any], int, int]:
    """RLlib's evaluation: returns on held-out tasks after 0, 1, 3 and the trained-for steps.

    Args:
        algorithm: Whose training runners also play the evaluation.
        eval_env_runner_group: RLlib's, not used.

    Returns:
        The results, and the env steps they took, twice.
    """
    config: TrainConfig = algorithm.config.train_config
    num_steps = max(*REPORTED_STEPS, config.meta.num_inner_steps)
    evaluation = held_out(algorithm, num_steps=num_steps)
    means = evaluation.mean_returns()
    low, high = evaluation.interval(config.meta.num_inner_steps)
    results = {
        "returns": {str(k): means[k] for k in (*REPORTED_STEPS, config.meta.num_inner_steps)},
        "return_adapted": means[config.meta.num_inner_steps],
        "return_adapted_low": low,
        "return_adapted_high": high,
    }
    # RLlib passes on what was aggregated under these two keys, not what is returned.
    logger = MetricsLogger(stats_cls_lookup=algorithm.config.stats_cls_lookup, root=False)
    logger.log_dict(results, window=1)
    algorithm.metrics.aggregate([logger.reduce()], key=(EVALUATION_RESULTS, ENV_RUNNER_RESULTS))
    return results, evaluation.env_steps, evaluation.env_steps


def held_out(algorithm: MAML, *, num_steps: int, draw: int = 0) -> Evaluation:
    """Adapt to a set of held-out tasks on the algorithm's runners.

    Args:
        algorithm: Its present meta-parameters are judged.
        num_steps: Adaptation steps.
        draw: Which set of held-out tasks.
    """
    config: TrainConfig = algorithm.config.train_config
    return Evaluation.of(
        algorithm.collect(
            held_out_assignment(config, draw),
            num_steps=num_steps,
            num_episodes=config.evaluation.num_episodes,
        )
    )
