"""The rounds of a sweep: where each searches, and which trial wins; not how trials run.

All are functions of the table and the log, so a resumed sweep decides like an uninterrupted one.
"""

from collections.abc import Mapping, Sequence

from ssmrl.knobs import KnobValue
from tuning.box.trust_box import propose
from tuning.comparison import MIN_SEEDS
from tuning.plan import SweepPlan
from tuning.table.ranking import ranking
from tuning.table.round_log import Round
from tuning.table.trial import Trial, TrialState

FIRST, TRUST_BOX = "the task's defaults", "trust box"
CONFIRMATION, VERDICT = "confirmation", "verdict"


def next_round(plan: SweepPlan, earlier: Sequence[Round], rows: Sequence[Trial]) -> Round | None:
    """The next round, with the space that the trust box proposes; None if there is none.

    The rounds after those of the plan try nothing new: they confirm and judge the best.

    Args:
        plan: Plan of the sweep.
        earlier: The rounds so far, in order.
        rows: Rows of the table, with all trials of the earlier rounds.
    """
    number = len(earlier)
    if number >= plan.rounds or (earlier and is_confirmation(plan, earlier[-1])):
        return closing_round(plan, earlier, rows)
    size = plan.trials_of_rounds()[number]
    if number == 0:
        return Round(0, FIRST, plan.space(), (), size)
    proposal = propose(
        earlier[-1].space,
        first=plan.space(),
        limits=plan.limits(),
        rows=searched_rows(plan, rows),
    )
    return Round(number, TRUST_BOX, proposal.space, proposal.moves, size)


def closing_round(plan: SweepPlan, earlier: Sequence[Round], rows: Sequence[Trial]) -> Round | None:
    """The next round without new points: first the confirmation, then the verdict.

    None if both exist, or are not wanted. Their numbers follow those of the plan's rounds, even if
    the search stopped before all of these.
    """
    last = earlier[-1]
    num_confirmed = min(plan.num_confirmed, len(ranking(rows)))
    if num_confirmed and last.number < plan.rounds:
        return Round(plan.rounds, CONFIRMATION, last.space, (), num_confirmed)
    num_judged = plan.num_verdict_trials * len(judged_points(plan, rows))
    if num_judged and last.number <= plan.rounds:
        return Round(plan.rounds + 1, VERDICT, last.space, (), num_judged)
    return None


def further_verdict(
    plan: SweepPlan, earlier: Sequence[Round], rows: Sequence[Trial]
) -> Round | None:
    """A round that doubles the fresh seeds of winner and default, or adds at least ``MIN_SEEDS``.

    None if there is no winner, if it is the default, or if no trial of one of them completed in the
    last such round: its training fails.
    """
    points, last = judged_points(plan, rows), earlier[-1]
    if len(points) < 2:
        return None
    if is_verdict(plan, last):
        of_last = [row for row in rows if row.round == last.number]
        if not all(fresh_rows(of_last, plan, knobs) for knobs in points):
            return None
    so_far = min(len(fresh_rows(rows, plan, knobs)) for knobs in points)
    at_least = -(-MIN_SEEDS // plan.seeds_per_trial)
    number = max(plan.rounds, last.number) + 1
    return Round(number, VERDICT, last.space, (), len(points) * max(so_far, at_least))


def num_verdicts(plan: SweepPlan, rows: Sequence[Trial]) -> int:
    """Number of verdict rounds that have rows."""
    return len({row.round for row in rows if row.round > plan.rounds})


def judged_points(plan: SweepPlan, rows: Sequence[Trial]) -> list[dict[str, KnobValue]]:
    """The winner's point and, if it is another one, the default's; empty without a winner."""
    best, default = winner(rows, plan), plan.space().default_point()
    if best is None:
        return []
    return [dict(best.knobs)] if best.knobs == default else [dict(best.knobs), default]


def is_confirmation(plan: SweepPlan, this: Round) -> bool:
    """Whether a round only trains known points again."""
    return this.number >= plan.rounds


def is_verdict(plan: SweepPlan, this: Round) -> bool:
    """Whether a round trains the winner and the default for the verdict."""
    return this.number > plan.rounds


def first_number(rows: Sequence[Trial], this: Round) -> int:
    """The number of a round's first row; numbers continue from the rounds before."""
    return 1 + max((row.number for row in rows if row.round < this.number), default=-1)


def winner(rows: Sequence[Trial], plan: SweepPlan) -> Trial | None:
    """The winner of the sweep: the best of the confirmed trials, by their fresh seeds alone.

    The best of many scores is too high on average; the score of a fresh seed is not. Without a
    confirmation, the trial with the highest score wins. If the winning configuration was trained
    for the verdict, which selects nothing, its first such trial is returned.
    """
    complete = [row for row in rows if row.state is TrialState.COMPLETE]
    chosen_from = [row for row in complete if row.round <= plan.rounds]
    confirmed = [row for row in chosen_from if row.round == plan.rounds]
    best = max(
        confirmed or chosen_from, key=lambda row: (row.score or 0.0, -row.number), default=None
    )
    fresh = [] if best is None else fresh_rows(rows, plan, best.knobs)
    return fresh[0] if fresh else best


def fresh_rows(
    rows: Sequence[Trial], plan: SweepPlan, knobs: Mapping[str, KnobValue]
) -> list[Trial]:
    """The complete trials of a point with fresh seeds, by number.

    These are the trials for the verdict or, without a verdict, those that confirmed the point.
    """
    for_verdict = plan.num_fresh_seeds or num_verdicts(plan, rows)
    first = plan.rounds + 1 if for_verdict else plan.rounds
    own = [
        row
        for row in rows
        if row.state is TrialState.COMPLETE and row.round >= first and row.knobs == knobs
    ]
    return sorted(own, key=lambda row: row.number)


def is_unconfirmed(rows: Sequence[Trial], plan: SweepPlan, best: Trial) -> bool:
    """Whether the winner was trained for the verdict, and no such training completed."""
    judged = [row for row in rows if row.round > plan.rounds and row.knobs == best.knobs]
    return bool(judged) and not any(row.state is TrialState.COMPLETE for row in judged)


def searched_rows(plan: SweepPlan, rows: Sequence[Trial]) -> list[Trial]:
    """Rows of the plan's own rounds, without those that only confirm or judge."""
    return [row for row in rows if row.round < plan.rounds]
