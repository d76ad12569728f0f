"""What the exit code of a sweep says, and what is said of what was lost."""

import pytest

from tuning.ending import Ending, ending, lost_lines
from tuning.table.trial import FAILURES, LOST, Trial, TrialState


def row(state: TrialState, number: int = 0) -> Trial:
    score = 1.0 if state in (TrialState.COMPLETE, TrialState.PRUNED) else None
    reason = "" if state is TrialState.COMPLETE else "why"
    return Trial(f"t{number:04d}", number, state, score, {}, reason=reason)


@pytest.mark.parametrize("state", TrialState)
@pytest.mark.parametrize("has_winner", [True, False])
def test_a_loss_is_told_whatever_else_was_found(state: TrialState, has_winner: bool) -> None:
    rows = [row(state), *([row(TrialState.COMPLETE, 1)] if has_winner else [])]
    code = ending(rows, has_winner=has_winner, is_confirmed=True)
    lines = lost_lines(rows, has_winner=has_winner, is_confirmed=True)
    if state in LOST:
        assert code == 3
        assert lines[0] == f"lost: t0000 {state} (why)"
        assert "`--name`" in lines[-1]
    else:
        assert code == (0 if has_winner else 1)
        assert not lines


def test_a_winner_that_could_not_be_confirmed_is_a_loss() -> None:
    rows = [row(TrialState.COMPLETE), row(TrialState.DIVERGED, 1)]
    how = {"has_winner": True, "is_confirmed": False}
    assert ending(rows, **how) is Ending.LOST
    (line,) = lost_lines(rows, **how)
    assert "none of its fresh seeds completed" in line


def test_what_diverged_is_a_result_and_no_loss() -> None:
    assert set(FAILURES) - set(LOST) == {TrialState.DIVERGED}
