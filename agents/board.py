"""The data that the agents of a round receive: trials, spaces and budget."""

import re
from dataclasses import dataclass

from tuning.spaces.space import SearchSpace
from tuning.table.trial import Trial

# The form of the project's own trial identifiers. Any other, from a foreign table, could hold a
# sentence, so it is neither shown to an agent nor accepted from one.
TRIAL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")


@dataclass(frozen=True)
class Board:
    """The table of trials, the search spaces, and the trials left in the budget.

    Attributes:
        space: The space of the last round.
        limits: The hard limits of all ranges; the same knobs, conditions and base.
        first: The space of the first round.
        rows: All trials so far.
        round: Round number, from 1.
        budget_trials_left: Number of trials left in the budget.
        refused: Fingerprints of the findings that were refused before.
        seed: Seed of the resampling for the tools' intervals.

    Raises:
        ValueError: If a number is negative, or the limits do not contain the space.
    """

    space: SearchSpace
    limits: SearchSpace
    first: SearchSpace
    rows: tuple[Trial, ...]
    round: int
    budget_trials_left: int
    refused: frozenset[str] = frozenset()
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", tuple(self.rows))
        object.__setattr__(self, "refused", frozenset(self.refused))
        for name in ("round", "budget_trials_left", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must be at least 0, but got {getattr(self, name)}")
        if not self.limits.covers(self.space):
            raise ValueError(
                "`limits` must have the knobs and conditions of `space` and contain its ranges, "
                f"but got {self.limits.to_json()} and {self.space.to_json()}."
            )

    def trials(self) -> dict[str, Trial]:
        """The trials that agents see and may cite, by identifier.

        Trials with a malformed identifier or outside the limits are left out.
        """
        return {
            row.trial_id: row
            for row in self.rows
            if TRIAL_ID.fullmatch(row.trial_id) and self.limits.contains(row.knobs)
        }
