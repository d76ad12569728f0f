"""The data that every room speaks of; data only, no behaviour.

Shape alphabet, one for the whole project, always in this order with missing axes left out:

==== =========================== ==== =========================
N    tasks                       O    observation
B    episodes of one task        A    action
T    time [env steps]            I    policy input
S    hidden state                P    knobs
==== =========================== ==== =========================

Where several seeds learn at once, ``R`` runs, one for each seed, come before all of these.
"""

from typing import NamedTuple, TypeAlias

from torch import Tensor

Params: TypeAlias = dict[str, Tensor]
"""Parameters by name; with one set per task every leaf carries a leading ``N``."""

Hidden: TypeAlias = Tensor
"""A policy's memory, ``(B, S)``; policies without memory have ``S = 0``."""


class Trajectory(NamedTuple):
    """What ``N`` tasks times ``B`` lanes of ``T`` steps produced.

    A lane starts with an episode at ``t = 0`` and lasts ``T`` steps. When an episode terminates
    early the next one starts in the same lane, and ``first`` marks where. The return of record is
    that of the episode that started at ``t = 0``; what follows in the lane is training data.

    Attributes:
        observation: What the policy saw, ``(N, B, T, O)`` float32.
        action: What the policy chose, before scaling and clipping, ``(N, B, T, A)`` float32.
        reward: ``(N, B, T)`` float32.
        log_prob: Log density of ``action`` under the policy that chose it, ``(N, B, T)`` float32.
        first: Whether an episode starts at this step, ``(N, B, T)`` bool.
        terminated: Whether the episode ended here by its own rules, ``(N, B, T)`` bool.
        truncated: Whether it was cut here by the horizon, ``(N, B, T)`` bool.
        last_observation: What the policy would have seen next, ``(N, B, O)`` float32.
        motion: What the rewards were made of whatever the task, the columns of
            ``ssmrl.envs.rewards.Motion``, ``(N, B, T, M)`` float64; ``M = 0`` if it was not kept.
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
