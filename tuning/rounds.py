"""The rounds of a sweep: where each searches, and which trial wins; not how trials run.

Functions of the table and the log, so that a resumed sweep does what the first one would have.
"""

from collections.abc import Sequence

from tuning.plan import SweepPlan
from tuning.ranking import ranking
from tuning.round_log import Round
from tuning.trial import Trial, TrialState
from tuning.trust_box import propose

FIRST, TRUST_BOX, CONFIRMATION = "the task's defaults", "trust box", "confirmation"


def next_round(plan: SweepPlan, earlier: Sequence[Round], rows: Sequence[Trial]) -> Round | None:
    """The round after those that were made, as the trust box wants it; None if there is none.

    The last one, after all rounds of the plan, tries nothing new: it confirms the best.

    Args:
        plan: How many rounds, and how many trials in each.
        earlier: The rounds so far, in order.
        rows: The table; all trials of the earlier rounds are in it.
    """
    number = len(earlier)
    if number >= plan.rounds or (earlier and is_confirmation(plan, earlier[-1])):
        return confirmation_round(plan, earlier, rows)
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


def confirmation_round(
    plan: SweepPlan, earlier: Sequence[Round], rows: Sequence[Trial]
) -> Round | None:
    """The last round, in which the best are trained again; None if it was made, or is not wanted.

    Its number is that of the plan's rounds, also if the search stopped before all were made.
    """
    num_trials = min(plan.num_confirmed or 0, len(ranking(rows)))
    if not num_trials or is_confirmation(plan, earlier[-1]):
        return None
    return Round(plan.rounds, CONFIRMATION, earlier[-1].space, (), num_trials)


def is_confirmation(plan: SweepPlan, this: Round) -> bool:
    """Whether a round only trains the best again."""
    return this.number >= plan.rounds


def first_number(rows: Sequence[Trial], this: Round) -> int:
    """The number of a round's first row: it goes on from the rounds before."""
    return 1 + max((row.number for row in rows if row.round < this.number), default=-1)


def winner(rows: Sequence[Trial], plan: SweepPlan) -> Trial | None:
    """The trial that the sweep names: of those that were confirmed, by their fresh seeds alone.

    A score that was the best of many is too good on average, one of a fresh seed is not. Without a
    confirmation it is the trial of the highest score.
    """
    complete = [row for row in rows if row.state is TrialState.COMPLETE]
    confirmed = [row for row in complete if row.round >= plan.rounds]
    return max(confirmed or complete, key=lambda row: (row.score or 0.0, -row.number), default=None)


def searched_rows(plan: SweepPlan, rows: Sequence[Trial]) -> list[Trial]:
    """Rows of the plan's own rounds, without those that only confirm."""
    return [row for row in rows if row.round < plan.rounds]
