"""How a sweep ended, for those who read nothing but its exit code."""

from collections.abc import Sequence
from enum import IntEnum

from ssmrl.printable import printable
from tuning.table.trial import LOST, Trial


class Ending(IntEnum):
    """The exit codes of a sweep and of a study; a signal's is 128 and its number."""

    DONE = 0
    NOTHING_COMPLETED = 1  # and nothing was lost: every trial was stopped early, or diverged
    REFUSED = 2  # before anything was done
    LOST = 3  # it is not known what a trial was worth, or the winner could not be confirmed


class LostError(RuntimeError):
    """What a sweep needs to go on or to judge is gone; the message says what, and what to do."""


def ending(rows: Sequence[Trial], *, has_winner: bool, is_confirmed: bool) -> Ending:
    """How a sweep ended.

    Args:
        rows: Its table.
        has_winner: Whether a trial completed.
        is_confirmed: Whether no seed was asked for to judge it, or one completed, or is still to
            come.
    """
    if any(row.state in LOST for row in rows) or (has_winner and not is_confirmed):
        return Ending.LOST
    return Ending.DONE if has_winner else Ending.NOTHING_COMPLETED


def lost_lines(rows: Sequence[Trial], *, has_winner: bool, is_confirmed: bool) -> list[str]:
    """What was lost, and what to do about it; nothing where nothing was.

    Args:
        rows: The table.
        has_winner: As for ``ending``.
        is_confirmed: As for ``ending``.
    """
    lost = [row for row in rows if row.state in LOST]
    lines = [printable(f"lost: {row.trial_id} {row.state} ({row.reason})") for row in lost]
    if lost:
        lines.append(
            "a row that is written stays; mend the cause, then search under another `--name`"
        )
    if has_winner and not is_confirmed:
        lines.append(
            "the winner could not be confirmed: none of its fresh seeds completed; their rows say "
            "why, and `--resume --confirm` trains others"
        )
    return lines
