"""Data types shared by all packages; data only, no behaviour.

Axis names of the whole project, always in this order, with missing axes left out:

==== =========================== ==== =========================
N    tasks                       O    observation
B    lanes of one task           A    action
T    time [env steps]            I    policy input
S    hidden state                P    hidden variables, knobs
==== =========================== ==== =========================

If several seeds are trained at once, an axis ``R`` (runs, one for each seed) comes first.
"""

from typing import NamedTuple, TypeAlias

from torch import Tensor

Params: TypeAlias = dict[str, Tensor]
"""Parameters by name; with one set per task every tensor has a leading axis ``N``."""

Hidden: TypeAlias = Tensor
"""A policy's hidden state (its memory), ``(B, S)``; policies without memory have ``S = 0``."""


class Trajectory(NamedTuple):
    """Rollouts of ``N`` tasks times ``B`` lanes of ``T`` steps.

    A lane is one simulation over ``T`` steps; it starts with an episode at ``t = 0``. When an
    episode terminates early, the next one starts in the same lane, and ``first`` marks its start.
    Only the return of the episode that starts at ``t = 0`` is reported; the rest is training data.

    Attributes:
        observation: Observation the policy received, ``(N, B, T, O)`` float32.
        action: Action of the policy, before scaling and clipping, ``(N, B, T, A)`` float32.
        reward: Reward of the step, ``(N, B, T)`` float32.
        log_prob: Log density of ``action`` under the policy that chose it, ``(N, B, T)`` float32.
        first: Whether an episode starts at this step, ``(N, B, T)`` bool.
        terminated: Whether the episode ended here by its own rules, ``(N, B, T)`` bool.
        truncated: Whether it was cut here by the horizon, ``(N, B, T)`` bool.
        last_observation: Observation after the last step, ``(N, B, O)`` float32.
        motion: Task-independent quantities that rewards are computed from, the columns of
            ``ssmrl.envs.rewards.Motion``, ``(N, B, T, M)`` float64; ``M = 0`` if not kept.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    log_prob: Tensor
    first: Tensor
    terminated: Tensor
    truncated: Tensor
    last_observation: Tensor
    motion: Tensor
