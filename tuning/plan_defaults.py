"""Default sizes of a sweep, by how its algorithm adapts; chosen for Ant on two cores."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ssmrl.knobs import KnobValue

TIME_BUDGET_S = 840.0
"""14 of 15 minutes: one is left for the start, the measurement and the final evaluation [s]."""


@dataclass(frozen=True)
class PlanDefaults:
    """Default sizes of a sweep.

    Attributes:
        num_samples: Number of trials in total.
        max_env_steps: Budget of a trial [env steps].
        scheduler: Scheduler that stops trials early.
        most_confirmed: Number of the best configurations that are trained once more before one is
            named; at most a third of the trials.
        most_fresh_seeds: Fresh seeds of the winner, and of the default, for the verdict, if two
            trials remain for the search. A smaller sweep, which can have no verdict, has three
            tenths of its trials for each of the two.
        base: Knobs that differ from the algorithm's defaults.
    """

    num_samples: int
    max_env_steps: int
    scheduler: str
    most_confirmed: int
    most_fresh_seeds: int
    base: Mapping[str, KnobValue] = field(default_factory=dict)

    def num_confirmed(self, num_samples: int) -> int:
        """Number of trials that are reserved to confirm the best.

        Example:
            >>> [BY_KIND["gradient"].num_confirmed(num_samples) for num_samples in (2, 7, 24)]
            [0, 2, 3]
        """
        return min(self.most_confirmed, num_samples // 3)

    def num_fresh_seeds(self, num_samples: int) -> int:
        """Number of fresh seeds by which the winner and the default are each judged.

        Example:
            >>> [BY_KIND["memory"].num_fresh_seeds(num_samples) for num_samples in (2, 7, 8, 50)]
            [0, 2, 3, 3]
        """
        if num_samples >= 2 * self.most_fresh_seeds + 2:
            return self.most_fresh_seeds
        return num_samples * 3 // 10


BY_KIND: Mapping[str, PlanDefaults] = {
    "gradient": PlanDefaults(
        num_samples=10,
        max_env_steps=300_000,
        scheduler="asha",
        most_confirmed=3,
        most_fresh_seeds=0,
        # Sizes that let a trial on Ant learn visibly in a minute on one core: many small
        # meta-batches instead of few large ones, and steps to match.
        base={
            "meta.num_tasks": 10,
            "meta.num_episodes": 4,
            "meta.outer_lr": 3e-3,
            "evaluation.num_tasks": 20,
            "evaluation.num_episodes": 4,
        },
    ),
    # On two cores: the default and another point, then three fresh seeds of the better and three
    # of the default, two at a time. More points would leave each too little experience on Ant to
    # earn more than the best policy that does not adapt. Nothing is stopped early, so that the
    # table is the same everywhere.
    "memory": PlanDefaults(
        num_samples=8,
        max_env_steps=52_000,
        scheduler="none",
        most_confirmed=0,
        most_fresh_seeds=3,
        # An evaluation of 100 tasks on Ant takes as long as a tenth of such a trial.
        base={"evaluation.num_tasks": 50},
    ),
}
"""By the kind of the algorithm."""
