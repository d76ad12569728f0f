"""The total budget of a study, by kind; the ledger counts the spending."""

import math
from dataclasses import dataclass
from typing import Any

from ssmrl.unknown_name import UnknownNameError
from tuning.table.field_types import NUMBER

KINDS = ("trials", "minutes", "tokens", "calls")


@dataclass(frozen=True)
class Budget:
    """Total amounts that may be spent; None for no limit.

    Attributes:
        trials: Trials.
        minutes: Wall-clock time [min].
        tokens: Tokens of a language model, prompts and replies together.
        calls: Calls of a language model.

    Raises:
        ValueError: If one is negative or not finite.
    """

    trials: float | None = None
    minutes: float | None = None
    tokens: float | None = None
    calls: float | None = None

    def __post_init__(self) -> None:
        for kind in KINDS:
            if (limit := getattr(self, kind)) is not None:
                check_amount(f"the budget of {kind}", limit)

    def limit(self, kind: str) -> float:
        """The limit of a kind; infinite without a limit.

        Raises:
            KeyError: If the kind is not known; the message lists the known ones.
        """
        if kind not in KINDS:
            raise UnknownNameError(
                f"unknown kind {kind!r} of budget; the kinds are: {', '.join(KINDS)}"
            )
        limit = getattr(self, kind)
        return math.inf if limit is None else float(limit)


def check_amount(what: str, amount: Any) -> None:
    """Check that a value is a valid amount.

    Raises:
        ValueError: If it is not a number, negative or not finite; the message names it.
    """
    if not NUMBER.holds(amount) or not (math.isfinite(amount) and amount >= 0):
        raise ValueError(f"{what} must be finite and at least 0, but got {amount!r}.")
