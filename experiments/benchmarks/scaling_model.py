"""How long a meta-iteration takes on a number of runners, and what then holds it up.

A formula with a few constants that are fitted to measured iterations; it measures nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
from scipy.optimize import nnls


@dataclass(frozen=True)
class Layout:
    """What an iteration runs on.

    Attributes:
        num_runners: Rollout actors, ``R``; 1 or more.
        num_tasks: Of the meta-batch, ``N``.
        num_cores: That the runners share, ``C``.
        num_learners: That share the meta-update, ``L``.
        network_bytes_per_s: At which the process of the algorithm, or each learner, receives
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
        play: The slowest runner plays its tasks and adapts to them.
        transport: Weights to the runners, trajectories to the learners.
        update: The meta-update.
        other: All else.
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
        layout: On what.
        sample_s: From the weights' leaving to the last trajectory's arrival [s].
        update_s: The meta-update [s].
        other_s: The rest of the iteration [s].
        trajectory_bytes: That went to the learners.
        weight_bytes: Of one copy of the weights.
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

    The slowest of ``R`` runners plays ``ceil(N / R)`` tasks; more runners than cores take turns. A
    runner costs a call; a task's trajectories are copied, and cross the network if there is one.

    Attributes:
        play_s: Of one task on one core [s].
        runner_s: Of calling one runner [s].
        copy_s: Of one task's trajectories [s].
        update_s: Of one task on one learner [s].
        other_s: Of an iteration [s].
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
        """The constants, none negative, with the least relative error of the sampling times.

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
        """Where the time goes on a layout."""
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
        """The least number of runners from which on playing is not the longest stage, and which is.

        Args:
            layout: With a core for every runner; its own number of runners does not matter.
            max_runners: Look no further.
        """
        for num_runners in range(1, max_runners + 1):
            here = replace(layout, num_runners=num_runners, num_cores=num_runners)
            if (name := self.predict(here).bottleneck) != "play":
                return num_runners, name
        return None


def _tasks_in_a_row(layout: Layout) -> float:
    """How many tasks' time passes until the last runner is done."""
    runners = min(layout.num_runners, layout.num_tasks)
    if runners <= layout.num_cores:
        return ceil(layout.num_tasks / runners)
    return layout.num_tasks / layout.num_cores
