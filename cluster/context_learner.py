"""Replay and updates of context-sac as an RLlib learner."""

from typing import Any

from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from torch import Tensor

from ssmrl.context.learner import ContextLearner
from ssmrl.context.replay import Replay
from ssmrl.rollout.play import Collect

_ITERATION = "iteration"


class ContextSACLearner(TorchLearner):
    """Hands RLlib's module to ``ssmrl``'s learner, which requests its own rollouts.

    RLlib owns module and optimisers: it saves and restores them. The replay buffer belongs to
    ``ssmrl``, lives in this process, and is not saved by RLlib: after RLlib's own restore the
    policy can be evaluated but not trained further.

    Attributes:
        learner: ``ssmrl``'s learner.
    """

    learner: ContextLearner

    def __repr__(self) -> str:
        """The name in Ray's dashboard: run name and ``learner``."""
        return f"{self.config.run_name} learner".strip()

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Register the learner's optimisers."""
        config = config or self.config
        networks = self.module[module_id].unwrapped().networks
        self.learner = ContextLearner(config.train_config, networks, self._device)
        for name, optimizer in self.learner.optimizers().items():
            self.register_optimizer(
                module_id=module_id,
                optimizer_name=name,
                optimizer=optimizer,
                # Without a schedule here RLlib leaves the learning rates unchanged.
                params=[one for group in optimizer.param_groups for one in group["params"]],
            )

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: Any, fwd_out: Any
    ) -> Tensor:
        """Required by RLlib, but not used.

        Raises:
            NotImplementedError: Always: ``update`` makes many steps on four losses, which use the
                replay buffer and not RLlib's forward pass.
        """
        raise NotImplementedError("context-sac has no single loss of a batch; call `update`")

    def update(
        self, *, collect: Collect, timesteps: dict[str, Any] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """One iteration: collect rollouts, add them to the replay buffer, and learn from it.

        Args:
            collect: Collects the rollouts.
            timesteps: RLlib's counters.
            kwargs: RLlib's settings of epochs and minibatches, which do not apply.

        Returns:
            The learner's metrics, reduced.

        Raises:
            DivergedError: If a number is not finite.
            RuntimeError: If the replay buffer lacks the experience so far.
        """
        self._check_is_built()
        learner = self.learner
        wanted = Replay.kept_after(self.config.train_config, learner.iteration)
        if learner.replay.kept != wanted:
            raise RuntimeError(
                f"the replay must hold the experience up to turn {wanted.stop}, but ends at "
                f"{learner.replay.kept.stop}: a checkpoint of RLlib's holds the networks but no "
                "experience; resume from a checkpoint of `ssmrl.run.TrainingRun` with "
                "`cluster.engine.rllib_engine` as its engine"
            )
        self.before_gradient_based_update(timesteps=timesteps or {})
        self.made = learner.iterate(collect)
        self._weights_seq_no += 1
        for name, value in self.made.statistics.items():
            self.metrics.log_value((DEFAULT_MODULE_ID, name), value, window=1)
        self.after_gradient_based_update(timesteps=timesteps or {})
        return self.metrics.reduce()  # type: ignore[no-any-return]

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """RLlib's learner state, plus the number of iterations made."""
        state: dict[str, Any] = super().get_state(*args, **kwargs)
        return state | {_ITERATION: self.learner.iteration}

    def set_state(self, state: dict[str, Any]) -> None:
        """The inverse of ``get_state``; the replay buffer stays unchanged."""
        super().set_state(state)
        for captured in self.learner.captured.values():
            captured.forget()  # the optimiser moments are new tensors now
        self.learner.iteration = state.get(_ITERATION, self.learner.iteration)
