"""Duration of a meta-iteration by number of runners, and its bottleneck.

It is a formula whose few constants are fitted to measured iterations; it measures nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
from scipy.optimize import nnls


@dataclass(frozen=True)
class Layout:
    """Resources and size of an iteration.

    Attributes:
        num_runners: Rollout actors, ``R``; 1 or more.
        num_tasks: Tasks of the meta-batch, ``N``.
        num_cores: Cores that the runners share, ``C``.
        num_learners: Learners that share the meta-update, ``L``.
        network_bytes_per_s: Receive rate of the algorithm's process, or of each learner
            [bytes / s]; None if all are on one machine.
    """

    num_runners: int
    num_tasks: int
    num_cores: int
    num_learners: int = 1
    network_bytes_per_s: float | None = None


@dataclass(frozen=True)
class Stages:
    """Where the time of an iteration goes [s].

    Attributes:
        play: Rollouts and adaptation of the slowest runner.
        transport: Transfer of weights to the runners and trajectories to the learners.
        update: The meta-update.
        other: Everything else.
    """

    play: float
    transport: float
    update: float
    other: float

    @property
    def total(self) -> float:
        """The whole iteration [s]."""
        return self.play + self.transport + self.update + self.other

    @property
    def bottleneck(self) -> str:
        """The longest stage."""
        return max(("play", "transport", "update", "other"), key=lambda name: getattr(self, name))


@dataclass(frozen=True)
class Measurement:
    """Medians of measured iterations.

    Attributes:
        layout: Layout that was measured.
        sample_s: Time from sending the weights to receiving the last trajectory [s].
        update_s: The meta-update [s].
        other_s: The rest of the iteration [s].
        trajectory_bytes: Bytes of trajectories sent to the learners.
        weight_bytes: Bytes of one copy of the weights.
    """

    layout: Layout
    sample_s: float
    update_s: float
    other_s: float
    trajectory_bytes: float
    weight_bytes: float

    @property
    def total_s(self) -> float:
        """The whole iteration [s]."""
        return self.sample_s + self.update_s + self.other_s


@dataclass(frozen=True)
class ScalingModel:
    """The constants of the formula.

    The slowest of ``R`` runners collects ``ceil(N / R)`` tasks; more runners than cores take turns.
    Each runner costs a call. Each task's trajectories are copied, and cross the network if there is
    one.

    Attributes:
        play_s: Rollouts of one task on one core [s].
        runner_s: Call of one runner [s].
        copy_s: Copy of one task's trajectories [s].
        update_s: Update for one task on one learner [s].
        other_s: Rest of an iteration [s].
        task_bytes: Trajectories of one task [bytes].
        weight_bytes: One copy of the weights [bytes].
    """

    play_s: float
    runner_s: float
    copy_s: float
    update_s: float
    other_s: float
    task_bytes: float
    weight_bytes: float

    @classmethod
    def fit(cls, measurements: Sequence[Measurement]) -> "ScalingModel":
        """Fit the constants to measured iterations.

        Rollouts, calls and copies get the non-negative constants of least relative error of the
        sampling times; update and rest get medians.

        Raises:
            ValueError: If there are fewer than three measurements.
        """
        if len(measurements) < 3:
            raise ValueError(
                f"three constants need at least three measurements, but got {len(measurements)}"
            )
        rows = [
            [
                _tasks_in_a_row(one.layout) / one.sample_s,
                one.layout.num_runners / one.sample_s,
                one.layout.num_tasks / one.sample_s,
            ]
            for one in measurements
        ]
        (play, runner, copy), _ = nnls(np.array(rows), np.ones(len(rows)))
        updates = [m.update_s * m.layout.num_learners / m.layout.num_tasks for m in measurements]
        return cls(
            play_s=float(play),
            runner_s=float(runner),
            copy_s=float(copy),
            update_s=float(np.median(updates)),
            other_s=float(np.median([one.other_s for one in measurements])),
            task_bytes=measurements[0].trajectory_bytes / measurements[0].layout.num_tasks,
            weight_bytes=measurements[0].weight_bytes,
        )

    def predict(self, layout: Layout) -> Stages:
        """Predicted stages of an iteration on a layout."""
        runners = min(layout.num_runners, layout.num_tasks)
        transport = self.runner_s * runners + self.copy_s * layout.num_tasks / layout.num_learners
        if layout.network_bytes_per_s is not None:
            arriving = self.task_bytes * layout.num_tasks / layout.num_learners
            leaving = self.weight_bytes * runners
            transport += (arriving + leaving) / layout.network_bytes_per_s
        return Stages(
            play=self.play_s * _tasks_in_a_row(layout),
            transport=transport,
            update=self.update_s * layout.num_tasks / layout.num_learners,
            other=self.other_s,
        )

    def first_bottleneck(self, layout: Layout, max_runners: int) -> tuple[int, str] | None:
        """The least number of runners at which another stage than play is longest, and its name.

        Args:
            layout: Layout whose numbers of runners and cores are varied, a core for every runner.
            max_runners: Largest number of runners to try; None is returned if play is the longest
                stage up to there.
        """
        for num_runners in range(1, max_runners + 1):
            here = replace(layout, num_runners=num_runners, num_cores=num_runners)
            if (name := self.predict(here).bottleneck) != "play":
                return num_runners, name
        return None


def _tasks_in_a_row(layout: Layout) -> float:
    """Time until the last runner is done, in units of one task's time."""
    runners = min(layout.num_runners, layout.num_tasks)
    if runners <= layout.num_cores:
        return ceil(layout.num_tasks / runners)
    return layout.num_tasks / layout.num_cores
