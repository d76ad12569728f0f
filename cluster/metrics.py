"""Exports a run's metrics to Prometheus, through the metrics agent that Ray has on every node.

Only numbers that training reports anyway are exported; the permanent record is the trial table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray.util.metrics import Counter, Gauge

from cluster.work_item import NUM_LOST_PARTS

PREFIX = "ray_"
"""Prefix that Ray puts before every name."""

ENV_STEPS = "ssmrl_env_steps"
ENV_STEPS_PER_SECOND = "ssmrl_env_steps_per_second"
RETURN_BEFORE = "ssmrl_return_before_adaptation"
RETURN_AFTER = "ssmrl_return_after_adaptation"
ITERATION_SECONDS = "ssmrl_iteration_seconds"
LOST_RUNNERS = "ssmrl_lost_runners"
STATISTIC = "ssmrl_training_statistic"
TRIALS = "ssmrl_trials"

EXPORTED: Mapping[str, str] = {
    f"{ENV_STEPS}_total": "Env steps of training since its process began.",
    ENV_STEPS_PER_SECOND: "Env steps of the last iteration per second, updates included [1/s].",
    RETURN_BEFORE: "Mean return of the last training batch before adaptation.",
    RETURN_AFTER: "Mean return of the last training batch after adaptation.",
    f"{ITERATION_SECONDS}_total": "Time of all iterations since the process began, by part: "
    "sampling, updating, evaluating, other [s].",
    LOST_RUNNERS: "Number of rollout actors that died or were late, since the process began.",
    STATISTIC: "Statistics of the last update, by name, such as losses, divergence, or the env "
    "steps in the replay buffer.",
    TRIALS: "Trials of the sweep by state.",
}
"""Description of each metric by its Prometheus name without the prefix; Prometheus adds ``_total``
to counters."""

PARTS = ("sampling", "updating", "evaluating", "other")
_OF_A_RUN = ("sweep", "trial", "seed")


@dataclass(frozen=True)
class RunName:
    """The name of a run in Ray's dashboard and in the labels of its metrics.

    Attributes:
        sweep: Folder name of the sweep.
        trial: Id of the trial's row, such as ``t0003``.
        seed: Seed of the run.

    Example:
        >>> str(RunName("ant", "t0003", 0))
        'ant/t0003 seed 0'
    """

    sweep: str
    trial: str
    seed: int

    def __str__(self) -> str:
        return f"{self.sweep}/{self.trial} seed {self.seed}"


class RunMetrics:
    """The metrics of one run, exported once per iteration.

    A run has nine time series, plus one per statistic. Ray drops gauges that are not set again
    within two reporting intervals, or 20 s. So an ended trial leaves only its counters: env steps
    and time.

    Args:
        name: Name of the run.
    """

    def __init__(self, name: RunName) -> None:
        labels = {"sweep": name.sweep, "trial": name.trial, "seed": str(name.seed)}
        self._env_steps_so_far = 0
        self._env_steps = Counter(ENV_STEPS, EXPORTED[f"{ENV_STEPS}_total"], _OF_A_RUN)
        self._env_steps.set_default_tags(labels)
        self._gauges = {
            gauge: Gauge(gauge, EXPORTED[gauge], _OF_A_RUN).set_default_tags(labels)
            for gauge in (ENV_STEPS_PER_SECOND, RETURN_BEFORE, RETURN_AFTER, LOST_RUNNERS)
        }
        self._seconds = Counter(
            ITERATION_SECONDS, EXPORTED[f"{ITERATION_SECONDS}_total"], (*_OF_A_RUN, "part")
        )
        self._seconds.set_default_tags(labels)
        self._statistics = Gauge(STATISTIC, EXPORTED[STATISTIC], (*_OF_A_RUN, "statistic"))
        self._statistics.set_default_tags(labels)

    def iteration(
        self,
        results: Mapping[str, Any],
        *,
        training_seconds: float,
        evaluating_seconds: float = 0.0,
    ) -> None:
        """Export the metrics of an iteration.

        Args:
            results: Rollout results of the algorithm, ``env_runners`` in its results, with its
                ``statistics``.
            training_seconds: Time of the iteration without the evaluation [s].
            evaluating_seconds: Time of the evaluation after it [s].
        """
        env_steps = int(results["num_env_steps_sampled_lifetime"])
        new_env_steps = env_steps - self._env_steps_so_far
        self._env_steps_so_far = env_steps
        if new_env_steps > 0:  # Ray rejects an increment of zero
            self._env_steps.inc(new_env_steps)
        statistics = dict(results["statistics"])
        values = {
            ENV_STEPS_PER_SECOND: new_env_steps / training_seconds,
            RETURN_BEFORE: float(results["return_before"]),
            RETURN_AFTER: float(results["return_after"]),
            LOST_RUNNERS: float(statistics.pop(NUM_LOST_PARTS, 0.0)),
        }
        for gauge, value in values.items():
            self._gauges[gauge].set(value)
        for statistic, value in statistics.items():
            self._statistics.set(value, tags={"statistic": statistic})
        sampling, updating = float(results["sample_seconds"]), float(results["update_seconds"])
        other = training_seconds - sampling - updating
        seconds = (sampling, updating, evaluating_seconds, other)
        for part, value in zip(PARTS, seconds, strict=True):
            if value > 0.0:
                self._seconds.inc(value, tags={"part": part})


class SweepMetrics:
    """The number of trials of a sweep in each state.

    Args:
        sweep: Folder name of the sweep.
    """

    def __init__(self, sweep: str) -> None:
        self._trials = Gauge(TRIALS, EXPORTED[TRIALS], ("sweep", "state"))
        self._trials.set_default_tags({"sweep": sweep})

    def trials(self, num_by_state: Mapping[str, int]) -> None:
        """Set the gauges again, changed or not: Ray drops what is not repeated within 20 s.

        Args:
            num_by_state: Number of trials by state, including states without trials.
        """
        for state, num_trials in num_by_state.items():
            self._trials.set(num_trials, tags={"state": state})
