"""Adaptation by policy gradient steps on a task's own rollouts."""

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
    """Adapted parameters of the tasks, and the hidden states within the lanes.

    Attributes:
        params: Parameters of each task, every tensor ``(N, ...)``.
        hidden: Hidden states of the policy, ``(N, B, S)``.
        last_action: Last actions, ``(N, B, A)``; zeros at the start of a lane.
        last_reward: Last rewards, ``(N, B)``; zeros at the start of a lane.
    """

    params: Params
    hidden: Hidden
    last_action: Tensor
    last_reward: Tensor


class GradientAdaptation(Adaptation[GradientState]):
    """A Gaussian policy whose parameters are updated by a gradient step after each episode.

    Args:
        actor: Policy structure; its own parameters are not used.
        params: Initial parameters: one set for all tasks, or one for each, with a leading ``N``.
        settings: Inner learning rate and discounts.
        is_per_task: Whether ``params`` has that leading axis.
        adapts: Whether to make the gradient steps; without them no episode differs from the first.
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
        """The initial state; all tasks have the same parameters unless ``is_per_task``."""
        params = self._params if self._is_per_task else stack_params(self._params, num_tasks)
        return self._start_lanes(params, num_tasks, num_lanes)

    def act(
        self, observation: Tensor, first: Tensor, noise: Tensor, state: GradientState
    ) -> tuple[Decision, GradientState]:
        """Sample actions from the Gaussian of each task's policy."""
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
        """Store the last action and reward, if they are inputs of the policy."""
        if self._actor.input_is_observation:
            return state
        return replace(state, last_action=action, last_reward=reward)

    def end_of_episode(self, trajectory: Trajectory, state: GradientState) -> GradientState:
        """Make one gradient step for every task and reset the hidden states."""
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
