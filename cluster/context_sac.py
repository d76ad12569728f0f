"""Context-sac as an RLlib algorithm, on the new API stack: many runners, one learner."""

from typing import Any

from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.metrics import LEARNER_RESULTS

from cluster.checked import checked
from cluster.context_learner import ContextSACLearner
from cluster.context_module import ContextModule
from cluster.meta_algorithm import MetaAlgorithm, MetaConfig
from cluster.work_item import Delivery, RolloutResult, concatenate
from ssmrl.context.learner import ContextLearner
from ssmrl.meta.diverged import DivergedError
from ssmrl.rollout.play import Play
from ssmrl.types import Params, Trajectory


class ContextSACConfig(MetaConfig):
    """Settings of ``ContextSAC``; everything the mathematics depends on is in ``train_config``.

    Example:
        >>> from ssmrl.config import TrainConfig
        >>> config = ContextSACConfig().training(train_config=TrainConfig.for_task("point"))
        >>> config.train_config.env.task
        'point'
    """

    kind = "memory"

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class or ContextSAC)

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """The module spec: actor, critics and the memory."""
        knobs = dict(self.train_config.knobs())
        return RLModuleSpec(module_class=ContextModule, model_config=knobs)

    def get_default_learner_class(self) -> type[ContextSACLearner]:
        """The learner class, which keeps the replay buffer."""
        return ContextSACLearner

    def validate(self) -> None:
        """Check the constraints that RLlib does not know of.

        Raises:
            ValueError: If there are remote learners, or more runners than lanes played at once.
        """
        super().validate()
        if self.num_learners != 0:
            raise ValueError(
                f"`num_learners` must be 0 for {self.train_config.algorithm!r}, but got "
                f"{self.num_learners}: its replay is in the algorithm's own process, and so are "
                "its updates; raise `num_env_runners` instead"
            )
        meta = self.train_config.meta
        if self.num_env_runners > meta.lanes_per_turn:
            groups = f" in {meta.lane_groups} groups" if meta.num_turns > 1 else ""
            raise ValueError(
                f"`num_env_runners` must not exceed `meta.num_lanes`{groups}, but got "
                f"{self.num_env_runners} and {meta.lanes_per_turn}: every runner needs at least "
                "one lane"
            )


class ContextSAC(MetaAlgorithm):
    """Soft actor-critic whose policy is conditioned on a memory's estimate of the hidden task.

    The runners collect the lanes of an iteration with equal weights; then the learner, in the
    algorithm's process, stores the rollouts and makes its updates. A seed gives the same networks
    for any number of runners, even if some die during training.
    """

    config: ContextSACConfig

    @classmethod
    def get_default_config(cls) -> ContextSACConfig:
        """Settings with the defaults of ``TrainConfig``."""
        return ContextSACConfig()

    @property
    def learner(self) -> ContextLearner:
        """The learner, which also keeps the replay buffer."""
        return self._rllib_learner().learner

    def training_step(self) -> None:
        """One iteration: collect, infer, update."""
        results = self.learner_group.foreach_learner(self._update)
        self.metrics.aggregate(checked(results), key=LEARNER_RESULTS)

    def play(self, play: Play) -> list[RolloutResult]:
        """Collect rollouts with the current networks."""
        self._check_running()
        return self._divided_play(self.learner.params(), play)

    def _update(self, learner: ContextSACLearner) -> dict[str, Any] | str:
        """The learner's metrics, or why it diverged."""
        played: list[RolloutResult] = []

        def collect(params: Params, play: Play) -> list[Trajectory]:
            parts = self._divided_play(params, play, Delivery.DIRECT)
            played.extend(parts)
            return concatenate([one.shards[0].fetch() for one in parts])

        try:
            results = learner.update(collect=collect, timesteps=self._timesteps())
        except DivergedError as error:
            return str(error)
        self._report(
            played,
            return_before=learner.made.return_before,
            return_after=learner.made.return_after,
            sample_seconds=learner.made.sample_seconds,
            update_seconds=learner.made.update_seconds,
        )
        return results

    def _rllib_learner(self) -> ContextSACLearner:
        learner: ContextSACLearner
        (learner,) = checked(self.learner_group.foreach_learner(lambda learner: learner))
        return learner
