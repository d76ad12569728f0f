"""The RLlib module of a policy conditioned on what its memory infers."""

from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchSquashedGaussian
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import Tensor

from ssmrl.config import TrainConfig
from ssmrl.context.by_memory import PLAYED
from ssmrl.context.inference import inference_inputs
from ssmrl.context.networks import ContextNetworks
from ssmrl.context.sac import LOG_STD_RANGE
from ssmrl.rollout.worker import env_shape
from ssmrl.types import Params

PREV_ACTIONS = "prev_actions"
PREV_REWARDS = "prev_rewards"


class ContextModule(TorchRLModule):
    """All networks of a configuration that adapts by memory; the forward passes run the policy.

    ``model_config`` is the ``TrainConfig`` as a dict of knobs. RLlib's columns have their usual
    meaning: observations ``(B, O)``, or ``(B, T, O)``, with the memory under ``STATE_IN``. The
    last action ``(B, A)`` and reward ``(B,)``, or both with a ``T``, are read from
    ``prev_actions`` and ``prev_rewards``; if absent, they are zeros, and the memory sees less
    than in training. The state holds whether the episode has begun: a caller that keeps the memory
    for the next episode of the same task sets ``begun`` to 0 when that episode starts.

    Attributes:
        networks: Networks of the policy, and those that train it.
    """

    def setup(self) -> None:
        """Build the networks; equal configurations start from equal weights."""
        config = TrainConfig.of_knobs(self.model_config)
        self.networks = ContextNetworks(config, *env_shape(config.env))
        self.action_dist_cls = TorchSquashedGaussian

    def params(self) -> Params:
        """The detached parameters that acting needs."""
        return {
            name: value.detach()
            for name, value in self.networks.state_dict().items()
            if name.startswith(PLAYED)
        }

    def load(self, params: Mapping[str, Tensor]) -> None:
        """The inverse of ``params``."""
        self.networks.load_state_dict(params, strict=False)

    def get_initial_state(self) -> dict[str, Tensor]:
        """An empty memory, with ``begun`` 0."""
        return {"hidden": self.networks.inference.init_hidden(1)[0], "begun": torch.zeros(1)}

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        observation: Tensor = batch[Columns.OBS]
        is_step = observation.ndim == 2
        lanes = (len(observation), 1) if is_step else observation.shape[:2]
        observation = observation.reshape(*lanes, -1)
        none = observation.new_zeros(*lanes, self.networks.action_dim)
        action = batch.get(PREV_ACTIONS, none).reshape(none.shape)
        reward = batch.get(PREV_REWARDS, none[..., 0]).reshape(lanes)
        state = batch.get(Columns.STATE_IN) or {
            name: value.expand(lanes[0], -1) for name, value in self.get_initial_state().items()
        }
        inputs, state = self._act(observation, action, reward, state)
        if is_step:
            inputs = inputs[:, 0]
        return {Columns.ACTION_DIST_INPUTS: inputs, Columns.STATE_OUT: state}

    def _act(
        self, observation: Tensor, action: Tensor, reward: Tensor, state: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The parameters of the action distribution, ``(B, T, 2 A)``, and the new memory."""
        networks, hidden, begun = self.networks, state["hidden"], state["begun"]
        seen, inputs = networks.normalised(observation), []
        for t in range(observation.shape[1]):
            told = inference_inputs(seen[:, t], action[:, t], reward[:, t], begun[:, 0] == 0)
            estimate, hidden = networks.inference.step(told, hidden)
            begun = torch.ones_like(begun)
            code = estimate.mean.clamp(-1.0, 1.0)
            output = networks.actor(torch.cat([seen[:, t], code], dim=-1))[0]
            mean, raw = output.chunk(2, dim=-1)
            low, high = LOG_STD_RANGE
            log_std = low + 0.5 * (high - low) * (torch.tanh(raw) + 1.0)
            inputs.append(torch.cat([mean, log_std], dim=-1))
        return torch.stack(inputs, dim=1), {"hidden": hidden, "begun": begun}
