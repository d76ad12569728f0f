"""Model-agnostic meta-learning as an RLlib algorithm, on the new API stack."""

import time
from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any

import torch
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.metrics import LEARNER_RESULTS

from cluster.checked import checked
from cluster.learner import MAMLLearner
from cluster.learners_as_one import LearnersAsOne
from cluster.meta_algorithm import MetaAlgorithm, MetaConfig
from cluster.module import ActorModule
from cluster.work_item import Delivery, RolloutResult, TrajectoryShard
from ssmrl.config import TrainConfig
from ssmrl.meta.diverged import DivergedError
from ssmrl.rollout.assignment import train_assignment
from ssmrl.rollout.play import Mode, Play


class MAMLConfig(MetaConfig):
    """Settings of ``MAML``; everything the mathematics depends on is in ``train_config``.

    Example:
        >>> config = MAMLConfig().training(train_config=TrainConfig.for_task("point", "promp"))
        >>> config.train_config.env.task
        'point'
    """

    kind = "gradient"

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class or MAML)

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """The module spec: a Gaussian actor over the configured sequence policy."""
        return RLModuleSpec(module_class=ActorModule, model_config=dict(self.train_config.knobs()))

    def get_default_learner_class(self) -> type[MAMLLearner]:
        """The learner class that makes the meta-update."""
        return MAMLLearner

    def validate(self) -> None:
        """Check the constraints that RLlib does not know of.

        Raises:
            ValueError: If there are more learners than tasks.
        """
        super().validate()
        num_tasks = self.train_config.meta.num_tasks
        if self.num_learners > num_tasks:
            raise ValueError(
                f"`num_learners` must not exceed `meta.num_tasks`, but got {self.num_learners} "
                f"and {num_tasks}: every learner needs at least one task"
            )


class MAML(MetaAlgorithm):
    """Meta-trains a policy that adapts to a task of its family in a few gradient steps.

    An iteration has the four steps of ``GradientLearner``: draw tasks, collect rollouts along
    their adaptation, update the meta-parameters, report. A seed gives the same parameters for
    any number of runners, even if some die during training.
    """

    config: MAMLConfig

    @classmethod
    def get_default_config(cls) -> MAMLConfig:
        """Settings of ProMP with the defaults of ``TrainConfig``."""
        return MAMLConfig()

    @property
    def learner(self) -> LearnersAsOne:
        """All learners of this algorithm, which hold equal parameters."""
        self._learners.iteration = self.training_iteration
        return self._learners

    @cached_property
    def _learners(self) -> LearnersAsOne:
        return LearnersAsOne(self.config.train_config, self.learner_group)

    def training_step(self) -> None:
        """One meta-iteration."""
        config: TrainConfig = self.config.train_config
        started = time.perf_counter()
        played = self._divided_play(
            self.learner.params(),
            Play(
                train_assignment(config, self.training_iteration),
                config.meta.num_episodes,
                self.learner.num_episodes,
                Mode.EXPLORE,
            ),
            Delivery.REFERENCE if self.config.num_learners else Delivery.DIRECT,
            self._deliver,
        )
        sampled = time.perf_counter()
        results = self.learner_group.foreach_learner(partial(_update, timesteps=self._timesteps()))
        self.metrics.aggregate(checked(results), key=LEARNER_RESULTS)
        updated = time.perf_counter()
        returns = torch.cat([one.returns for one in played], 1)
        self._report(
            played,
            return_before=float(returns[0].mean()),
            return_after=float(returns[-1].mean()),
            sample_seconds=sampled - started,
            update_seconds=updated - sampled,
        )

    def play(self, play: Play) -> list[RolloutResult]:
        """Collect rollouts with the current meta-parameters."""
        self._check_running()
        return self._divided_play(self.learner.params(), play)

    def _deliver(self, played: Mapping[int, RolloutResult]) -> set[int]:
        """Let the learners fetch their trajectories; returns the numbers of the lost parts."""
        num_shares = max(1, self.config.num_learners)
        shards: list[list[TrajectoryShard]] = [[] for _ in range(num_shares)]
        for one in played.values():
            for share, shard in one.shards.items():
                shards[share].append(shard)
        received = self.learner_group.foreach_learner(
            lambda learner, shards: learner.receive(shards), shards=shards
        )
        return {number for lost in checked(received) for number in lost}


def _update(learner: MAMLLearner, timesteps: dict[str, Any]) -> dict[str, Any] | str:
    """The metrics of an update, or why it diverged: RLlib ends a learner process that raises."""
    try:
        return learner.update(timesteps=timesteps)
    except DivergedError as error:
        return str(error)
