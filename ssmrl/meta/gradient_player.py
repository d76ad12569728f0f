"""The player that makes policies that adapt by gradient from meta-parameters."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ssmrl.adaptation.by_gradient import GradientAdaptation
from ssmrl.config import TrainConfig
from ssmrl.device import CPU
from ssmrl.meta.initial_actor import initial_actor
from ssmrl.rollout.evaluate import REPORTED_STEPS
from ssmrl.rollout.play import Mode, Play
from ssmrl.types import Params

ACTOR = "actor."
"""Prefix of the policy's tensor names in a checkpoint."""


class GradientPlayer:
    """Player of a configuration whose algorithm adapts by gradient.

    Args:
        config: Configuration; it decides the structure of the policy.
        device: Device on which the policy computes.
    """

    keeps_motion = False

    def __init__(self, config: TrainConfig, *, device: torch.device = CPU) -> None:
        self._actor, self._settings = initial_actor(config).to(device), config.meta
        self._device = device
        self.num_reported_episodes = max(*REPORTED_STEPS, config.meta.num_inner_steps) + 1

    def adaptation(self, params: Params, play: Play) -> GradientAdaptation:
        """The policy with these meta-parameters, for this meta-episode.

        Raises:
            ValueError: If ``play.mode`` gives it the hidden variable, for which it has no input.
        """
        if play.mode is Mode.GIVEN:
            raise ValueError(
                "`mode` must not be 'given' for a policy that adapts by gradient: it has no input "
                "for the hidden variable"
            )
        params = {name: value.to(self._device) for name, value in params.items()}
        adapts = play.mode is not Mode.OFF
        return GradientAdaptation(self._actor, params, self._settings, adapts=adapts)

    def initial_params(self) -> Params:
        """The initial parameters of the configuration's policy."""
        return {name: value.detach() for name, value in self._actor.named_parameters()}

    @staticmethod
    def params_of(tensors: Mapping[str, Tensor]) -> Params:
        """The parameters in a checkpoint's tensors that acting needs."""
        return {
            name.removeprefix(ACTOR): value
            for name, value in tensors.items()
            if name.startswith(ACTOR)
        }
