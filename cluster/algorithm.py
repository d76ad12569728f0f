"""Model-agnostic meta-learning as an RLlib algorithm, on the new API stack."""

import time
from collections.abc import Iterable, Mapping
from functools import cached_property, partial
from typing import Any, Self

import numpy as np
import ray
import torch
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

from cluster.collector import Collector
from cluster.env_runner import MAMLEnvRunner
from cluster.learner import MAMLLearner
from cluster.module import ActorModule
from cluster.part import Delivery, Piece, Played, split
from ssmrl.config import TrainConfig
from ssmrl.meta.diverged import DivergedError
from ssmrl.rollout.assignment import Assignment, held_out_assignment, train_assignment
from ssmrl.rollout.evaluate import REPORTED_STEPS, Evaluation
from ssmrl.rollout.worker import env_shape

NUM_LOST_PARTS = "num_lost_parts_lifetime"


class MAMLConfig(AlgorithmConfig):
    """Settings of ``MAML``; everything the mathematics depends on is in ``train_config``.

    Example:
        >>> config = MAMLConfig().training(train_config=TrainConfig.for_task("point", "promp"))
        >>> config.train_config.env.task
        'point'
    """

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or MAML)
        self.env_runner_cls = MAMLEnvRunner
        self.num_env_runners = 0
        self.num_physics_threads = 0
        self.run_name = ""  # what the dashboard calls the runners of this training
        self.restart_failed_env_runners = True
        self.delay_between_env_runner_restarts_s = 0.0
        self.num_consecutive_env_runner_failures_tolerance = 100
        self.sample_timeout_s = 600.0
        # One that is being replaced does not answer, and every iteration asks it.
        self.env_runner_health_probe_timeout_s = 1.0
        self.custom_evaluation_function = evaluate_held_out
        self.evaluation_interval = None
        self._set_train_config(TrainConfig(algorithm="promp"))

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
            ValueError: If there are more learners than tasks.
        """
        super().validate()
        num_tasks = self.train_config.meta.num_tasks
        if self.num_learners > num_tasks:
            raise ValueError(
                f"`num_learners` must not exceed `meta.num_tasks`, but got {self.num_learners} "
                f"and {num_tasks}: a learner without a task learns nothing"
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
        played = self.collect(
            train_assignment(config, self.training_iteration),
            num_steps=config.meta.num_inner_steps,
            num_episodes=config.meta.num_episodes,
            delivery=Delivery.REFERENCE if self.config.num_learners else Delivery.DIRECT,
        )
        sampled = time.perf_counter()
        timesteps = {NUM_ENV_STEPS_SAMPLED_LIFETIME: self._env_steps()}
        results = self.learner_group.foreach_learner(partial(_update, timesteps=timesteps))
        self.metrics.aggregate(_checked(results), key=LEARNER_RESULTS)
        updated = time.perf_counter()
        returns = torch.cat([one.returns for one in played], 1)
        self._log("return_before", float(returns[0].mean()))
        self._log("return_after", float(returns[-1].mean()))
        self._log("sample_seconds", sampled - started)
        self._log("update_seconds", updated - sampled)
        pieces = [piece for one in played for piece in one.pieces.values()]
        self._log("trajectory_bytes", float(sum(piece.num_bytes for piece in pieces)))
        self.metrics.log_value(
            (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME),
            sum(one.env_steps for one in played),
            reduce="lifetime_sum",
        )

    def collect(
        self,
        assignment: Assignment,
        *,
        num_steps: int,
        num_episodes: int,
        delivery: Delivery = Delivery.NONE,
    ) -> list[Played]:
        """Collect with the present meta-parameters, on however many runners are alive.

        Args:
            assignment: ``N`` tasks and their randomness.
            num_steps: Adaptation steps, ``K``.
            num_episodes: Lanes per task and collection, ``B``.
            delivery: How the trajectories reach the learners, which have all of them afterwards.

        Returns:
            What was played, in the assignment's order.

        Raises:
            RuntimeError: If parts were lost again and again; the runners' logs say why.
        """
        settings: dict[str, Any] = {
            "num_steps": num_steps,
            "num_episodes": num_episodes,
            "delivery": delivery,
            "weights": self.learner_group.get_weights()[DEFAULT_MODULE_ID],
        }
        num_shares = max(1, self.config.num_learners)
        if self.config.num_env_runners == 0:
            (part,) = split(assignment, 1, num_shares)
            played = {0: self.env_runner_group.local_env_runner.sample(part=part, **settings)}
            self._deliver(played)
            return list(played.values())
        settings["weights"] = ray.put(settings["weights"])
        parts = {
            part.number: part for part in split(assignment, self.config.num_env_runners, num_shares)
        }
        played, missing = {}, dict(parts)
        while missing:
            again = self._collector.play(missing, settings)
            played |= again
            missing = {number: parts[number] for number in self._deliver(again)}
            if missing:
                self._report_lost(len(missing))
        return [played[number] for number in sorted(played)]

    def _deliver(self, played: Mapping[int, Played]) -> set[int]:
        """Let the learners take their trajectories; the parts are returned that were lost."""
        num_shares = max(1, self.config.num_learners)
        pieces: list[list[Piece]] = [[] for _ in range(num_shares)]
        for one in played.values():
            for share, piece in one.pieces.items():
                pieces[share].append(piece)
        if not any(pieces):
            return set()
        received = self.learner_group.foreach_learner(
            lambda learner, pieces: learner.receive(pieces), pieces=pieces
        )
        return {number for lost in _checked(received) for number in lost}

    @cached_property
    def _collector(self) -> Collector:
        return Collector(
            self.env_runner_group,
            restore=partial(self.restore_env_runners, self.env_runner_group),
            report_lost=self._report_lost,
            max_patience_s=self.config.sample_timeout_s,
        )

    def _report_lost(self, num_lost: int) -> None:
        key = (ENV_RUNNER_RESULTS, NUM_LOST_PARTS)
        self.metrics.log_value(key, num_lost, reduce="lifetime_sum")

    def tensors(self) -> dict[str, Tensor]:
        """Meta-parameters and optimiser state by name: what a checkpoint holds."""
        tensors: list[dict[str, Tensor]] = _checked(
            self.learner_group.foreach_learner(lambda learner: learner.tensors())
        )
        return tensors[0]  # they are all equal

    def load_tensors(self, tensors: Mapping[str, Tensor], iteration: int) -> None:
        """Go on from a checkpoint.

        Args:
            tensors: What ``tensors`` returned.
            iteration: How many iterations had been made.
        """
        _checked(self.learner_group.foreach_learner(lambda learner: learner.load_tensors(tensors)))
        self.set_state({"training_iteration": iteration})

    def _env_steps(self) -> int:
        key = (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME)
        return int(self.metrics.peek(key, default=0))

    def _log(self, name: str, value: float) -> None:
        self.metrics.log_value((ENV_RUNNER_RESULTS, name), value, window=1)


def _update(learner: MAMLLearner, timesteps: dict[str, Any]) -> dict[str, Any] | str:
    """The metrics of an update, or why it diverged: RLlib ends the process of what raises."""
    try:
        return learner.update(timesteps=timesteps)
    except DivergedError as error:
        return str(error)


def _checked(results: Iterable[Any]) -> list[Any]:
    """What the learners returned.

    Raises:
        DivergedError: If their updates did.
        RuntimeError: If a learner is lost: the others cannot go on without its part.
    """
    values = [result.get() for result in results]
    for value in values:
        if isinstance(value, Exception):
            raise RuntimeError(
                f"a learner was lost ({value}); go on from the last checkpoint"
            ) from value
        if isinstance(value, str):
            raise DivergedError(value)
    return values


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
    played = algorithm.collect(
        held_out_assignment(config, draw),
        num_steps=num_steps,
        num_episodes=config.evaluation.num_episodes,
    )
    returns = torch.cat([one.returns for one in played], 1)
    return Evaluation.of_returns(returns, sum(one.env_steps for one in played))
