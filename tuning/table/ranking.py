"""The completed configurations, best first; not where to search next."""

import dataclasses
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ssmrl.config import KnobValue
from ssmrl.student import LEVEL, student_factor, student_interval
from tuning.table.trial import Trial, TrialState

MIN_ELITE = 5
ELITE_SHARE = 0.25
_MANY = 100  # assumed number of tasks of a row that does not record it


@dataclass(frozen=True)
class Ranked:
    """One configuration with all its complete trials.

    Attributes:
        knobs: The searched knobs.
        trial_ids: Its trials, in the order of their numbers.
        scores: Score of each run: one for each seed of each trial.
        mean: Mean score of its trials.
        spread: Standard deviation of the runs; None for a single run.
        interval: Interval of the mean, low and high; None if it is not known. In 95 of 100 tables,
            the interval of the best configuration holds its true mean, although it was chosen for
            its score: the more are ranked, the wider the intervals.
        interval_over: What the interval is over: ``"runs"``, by Student's t, or, for a single
            run, its held-out ``"tasks"``. The latter does not cover the spread between training
            seeds.
    """

    knobs: dict[str, KnobValue]
    trial_ids: tuple[str, ...]
    scores: tuple[float, ...]
    mean: float
    spread: float | None
    interval: tuple[float, float] | None
    interval_over: str

    def to_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return dataclasses.asdict(self)


def ranking(rows: Sequence[Trial]) -> tuple[Ranked, ...]:
    """The complete trials, grouped by equal knobs, highest mean score first.

    A trial with the knobs and seeds of an earlier one is left out: equal seeds give equal results,
    so it adds no information.

    On equal means, the one tried first comes first. The best of many scores too high on average,
    because it was chosen for its score; the intervals allow for that.
    """
    groups: dict[frozenset[tuple[str, KnobValue]], list[Trial]] = {}
    for row in sorted(rows, key=lambda row: row.number):
        if row.state is TrialState.COMPLETE:
            group = groups.setdefault(frozenset(row.knobs.items()), [])
            if not row.seeds or all(row.seeds != other.seeds for other in group):
                group.append(row)
    level = level_for_best_of(len(groups))
    ranked = (_ranked(rows, level) for rows in groups.values())
    return tuple(sorted(ranked, key=lambda ranked: -ranked.mean))


def level_for_best_of(num_ranked: int) -> float:
    """The interval level at which the highest mean's interval holds the truth in 95 of 100 cases.

    That interval misses if any of the means is too high by more than half its interval.

    References:
        Šidák 1967, "Rectangular Confidence Regions for the Means of Multivariate Normal
        Distributions".
    """
    missed = 1.0 - LEVEL
    return LEVEL if num_ranked < 2 else 1.0 - 2.0 * (1.0 - (1.0 - missed) ** (1.0 / num_ranked))


def elite(ranked: Sequence[Ranked]) -> Sequence[Ranked]:
    """The best quarter, but at least five, of a ``ranking``."""
    return ranked[: max(MIN_ELITE, math.ceil(ELITE_SHARE * len(ranked)))]


def _ranked(rows: list[Trial], level: float) -> Ranked:
    mean = statistics.fmean(score for row in rows if (score := row.score) is not None)
    runs = tuple(score for row in rows for score in _run_scores(row))
    spread = statistics.stdev(runs) if len(runs) > 1 else None
    if spread is None:
        interval = _of_level(rows[0], level)
        interval_over = "tasks" if interval else ""
    else:
        interval, interval_over = student_interval(runs, level), "runs"
    return Ranked(
        knobs=dict(rows[0].knobs),
        trial_ids=tuple(row.trial_id for row in rows),
        scores=runs,
        mean=mean,
        spread=spread,
        interval=interval,
        interval_over=interval_over,
    )


def _of_level(row: Trial, level: float) -> tuple[float, float] | None:
    """The interval of a single run over its tasks, rescaled from the trial's 95 % to ``level``."""
    if row.interval is None or row.score is None:
        return None
    freedom = int(row.config.get("evaluation.num_tasks", _MANY)) - 1
    wider = float(student_factor(freedom, level) / student_factor(freedom))
    low, high = row.interval
    return row.score - wider * (row.score - low), row.score + wider * (high - row.score)


def _run_scores(row: Trial) -> tuple[float, ...]:
    """One score for each seed; a row without seed scores had one seed."""
    assert row.score is not None
    return row.seed_scores or (row.score,)
