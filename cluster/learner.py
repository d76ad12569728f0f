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
        supports: Before each adaptation step, in order.
        query: After the last one.
    """

    supports: tuple[Trajectory, ...]
    query: Trajectory


class MAMLLearner(TorchLearner):
    """Hands RLlib's module to ``ssmrl``'s meta-learner.

    RLlib owns module and optimiser: it places, saves and restores them. ``ssmrl`` owns the
    mathematics. The optimiser is registered as RLlib's own, so both see the same one.

    Of several learners, each receives the trajectories of its own tasks. They start equal, and all
    make the same steps, along the sum of their gradients, so they stay equal.
    """

    def __repr__(self) -> str:
        """The name in Ray's dashboard: whose learner it is."""
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
            # Without a schedule here RLlib leaves the step sizes, one per group, as they are.
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
        """The outer loss of a meta-batch at the present meta-parameters.

        RLlib asks every learner for it; ``update`` does not, because the meta-gradient goes
        through the adaptation and not through RLlib's forward pass.
        """
        return self._meta_learner.loss(batch.supports, batch.query)

    def receive(self, shards_of_learners: Sequence[Sequence[TrajectoryShard]]) -> list[int]:
        """Fetch this learner's trajectories, and keep them for the next update.

        Nothing is computed before all learners have all of theirs: one that waits for the others'
        gradients would wait for ever if another one gave up.

        Args:
            shards_of_learners: The shards of each learner, by its number; those that were received
                before may be left out.

        Returns:
            The parts whose trajectories are lost with the runner that played them.
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
        """One meta-update on one meta-batch, all epochs of it.

        Args:
            batch: The meta-batch; RLlib's learner group passes it inside ``training_data``. Without
                either, it is what was received.
            training_data: See ``batch``.
            timesteps: RLlib's counters.
            kwargs: RLlib's settings of epochs and minibatches, which do not apply.

        Returns:
            The learner's metrics, reduced.

        Raises:
            DivergedError: If a meta-gradient is not finite.
            ValueError: If there is no batch.
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
                "a meta-batch is needed, as `batch`, inside `training_data`, or received before"
            )
        *supports, query = concatenate([self._received[part] for part in sorted(self._received)])
        self._received.clear()
        return MetaBatch(tuple(supports), query)


def _all_reduce(vector: Tensor) -> Tensor:
    torch.distributed.all_reduce(vector)
    return vector
