"""What a sweep says at its end where trials were lost, and where its rounds searched elsewhere."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ssmrl.config import KnobValue
from tests.tuning.test_conclusion import BETTER, DEFAULT, PLAN, Folder
from tuning import conclusion
from tuning.conclusion import next_until_shown
from tuning.spaces.ranges import Float
from tuning.table.round_log import Round
from tuning.table.trial import Trial, TrialState

NARROWER = PLAN.space().replace_ranges({"meta.inner_lr": Float(0.02, 0.5, log=True)})
Reported = dict[str, Any]


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> Reported:
    """What the report is given."""
    given: Reported = {}
    monkeypatch.setattr(conclusion, "write_report", lambda path, **told: given.update(told))
    return given


@pytest.fixture
def folder(tmp_path: Path, reported: Reported, monkeypatch: pytest.MonkeyPatch) -> Folder:
    made = Folder(tmp_path)
    monkeypatch.setattr(conclusion, "fresh_returns", made.returns)
    monkeypatch.setattr(conclusion, "blind_return", lambda config: None)
    return made


def failed(number: int, state: TrialState, point: dict[str, KnobValue], round: int = 0) -> Trial:
    name, reason = f"t{number:04d}", f"made up {number}"
    return Trial(name, number, state, None, point, reason=reason, round=round)


def test_where_nothing_was_lost_nothing_is_said_of_it(folder: Folder) -> None:
    folder.searched_and_judged()
    result = folder.conclude()
    assert (result["lost"], result["exit_code"]) == ([], 0)
    assert not any(line.startswith(("lost: ", "the winner could not")) for line in folder.said)


def test_where_nothing_completed_the_exit_code_says_so(folder: Folder) -> None:
    folder.table.append(failed(0, TrialState.DIVERGED, BETTER))
    result = folder.conclude()
    assert (result["lost"], result["exit_code"]) == ([], 1)


def test_what_was_lost_is_named_and_the_winner_with_it(folder: Folder) -> None:
    folder.searched_and_judged()
    for number, state in ((8, TrialState.OOM), (9, TrialState.DIVERGED), (10, TrialState.HUNG)):
        folder.table.append(failed(number, state, BETTER))
    result = folder.conclude()
    assert (result["lost"], result["exit_code"]) == (["t0008", "t0010"], 3)
    told = [line for line in folder.said if line.startswith("lost: ")]
    assert told == ["lost: t0008 OOM (made up 8)", "lost: t0010 HUNG (made up 10)"]
    assert result["best_trial"] == "t0002"
    assert not any("could not be confirmed" in line for line in folder.said)


@pytest.mark.parametrize(("point", "exit_code"), [(BETTER, 3), (DEFAULT, 0)])
def test_a_winner_none_of_whose_fresh_seeds_completed_is_not_confirmed(
    point: dict[str, KnobValue], exit_code: int, folder: Folder
) -> None:
    """Of the default it is no matter: then there is a winner, and no verdict."""
    folder.add(DEFAULT, 1.0, 0, 0)
    folder.add(BETTER, 9.0, 0, 0)
    folder.add(DEFAULT if point == BETTER else BETTER, 0.0, 2, 1)
    folder.table.append(failed(3, TrialState.DIVERGED, point, round=2))
    result = folder.conclude()
    assert (result["lost"], result["exit_code"]) == ([], exit_code)
    is_told = any(line.startswith("the winner could not be confirmed") for line in folder.said)
    assert is_told == (exit_code == 3)


def test_to_know_whether_to_train_more_nothing_is_played_without_adaptation(
    folder: Folder,
) -> None:
    folder.searched_and_judged()
    assert next_until_shown(folder.path, PLAN, folder.rounds, folder.table.rows) is None
    assert [with_off for _, with_off in folder.asked] == [False, False]


def test_the_report_shows_the_space_of_the_last_round_and_the_rounds_if_there_are_several(
    folder: Folder, reported: Reported
) -> None:
    folder.plan = replace(PLAN, rounds=2)
    folder.rounds.append(Round(1, "a", NARROWER, (), 2))
    folder.conclude()
    assert reported["space"] == NARROWER
    assert reported["rounds"] == folder.rounds


def test_without_a_round_the_report_shows_where_the_plan_begins(
    folder: Folder, reported: Reported
) -> None:
    folder.rounds.clear()
    folder.conclude()
    assert reported["space"] == PLAN.space()
    assert reported["rounds"] == ()
