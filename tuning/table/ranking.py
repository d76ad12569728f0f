"""The configurations that were tried to the end, best first; not where to search next."""

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
_MANY = 100  # tasks of a row that does not say how many


@dataclass(frozen=True)
class Ranked:
    """One configuration with all its complete trials.

    Attributes:
        knobs: The searched knobs.
        trial_ids: Its trials, in the order of their numbers.
        scores: Of each run: one for each seed of each trial.
        mean: Mean score of its trials.
        spread: Standard deviation of the runs; None for a single one.
        interval: Of the mean, low and high; None if nothing is known about it. In 95 of 100 tables
            that of the best one holds its true mean, though it was chosen for its score: the more
            are ranked, the wider it is.
        interval_over: What the interval is over: ``"runs"``, by Student's t, or, for a single
            run, its held-out ``"tasks"``. That one does not cover that another training seed would
            give other weights.
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
    """The complete trials, those of equal knobs together, highest mean score first.

    A trial with the seeds of an earlier one of equal knobs is the same run again, since equal seeds
    give equal results, and tells nothing new: it is left out.

    Of equal means the one tried first comes first. The best of many is too good on average: it was
    chosen for its score, and the intervals allow for that.
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
    """Of intervals of which that of the highest mean is to hold the truth in 95 of 100 cases.

    The highest mean is missed where any of the means is too high by more than half its interval.

    References:
        Šidák 1967, "Rectangular Confidence Regions for the Means of Multivariate Normal
        Distributions".
    """
    missed = 1.0 - LEVEL
    return LEVEL if num_ranked < 2 else 1.0 - 2.0 * (1.0 - (1.0 - missed) ** (1.0 / num_ranked))


def elite(ranked: Sequence[Ranked]) -> Sequence[Ranked]:
    """The best quarter, but at least five, of what ``ranking`` gave."""
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
    """The interval of a single run over its tasks, which a trial has of 95 %."""
    if row.interval is None or row.score is None:
        return None
    freedom = int(row.config.get("evaluation.num_tasks", _MANY)) - 1
    wider = float(student_factor(freedom, level) / student_factor(freedom))
    low, high = row.interval
    return row.score - wider * (row.score - low), row.score + wider * (high - row.score)


def _run_scores(row: Trial) -> tuple[float, ...]:
    """One score for each seed; a row that does not list them had one."""
    assert row.score is not None
    return row.seed_scores or (row.score,)
