"""All learners of a MAML behind ``ssmrl``'s ``Learner`` interface, local or remote."""

from collections.abc import Mapping
from pathlib import Path

from ray.rllib.core.learner.learner_group import LearnerGroup
from torch import Tensor

from cluster.checked import checked
from ssmrl.config import TrainConfig
from ssmrl.learner import Learner, Metrics
from ssmrl.meta.gradient_learner import GradientLearner
from ssmrl.rollout.play import Collect
from ssmrl.types import Params


class LearnersAsOne(Learner):
    """Learners that share each meta-batch and so hold equal parameters.

    Args:
        config: Training configuration.
        group: RLlib's group of ``MAMLLearner``.
    """

    def __init__(self, config: TrainConfig, group: LearnerGroup) -> None:
        alone = GradientLearner(config)
        self.iteration = 0
        self.env_steps_per_iteration = alone.env_steps_per_iteration
        self.num_episodes = alone.num_episodes
        self.num_reported_episodes = alone.num_reported_episodes
        self.knows_nothing_at_first = alone.knows_nothing_at_first
        self._group = group

    def iterate(self, collect: Collect) -> Metrics:
        """Not supported.

        Raises:
            RuntimeError: Always: the ``MAML`` hands the trajectories to these learners itself.
        """
        raise RuntimeError("the learners of a `MAML` cannot iterate alone; call its `train`")

    def params(self) -> Params:
        """The meta-parameters, on the CPU."""
        params: Params = self._of_first("params")
        return params

    def tensors(self) -> dict[str, Tensor]:
        """Meta-parameters and the optimiser's state."""
        tensors: dict[str, Tensor] = self._of_first("tensors")
        return tensors

    def load(self, tensors: Mapping[str, Tensor], iteration: int, folder: Path) -> None:
        """Resume; no experience is reused, so the folder is not read."""
        checked(self._group.foreach_learner(lambda learner: learner.load_tensors(tensors)))
        self.iteration = iteration

    def save_experience(self, folder: Path) -> None:
        """Does nothing: each meta-batch is used once."""

    def prune_experience(self, folder: Path) -> None:
        """Does nothing: no experience is kept."""

    def _of_first(self, method: str) -> dict[str, Tensor]:
        values = checked(self._group.foreach_learner(lambda learner: getattr(learner, method)()))
        first: dict[str, Tensor] = values[0]  # all learners are equal
        return first
