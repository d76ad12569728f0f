"""Returns of a policy on held-out tasks, after each adaptation step."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ssmrl.config import TrainConfig
from ssmrl.rollout.assignment import held_out_assignment
from ssmrl.rollout.play import Collect, Mode, Play
from ssmrl.rollout.returns import episode_return
from ssmrl.student import LEVEL, student_interval
from ssmrl.types import Params, Trajectory

REPORTED_STEPS = (0, 1, 3)


@dataclass(frozen=True)
class Evaluation:
    """Returns of held-out tasks along their adaptation.

    Attributes:
        task_returns: Mean return of each task after each number of adaptation steps,
            ``(K + 1, N)``.
        env_steps: Env steps that were used [env steps].
    """

    task_returns: np.ndarray
    env_steps: int

    @classmethod
    def of(cls, trajectories: list[Trajectory]) -> "Evaluation":
        """Summarise trajectories, for example of ``collect_adapting``.

        A lane with an observation that is not finite has the return NaN. Its policy may have gone
        on, since tanh maps infinity to a finite number.
        """
        returns = torch.stack(
            [
                episode_return(trajectory).masked_fill(
                    ~trajectory.observation.isfinite().flatten(2).all(-1), math.nan
                )
                for trajectory in trajectories
            ]
        )
        return cls.of_returns(returns, sum(t.reward.numel() for t in trajectories))

    @classmethod
    def of_returns(cls, returns: Float[Tensor, "phases N B"], env_steps: int) -> "Evaluation":
        """Summarise the returns of episodes.

        Args:
            returns: Return of each lane, after each number of adaptation steps.
            env_steps: Env steps that were used [env steps].
        """
        return cls(returns.mean(2).double().numpy(), env_steps)

    def mean_returns(self) -> dict[int, float]:
        """Mean over tasks by number of adaptation steps."""
        return {k: float(values.mean()) for k, values in enumerate(self.task_returns)}

    def interval(self, num_steps: int, level: float = LEVEL) -> tuple[float, float] | None:
        """Student's interval over tasks of the mean return after ``num_steps`` steps.

        None for a single task.
        """
        return student_interval(self.task_returns[num_steps], level)


def judge(
    config: TrainConfig,
    params: Params,
    collect: Collect,
    *,
    num_episodes: int,
    mode: Mode = Mode.USED,
    draw: int = 0,
) -> Evaluation:
    """Collect rollouts on held-out tasks and measure the return of each episode.

    Args:
        config: Configuration with family, number of tasks and of lanes.
        params: Parameters of the policy.
        collect: Function that collects rollouts.
        num_episodes: Episodes per task.
        mode: How the policy adapts.
        draw: Index of the set of held-out tasks.
    """
    assignment = held_out_assignment(config, draw)
    lanes = config.evaluation.num_episodes
    return Evaluation.of(collect(params, Play(assignment, lanes, num_episodes, mode)))
