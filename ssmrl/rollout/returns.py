"""Return and rewards of an episode."""

from torch import Tensor

from ssmrl.types import Trajectory


def episode_return(trajectory: Trajectory) -> Tensor:
    """Undiscounted return of the episode that started at ``t = 0`` of each lane, ``(N, B)``."""
    return step_rewards(trajectory).sum(-1)


def step_rewards(trajectory: Trajectory) -> Tensor:
    """Rewards of that episode per step, and zeros after its end, ``(N, B, T)``."""
    ended_before = trajectory.terminated.cumsum(-1) - trajectory.terminated.long() > 0
    return trajectory.reward.masked_fill(ended_before, 0.0)
