"""The points that a round tries before its searcher chooses; not how the space moves."""

from collections.abc import Mapping, Sequence

import numpy as np

from ssmrl.config import KnobValue
from tuning.box.trust_box import incumbent, is_first_box_draw
from tuning.plan import SweepPlan
from tuning.rounds import (
    first_number,
    is_confirmation,
    is_verdict,
    judged_points,
    searched_rows,
)
from tuning.search.planned_point import PlannedPoint
from tuning.search.searcher import StudySearcher
from tuning.table.ranking import ranking
from tuning.table.round_log import Round
from tuning.table.trial import Trial


def planned_points(
    plan: SweepPlan, this: Round, rows: Sequence[Trial], warm: Sequence[Trial] = ()
) -> list[PlannedPoint]:
    """The points that a round tries before its searcher chooses.

    The first round begins with the default configuration, later ones with the incumbent under
    fresh seeds. Once the space has moved, a fifth of the points still come from the sweep's first
    space, so that no move is final. A searcher of the sweep's kind chooses them, given all rows:
    uniform draws found less.

    Args:
        plan: Plan of the sweep.
        this: The round.
        rows: Rows of the table when the round began, in any order.
        warm: Rows of an earlier sweep from which its searchers learn.
    """
    if is_verdict(plan, this):
        judged = judged_points(plan, rows)
        return [
            _again(plan, knobs, rows, later)
            for knobs in judged
            for later in range(this.num_trials // len(judged))
        ]
    if is_confirmation(plan, this):
        return [_again(plan, best.knobs, rows) for best in ranking(rows)[: this.num_trials]]
    if this.number == 0:
        return [PlannedPoint(plan.space().default_point())]
    best_so_far = incumbent(searched_rows(plan, rows))
    points = [] if best_so_far is None else [best_so_far.knobs]
    if this.space != plan.space():
        num_drawn = sum(is_first_box_draw(index) for index in range(this.num_trials))
        points += _first_box_draws(plan, this, rows, warm, num_drawn)
    return [_again(plan, knobs, rows) for knobs in points[: this.num_trials]]


def _first_box_draws(
    plan: SweepPlan, this: Round, rows: Sequence[Trial], warm: Sequence[Trial], num_drawn: int
) -> list[dict[str, KnobValue]]:
    # The round's own searcher must not make the same draws: its seed is the plan's.
    seed = int(np.random.SeedSequence([plan.seed, this.number]).generate_state(1)[0])
    searcher = StudySearcher(
        plan.space(),
        name=plan.searcher,
        seed=seed,
        storage_path=None,
        study_name="first space",
        imports=[*warm, *sorted(rows, key=lambda row: row.number)],
        first_number=first_number(rows, this),
    )
    return [searcher.suggest(f"draw {index}") for index in range(num_drawn)]


def _again(
    plan: SweepPlan, knobs: Mapping[str, KnobValue], rows: Sequence[Trial], later: int = 0
) -> PlannedPoint:
    """The point with unused seeds, after those of ``later`` other trials of this round."""
    num_tried = sum(row.knobs == knobs for row in rows) + later
    seed = plan.first_seed(num_tried) if num_tried else None
    return PlannedPoint(knobs, seed=seed, outside=True)
