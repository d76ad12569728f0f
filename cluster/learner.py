"""The meta-update as an RLlib learner."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import ray
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.learner.training_data import TrainingData
from torch import Tensor

from cluster.work_item import TrajectoryShard, concatenate
from ssmrl.meta.learner import MetaLearner
from ssmrl.types import Params, Trajectory


class MetaBatch(NamedTuple):
    """Experience of one meta-batch along its adaptation.

    Attributes:
        supports: Trajectories before each adaptation step, in order.
        query: Trajectories after the last adaptation step.
    """

    supports: tuple[Trajectory, ...]
    query: Trajectory


class MAMLLearner(TorchLearner):
    """Hands RLlib's module to ``ssmrl``'s meta-learner.

    RLlib owns module and optimiser: it places, saves and restores them. ``ssmrl`` owns the
    mathematics. The optimiser is registered as RLlib's own, so both see the same one.

    If there are several learners, each receives the trajectories of its own tasks. They start equal
    and all step along the sum of their gradients, so they stay equal.
    """

    def __repr__(self) -> str:
        """The name in Ray's dashboard: run name and ``learner``."""
        return f"{self.config.run_name} learner".strip()

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Register the meta-learner's optimiser."""
        config = config or self.config
        actor = self.module[module_id].unwrapped().actor
        self._meta_learner = MetaLearner(actor, config.train_config)
        self._received: dict[int, list[Trajectory]] = {}
        self.register_optimizer(
            module_id=module_id,
            optimizer=self._meta_learner.optimizer,
            # Without a schedule here RLlib leaves the learning rates, one per group, unchanged.
            params=list(actor.parameters()),
        )

    def params(self) -> Params:
        """The meta-parameters, on the CPU."""
        return {name: value.cpu() for name, value in self._meta_learner.params().items()}

    def tensors(self) -> dict[str, Tensor]:
        """Meta-parameters and optimiser state by name."""
        return self._meta_learner.state()

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of ``tensors``."""
        self._meta_learner.load_state(tensors)

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: MetaBatch, fwd_out: Any
    ) -> Tensor:
        """The outer loss of a meta-batch at the current meta-parameters.

        RLlib requires this method; ``update`` does not call it, because the meta-gradient goes
        through the adaptation and not through RLlib's forward pass.
        """
        return self._meta_learner.loss(batch.supports, batch.query)

    def receive(self, shards_of_learners: Sequence[Sequence[TrajectoryShard]]) -> list[int]:
        """Fetch this learner's trajectories and keep them for the next update.

        No update starts before all learners have all their trajectories. If one learner gave up
        during an update, the others would wait for its gradient forever.

        Args:
            shards_of_learners: Shards of each learner, by its number; shards received before may
                be left out.

        Returns:
            Numbers of the parts whose trajectories were lost with their runner.
        """
        lost: list[int] = []
        for shard in shards_of_learners[self._learner_index]:
            try:
                self._received[shard.part] = shard.fetch()
            except ray.exceptions.ObjectLostError:
                lost.append(shard.part)
        return lost

    def update(
        self,
        batch: MetaBatch | None = None,
        *,
        training_data: TrainingData | None = None,
        timesteps: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """All epochs of the meta-update on one meta-batch.

        Args:
            batch: The meta-batch; RLlib's learner group passes it inside ``training_data``. Without
                either, the update uses the received trajectories.
            training_data: RLlib's container of ``batch``.
            timesteps: RLlib's counters.
            kwargs: RLlib's settings of epochs and minibatches, which do not apply.

        Returns:
            The learner's metrics, reduced.

        Raises:
            DivergedError: If a meta-gradient is not finite.
            ValueError: If there is no batch, and no trajectories were received.
        """
        self._check_is_built()
        self.before_gradient_based_update(timesteps=timesteps or {})
        if training_data is not None:
            batch = training_data.batch
        if batch is None:
            batch = self._take_received()
        is_one_of_many = self.config.num_learners > 0
        statistics = self._meta_learner.update(
            batch.supports,
            batch.query,
            num_tasks=self.config.train_config.meta.num_tasks if is_one_of_many else None,
            sum_over_learners=_all_reduce if is_one_of_many else None,
        )
        self._weights_seq_no += 1
        for name, value in statistics.items():
            self.metrics.log_value((DEFAULT_MODULE_ID, name), value, window=1)
        self.after_gradient_based_update(timesteps=timesteps or {})
        return self.metrics.reduce()  # type: ignore[no-any-return]

    def _take_received(self) -> MetaBatch:
        if not self._received:
            raise ValueError(
                "a meta-batch is missing; pass `batch` or `training_data`, or call `receive` before"
            )
        *supports, query = concatenate([self._received[part] for part in sorted(self._received)])
        self._received.clear()
        return MetaBatch(tuple(supports), query)


def _all_reduce(vector: Tensor) -> Tensor:
    torch.distributed.all_reduce(vector)
    return vector
