"""Adaptation by memory: the policy acts on a sequence model's estimate of the hidden task."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssmrl.adaptation.adaptation import Adaptation, Decision
from ssmrl.config import TrainConfig
from ssmrl.context.adapting_memory import AdaptingMemory
from ssmrl.context.inference import inference_inputs
from ssmrl.context.networks import ContextNetworks, hidden_code
from ssmrl.context.sac import squashed
from ssmrl.device import CPU
from ssmrl.rollout.play import Mode, Play
from ssmrl.rollout.worker import env_shape
from ssmrl.types import Params, Trajectory

PLAYED = ("actor.", "average.", "inference.", "center", "inverse_scale")
"""Name prefixes of the tensors that acting needs; the critics are left out."""

NETWORKS = "networks."
"""Name prefix of all networks in a checkpoint."""


@dataclass(frozen=True)
class MemoryState:
    """State of the lanes during a meta-episode.

    Attributes:
        hidden: Hidden states, ``(N * B, S)``; a ``LaneMemory`` if lanes adapt the weights.
        last_action: Last action, ``(N, B, A)``; zeros at the start of a meta-episode.
        last_reward: Its reward, ``(N, B)``; zeros at the start too.
    """

    hidden: Any
    last_action: Tensor
    last_reward: Tensor


class MemoryAdaptation(Adaptation[MemoryState]):
    """A squashed Gaussian policy that acts on the estimate of the hidden task.

    Args:
        networks: Actor, its average and inference model; they are not changed.
        memory: Memory that infers the task; the networks' inference model by default.
        explores: Whether to sample actions; otherwise the average actor's mode is used.
        is_random: Whether to act uniformly at random instead.
        remembers: Whether to use the memory; without it the estimate stays 0, the middle of the
            family's scale.
        given: True codes of the hidden variables, ``(N, B, Z)``.
        is_given: Lanes that receive the true code instead of the estimate, ``(N, B)`` bool.
    """

    mixes_tasks = True

    def __init__(
        self,
        networks: ContextNetworks,
        *,
        memory: AdaptingMemory | None = None,
        explores: bool = False,
        is_random: bool = False,
        remembers: bool = True,
        given: Tensor | None = None,
        is_given: Tensor | None = None,
    ) -> None:
        self._networks = networks
        # Both kinds of memory have the same two methods, but states of different types.
        self._memory: Any = networks.inference if memory is None else memory
        self._step = self._memory.stepper()
        self._explores, self._is_random, self._remembers = explores, is_random, remembers
        self._given, self._is_given = given, is_given

    def begin(self, num_tasks: int, num_lanes: int) -> MemoryState:
        """Empty memory, and zeros as last action and reward."""
        device = self._networks.center.device
        return MemoryState(
            self._memory.init_hidden(num_tasks * num_lanes),
            torch.zeros(num_tasks, num_lanes, self._networks.action_dim, device=device),
            torch.zeros(num_tasks, num_lanes, device=device),
        )

    @torch.no_grad()
    def act(
        self, observation: Tensor, first: Tensor, noise: Tensor, state: MemoryState
    ) -> tuple[Decision, MemoryState]:
        """Update the estimate with the last transition, and act on it."""
        networks, lanes = self._networks, first.shape
        seen = networks.normalised(observation)
        inputs = inference_inputs(seen, state.last_action, state.last_reward, first)
        estimate, hidden = self._step(inputs.flatten(0, 1), state.hidden)
        code = estimate.mean.clamp(-1.0, 1.0).unflatten(0, lanes)
        if not self._remembers:
            code = torch.zeros_like(code)
        if self._given is not None and self._is_given is not None:
            code = torch.where(self._is_given.unsqueeze(-1), self._given, code)
        actor = networks.actor if self._explores else networks.average
        output = actor.passed(torch.cat([seen, code], dim=-1).flatten(0, 1))[0][0]
        drawn = noise if self._explores else torch.zeros_like(noise)
        action, log_prob = squashed(output.unflatten(0, lanes), drawn)
        if self._is_random:
            action = torch.erf(noise / 2.0**0.5)  # uniform on (-1, 1)
        return Decision(action, log_prob), MemoryState(hidden, state.last_action, state.last_reward)

    def observe(self, action: Tensor, reward: Tensor, state: MemoryState) -> MemoryState:
        """Store action and reward until the next observation arrives."""
        return MemoryState(state.hidden, action, reward)

    def end_of_episode(self, trajectory: Trajectory, state: MemoryState) -> MemoryState:
        """No change: the memory has seen every step and is kept."""
        return state


class MemoryPlayer:
    """Makes adaptations by memory for a configuration.

    Args:
        config: Configuration of context-sac.
        device: Device of the networks.
    """

    keeps_motion = True

    def __init__(self, config: TrainConfig, *, device: torch.device = CPU) -> None:
        self._config, self._device = config, device
        self._networks = ContextNetworks(config, *env_shape(config.env)).to(device)
        self.num_reported_episodes: int = config.meta.episodes_per_task

    def adaptation(self, params: Params, play: Play) -> MemoryAdaptation:
        """The policy with these parameters, for these rollouts.

        Args:
            params: Parameters as ``ContextLearner.params`` returns them.
            play: Rollouts to collect; the mode decides how the policy acts and what it receives.
        """
        self._networks.load_state_dict(params, strict=False)
        lanes = (len(play.assignment.tasks), play.num_lanes)
        given = is_given = None
        if play.mode in (Mode.EXPLORE, Mode.GIVEN):
            parameters = np.array([task.parameters for task in play.assignment.tasks])
            code = torch.from_numpy(hidden_code(self._config).encode(parameters)).float()
            given = code.to(self._device).unsqueeze(1).expand(*lanes, -1)
            share = self._config.meta.own_estimate if play.mode is Mode.EXPLORE else 0.0
            is_given = acts_on_own_estimate(play, share).logical_not().to(self._device)
        return MemoryAdaptation(
            self._networks,
            memory=self._adapting_memory(play.mode),
            explores=play.mode is Mode.EXPLORE,
            is_random=play.mode is Mode.RANDOM,
            remembers=play.mode is not Mode.OFF,
            given=given,
            is_given=is_given,
        )

    def _adapting_memory(self, mode: Mode) -> AdaptingMemory | None:
        """An adapting memory if gradient steps are configured and the mode uses the estimate."""
        uses_estimate = mode in (Mode.EXPLORE, Mode.USED, Mode.OTHER_REWARDS)
        if not (self._config.meta.num_inner_steps and uses_estimate):
            return None
        return AdaptingMemory(self._networks.inference, self._config)

    def initial_params(self) -> Params:
        """Initial parameters of the configured networks, without the critics."""
        networks = self._networks.state_dict()
        return {name: value for name, value in networks.items() if name.startswith(PLAYED)}

    @staticmethod
    def params_of(tensors: Mapping[str, Tensor]) -> Params:
        """The part of a checkpoint's tensors that acting needs."""
        names = {name: name.removeprefix(NETWORKS) for name in tensors if name.startswith(NETWORKS)}
        return {own: tensors[name] for name, own in names.items() if own.startswith(PLAYED)}


def acts_on_own_estimate(play: Play, share: float) -> Tensor:
    """Mask of the lanes that act on their own estimate, ``(N, B)``; evenly spread over tasks.

    It depends on the random streams of the tasks, not on how the tasks are split.
    """
    places = torch.tensor([task.spawn_key[-1] for task in play.assignment.streams])
    chosen = ((places + 1) * share).floor() > (places * share).floor()
    return chosen.unsqueeze(1).expand(-1, play.num_lanes)
