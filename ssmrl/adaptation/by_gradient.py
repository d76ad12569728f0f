"""Adaptation by policy gradient steps on what was seen, task by task."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ssmrl.adaptation.adaptation import Adaptation, Decision
from ssmrl.meta.gradient import adapt, make_sample
from ssmrl.meta.inner import stack_params
from ssmrl.meta.settings import GradientSettings
from ssmrl.models.actor import GaussianActor, log_density
from ssmrl.types import Hidden, Params, Trajectory


@dataclass(frozen=True)
class GradientState:
    """What is known of the tasks, and the memory within the episode.

    Attributes:
        params: Of each task, every leaf ``(N, ...)``.
        hidden: The policy's memory, ``(N, B, S)``.
        last_action: ``(N, B, A)``; zeros at the start of a lane.
        last_reward: ``(N, B)``; zeros at the start of a lane.
    """

    params: Params
    hidden: Hidden
    last_action: Tensor
    last_reward: Tensor


class GradientAdaptation(Adaptation[GradientState]):
    """A Gaussian policy whose parameters make a gradient step after each episode.

    Args:
        actor: The policy's structure; its own parameters are not used.
        params: Where every task starts; or, with a leading ``N``, where each of them does.
        settings: Step size and discounts.
        is_per_task: Whether ``params`` has that leading axis.
        adapts: Whether the gradient step is made; without it each episode is like the first.
    """

    def __init__(
        self,
        actor: GaussianActor,
        params: Params,
        settings: GradientSettings,
        *,
        is_per_task: bool = False,
        adapts: bool = True,
    ) -> None:
        self._actor, self._params, self._settings = actor, params, settings
        self._is_per_task, self._adapts = is_per_task, adapts

    def begin(self, num_tasks: int, num_lanes: int) -> GradientState:
        """Every task has the same parameters, unless each came with its own."""
        params = self._params if self._is_per_task else stack_params(self._params, num_tasks)
        return self._start_lanes(params, num_tasks, num_lanes)

    def act(
        self, observation: Tensor, first: Tensor, noise: Tensor, state: GradientState
    ) -> tuple[Decision, GradientState]:
        """Draw from the Gaussian of each task's own policy."""
        actor, params = self._actor, state.params
        inputs = observation
        if not actor.input_is_observation:
            inputs = actor.make_input(observation, state.last_action, state.last_reward, first)
        with torch.no_grad():
            mean, hidden = torch.func.vmap(self._step)(params, inputs, state.hidden, first)
        log_std = params["log_std"][:, None]
        action = mean + log_std.exp() * noise
        decision = Decision(action, log_density(action, mean, log_std))
        return decision, replace(state, hidden=hidden)

    def observe(self, action: Tensor, reward: Tensor, state: GradientState) -> GradientState:
        """Remember the last step, which a policy may be told."""
        if self._actor.input_is_observation:
            return state
        return replace(state, last_action=action, last_reward=reward)

    def end_of_episode(self, trajectory: Trajectory, state: GradientState) -> GradientState:
        """One gradient step of every task; the memory of the episode is forgotten."""
        params = state.params
        if self._adapts:
            with torch.no_grad():
                sample = make_sample(trajectory, self._settings)
                params = adapt(self._actor, params, sample, self._settings)
        num_tasks, num_lanes = state.last_reward.shape
        return self._start_lanes(params, num_tasks, num_lanes)

    def _start_lanes(self, params: Params, num_tasks: int, num_lanes: int) -> GradientState:
        policy = self._actor.policy
        hidden = self._actor.init_hidden(num_tasks * num_lanes)
        device = hidden.device
        return GradientState(
            params,
            hidden.unflatten(0, (num_tasks, num_lanes)),
            torch.zeros(num_tasks, num_lanes, policy.output_dim, device=device),
            torch.zeros(num_tasks, num_lanes, device=device),
        )

    def _step(
        self, params: Params, inputs: Tensor, hidden: Hidden, first: Tensor
    ) -> tuple[Tensor, Hidden]:
        mean, _, next_hidden = torch.func.functional_call(
            self._actor, params, (inputs, hidden, first)
        )
        return mean, next_hidden
