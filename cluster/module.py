"""The RLlib module of any sequence policy."""

from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import Tensor

from ssmrl.config import TrainConfig
from ssmrl.meta.initial_actor import initial_actor
from ssmrl.types import Params


class ActorModule(TorchRLModule):
    """The Gaussian actor of a configuration.

    ``model_config`` is the ``TrainConfig`` as a dict of knobs. RLlib's columns have their usual
    meaning: observations ``(B, O)``, or ``(B, T, O)`` with a memory under ``STATE_IN``.

    Attributes:
        actor: The policy; its parameters are the meta-parameters.
    """

    def setup(self) -> None:
        """Build the actor; equal configurations start from equal weights."""
        self.actor = initial_actor(TrainConfig.of_knobs(self.model_config))

    def params(self) -> Params:
        """The detached parameters of the policy."""
        return {name: value.detach() for name, value in self.actor.named_parameters()}

    def load(self, params: Mapping[str, Tensor]) -> None:
        """The inverse of ``params``."""
        self.actor.load_state_dict(params)

    def get_initial_state(self) -> dict[str, Tensor]:
        """An empty memory; no entry at all for a memoryless policy."""
        if self.actor.policy.state_dim == 0:
            return {}
        return {"hidden": self.actor.init_hidden(1)[0]}

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        observation = batch[Columns.OBS]
        num_sequences = observation.shape[0]
        if Columns.STATE_IN in batch and self.actor.policy.state_dim:
            hidden = batch[Columns.STATE_IN]["hidden"]
        else:
            hidden = self.actor.init_hidden(num_sequences)
        first = torch.zeros(observation.shape[:-1], dtype=torch.bool, device=observation.device)
        mean, log_std, next_hidden = self.actor(observation, hidden, first)
        output = {Columns.ACTION_DIST_INPUTS: torch.cat([mean, log_std.expand_as(mean)], dim=-1)}
        if self.actor.policy.state_dim:
            output |= {Columns.STATE_OUT: {"hidden": next_hidden}}
        return output
