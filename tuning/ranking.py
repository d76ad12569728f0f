"""The configurations that were tried to the end, best first; not where to search next."""

import dataclasses
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ssmrl.config import KnobValue
from ssmrl.student import student_interval
from tuning.trial import Trial, TrialState

MIN_ELITE = 5
ELITE_SHARE = 0.25


@dataclass(frozen=True)
class Ranked:
    """One configuration with all its complete trials.

    Attributes:
        knobs: The searched knobs.
        trial_ids: Its trials, in the order of their numbers.
        scores: Of each run: one for each seed of each trial.
        mean: Mean score of its trials.
        spread: Standard deviation of the runs; None for a single one.
        interval: 95 % interval of the mean, low and high; None if nothing is known about it.
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
    chosen for its score.
    """
    groups: dict[frozenset[tuple[str, KnobValue]], list[Trial]] = {}
    for row in sorted(rows, key=lambda row: row.number):
        if row.state is TrialState.COMPLETE:
            group = groups.setdefault(frozenset(row.knobs.items()), [])
            if not row.seeds or all(row.seeds != other.seeds for other in group):
                group.append(row)
    return tuple(sorted(map(_ranked, groups.values()), key=lambda ranked: -ranked.mean))


def elite(ranked: Sequence[Ranked]) -> Sequence[Ranked]:
    """The best quarter, but at least five, of what ``ranking`` gave."""
    return ranked[: max(MIN_ELITE, math.ceil(ELITE_SHARE * len(ranked)))]


def _ranked(rows: list[Trial]) -> Ranked:
    mean = statistics.fmean(score for row in rows if (score := row.score) is not None)
    runs = tuple(score for row in rows for score in _run_scores(row))
    spread = statistics.stdev(runs) if len(runs) > 1 else None
    if spread is None:
        interval, interval_over = rows[0].interval, "tasks" if rows[0].interval else ""
    else:
        interval, interval_over = student_interval(runs), "runs"
    return Ranked(
        knobs=dict(rows[0].knobs),
        trial_ids=tuple(row.trial_id for row in rows),
        scores=runs,
        mean=mean,
        spread=spread,
        interval=interval,
        interval_over=interval_over,
    )


def _run_scores(row: Trial) -> tuple[float, ...]:
    """One score for each seed; a row that does not list them had one."""
    assert row.score is not None
    return row.seed_scores or (row.score,)
