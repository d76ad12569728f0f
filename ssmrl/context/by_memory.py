"""Adaptation by memory: the policy is told what a sequence model makes of all it has seen."""

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
"""How the names of those tensors begin that acting needs: the critics stay at home."""

NETWORKS = "networks."
"""How the names of all networks begin in a checkpoint."""


@dataclass(frozen=True)
class MemoryState:
    """What is known of the tasks.

    Attributes:
        hidden: The memory, ``(N * B, S)``; and the weights too where lanes adapt them.
        last_action: ``(N, B, A)``; zeros at the start of a meta-episode.
        last_reward: ``(N, B)``; zeros there too.
    """

    hidden: Any
    last_action: Tensor
    last_reward: Tensor


class MemoryAdaptation(Adaptation[MemoryState]):
    """A squashed Gaussian policy that acts on the estimate of the hidden task.

    Args:
        networks: Actor, its average and inference; they are not changed.
        memory: What infers the task, if not the networks' inference model as it is.
        explores: Whether actions are drawn; otherwise they are the mode of the average actor.
        is_random: Act uniformly at random instead.
        remembers: Whether the memory is used; without it the estimate stays in the middle of the
            family's scale, where every meta-episode starts.
        given: Codes of the hidden variables, ``(N, B, Z)``, for the lanes that are told.
        is_given: Which lanes are told, ``(N, B)``.
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
        # Two kinds of memory with the same two calls; what one remembers is its own affair.
        self._memory: Any = networks.inference if memory is None else memory
        self._step = self._memory.stepper()
        self._explores, self._is_random, self._remembers = explores, is_random, remembers
        self._given, self._is_given = given, is_given

    def begin(self, num_tasks: int, num_lanes: int) -> MemoryState:
        """An empty memory."""
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
        """Take in the last transition, and act on what it says of the task."""
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
            action = torch.erf(noise / 2.0**0.5)  # a normal number's rank is uniform
        return Decision(action, log_prob), MemoryState(hidden, state.last_action, state.last_reward)

    def observe(self, action: Tensor, reward: Tensor, state: MemoryState) -> MemoryState:
        """Remember the transition until the observation after it is there."""
        return MemoryState(state.hidden, action, reward)

    def end_of_episode(self, trajectory: Trajectory, state: MemoryState) -> MemoryState:
        """Nothing more: the memory has seen every step, and lives on."""
        return state


class MemoryPlayer:
    """Makes adaptations by memory for a configuration.

    Args:
        config: Of context-sac.
        device: Where the networks compute.
    """

    keeps_motion = True

    def __init__(self, config: TrainConfig, *, device: torch.device = CPU) -> None:
        self._config, self._device = config, device
        self._networks = ContextNetworks(config, *env_shape(config.env)).to(device)
        self.num_reported_episodes: int = config.meta.episodes_per_task

    def adaptation(self, params: Params, play: Play) -> MemoryAdaptation:
        """The policy with these parameters, for this play.

        Args:
            params: What ``ContextLearner.params`` gives.
            play: Its mode decides what the policy is told.
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
        """Where gradient steps are asked for, and the estimate is used."""
        uses_estimate = mode in (Mode.EXPLORE, Mode.USED, Mode.OTHER_REWARDS)
        if not (self._config.meta.num_inner_steps and uses_estimate):
            return None
        return AdaptingMemory(self._networks.inference, self._config)

    def initial_params(self) -> Params:
        """Of the networks that the configuration starts from, without the critics."""
        networks = self._networks.state_dict()
        return {name: value for name, value in networks.items() if name.startswith(PLAYED)}

    @staticmethod
    def params_of(tensors: Mapping[str, Tensor]) -> Params:
        """What acting needs of a checkpoint's tensors."""
        names = {name: name.removeprefix(NETWORKS) for name in tensors if name.startswith(NETWORKS)}
        return {own: tensors[name] for name, own in names.items() if own.startswith(PLAYED)}


def acts_on_own_estimate(play: Play, share: float) -> Tensor:
    """Which lanes must make do with their own estimate, ``(N, B)``; evenly spread.

    Which they are depends on the streams of the tasks, not on how the tasks were divided.
    """
    places = torch.tensor([task.spawn_key[-1] for task in play.assignment.streams])
    chosen = ((places + 1) * share).floor() > (places * share).floor()
    return chosen.unsqueeze(1).expand(-1, play.num_lanes)
