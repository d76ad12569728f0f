"""How a sweep ended: its exit code, and the lines about what was lost."""

from collections.abc import Sequence
from enum import IntEnum

from ssmrl.printable import printable
from tuning.table.trial import LOST, Trial


class Ending(IntEnum):
    """The exit codes of a sweep and of a study; a signal's is 128 plus its number."""

    DONE = 0
    NOTHING_COMPLETED = 1  # and nothing was lost: every trial was stopped early, or diverged
    REFUSED = 2  # before anything was done
    LOST = 3  # a result or a needed file was lost, or the winner could not be confirmed


class LostError(RuntimeError):
    """What is needed to resume or judge a sweep is gone; the message says what, and what to do."""


def ending(rows: Sequence[Trial], *, has_winner: bool, is_confirmed: bool) -> Ending:
    """How a sweep ended.

    Args:
        rows: Its table.
        has_winner: Whether a trial completed.
        is_confirmed: Whether a fresh seed of the winner completed, or none has been trained so far.
    """
    if any(row.state in LOST for row in rows) or (has_winner and not is_confirmed):
        return Ending.LOST
    return Ending.DONE if has_winner else Ending.NOTHING_COMPLETED


def lost_lines(rows: Sequence[Trial], *, has_winner: bool, is_confirmed: bool) -> list[str]:
    """Lines on what was lost, and what to do about it; empty if nothing was.

    Args:
        rows: The table.
        has_winner: Whether a trial completed.
        is_confirmed: Same as for ``ending``.
    """
    lost = [row for row in rows if row.state in LOST]
    lines = [printable(f"lost: {row.trial_id} {row.state} ({row.reason})") for row in lost]
    if lost:
        lines.append(
            "a written row is never replaced; fix the cause, then search under another `--name`"
        )
    if has_winner and not is_confirmed:
        lines.append(
            "the winner could not be confirmed: none of its fresh seeds completed; their rows say "
            "why, and `--resume --confirm` trains others"
        )
    return lines
