"""The loop of a study: who speaks when, what it may spend, and what it does after a crash."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.findings import Author, Decision
from agents.ledger import EventKind, Ledger
from agents.study import CREW
from tests.agents.made_up_study import (
    RATE,
    MadeUpTrials,
    as_a_rule,
    end_of,
    install_consult,
    make_study,
)
from tests.contracts.property_settings import PROPERTY
from tuning.placement import Placement
from tuning.plan import SweepPlan
from tuning.table.durable import append_line

PLAN = SweepPlan("point", algorithm="promp", rounds=3, num_samples=9, num_confirmed=2)
RUN = {"num_cpus": 1, "placement": Placement(), "quiet": True}


def trials_spent(folder: Path) -> float:
    return Ledger(folder / "ledger.jsonl").spent("trials")


def decisions(folder: Path) -> int:
    """How often agents have decided what comes next."""
    events = Ledger(folder / "ledger.jsonl").events
    return sum(event.kind is EventKind.DECIDED for event in events)


def test_the_crew_speaks_after_every_round_of_search_and_cites_what_it_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = SweepPlan("point", algorithm="promp", rounds=2, num_samples=14, num_confirmed=2)
    MadeUpTrials(plan).install(monkeypatch)
    study = make_study(plan, tmp_path)
    study.run(**RUN)
    said = study.said()
    assert [(s.round, s.finding.author) for s in said] == [(r, a) for r in (1, 2) for a in Author]
    rows = study.sweep.table.rows
    for entry in said:
        seen = {row.trial_id for row in rows if row.round < entry.round}
        assert entry.brain == "offline"
        assert entry.finding.trial_ids
        assert set(entry.finding.trial_ids) <= seen
        assert bool(entry.verdict) == (entry.round == 1)  # a later round has judged it, or not yet
    assert (said[2].finding.decision, said[2].finding.num_trials) == (Decision.GO_ON, 6)
    assert (said[5].finding.decision, said[5].finding.num_trials) == (Decision.STOP, 0)
    assert [(this.number, this.num_trials) for this in study.sweep.rounds] == [
        (0, 6),
        (1, 6),
        (2, 2),
    ]
    assert trials_spent(tmp_path) == len(rows) == 14
    assert study.is_finished()


def test_what_the_agents_want_becomes_the_next_round_with_their_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MadeUpTrials(PLAN).install(monkeypatch)
    install_consult(monkeypatch, as_a_rule)
    study = make_study(PLAN, tmp_path)
    study.run(**RUN)
    first, second = study.sweep.rounds[:2]
    assert second.author == CREW
    (move,) = [move for move in second.moves if move.knob == RATE]
    assert (move.old, move.new) == (first.space.ranges[RATE], second.space.ranges[RATE])
    assert move.kind == "expand"
    assert move.statistic == "meta-learning: Round 1: larger rates are better."
    assert move.trial_ids == ("t0000",)


@pytest.mark.parametrize("num_confirmed", [0, 2])
def test_a_process_that_dies_after_any_line_changes_nothing(
    num_confirmed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file as it was after each line that was written is gone on from."""
    plan = SweepPlan(
        "point", algorithm="promp", rounds=2, num_samples=7, num_confirmed=num_confirmed
    )
    MadeUpTrials(plan).install(monkeypatch)
    boards = install_consult(monkeypatch, as_a_rule)
    whole, deaths = tmp_path / "whole", tmp_path / "deaths"
    whole.mkdir()
    with monkeypatch.context() as patch:
        copied: list[Path] = []

        def append_and_copy(path: Path, line: str) -> None:
            append_line(path, line)
            copied.append(deaths / f"{len(copied):03d}")
            shutil.copytree(whole, copied[-1])

        patch.setattr("tuning.table.append_only.append_line", append_and_copy)
        study = make_study(plan, whole)
        study.run(**RUN)
    expected = end_of(study)
    assert expected["is_finished"]
    assert len(expected["rows"]) == plan.num_samples
    assert len(copied) > 25
    num_decisions = len(boards)
    assert num_decisions == decisions(whole) > 0
    for number, folder in enumerate(copied):
        num_left = num_decisions - decisions(folder)
        boards.clear()
        resumed = make_study(plan, folder)
        assert not resumed.is_finished() or number == len(copied) - 1 or num_confirmed
        if not resumed.is_finished():
            resumed.run(**RUN)
        resumed.close()
        assert len(boards) == num_left, "who has decided is not asked and paid once more"
        assert end_of(make_study(plan, folder)) == expected
        assert trials_spent(folder) == plan.num_samples
        assert not Ledger(folder / "ledger.jsonl").unsettled


@PROPERTY
@given(
    rounds=st.integers(1, 3),
    more=st.integers(0, 6),
    num_confirmed=st.integers(0, 3),
    wanted=st.lists(st.integers(0, 9), min_size=3, max_size=3),
    num_until_death=st.integers(0, 12),
)
def test_the_budget_is_kept_whatever_the_agents_ask_for_and_whenever_time_is_up(
    rounds: int,
    more: int,
    num_confirmed: int,
    wanted: list[int],
    num_until_death: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("study")
    num_samples = rounds + more + num_confirmed
    plan = SweepPlan(
        "point",
        algorithm="promp",
        rounds=rounds,
        num_samples=num_samples,
        num_confirmed=num_confirmed,
    )
    with pytest.MonkeyPatch.context() as patch:
        install_consult(
            patch,
            lambda board, _: (
                (Decision.GO_ON, num)
                if (num := min(wanted[board.round - 1], board.budget_trials_left))
                else (Decision.STOP, 0)
            ),
        )
        MadeUpTrials(plan, num_left=num_until_death).install(patch)
        make_study(plan, folder).run(**RUN)
        num_before = len(make_study(plan, folder).sweep.table.rows)
        MadeUpTrials(plan).install(patch)
        resumed = make_study(plan, folder)
        resumed.run(**RUN)
        rows = resumed.sweep.table.rows
        assert num_before == min(num_until_death, len(rows))
        assert len(rows) == trials_spent(folder) <= num_samples
        assert [row.number for row in rows] == list(range(len(rows)))
        assert sum(row.round == rounds for row in rows) == min(
            num_confirmed, len({str(row.knobs) for row in rows if row.round < rounds})
        )
        assert resumed.is_finished()


@pytest.mark.parametrize(("num_confirmed", "numbers"), [(2, [0, 3]), (0, [0])])
def test_agents_who_stop_end_the_search_but_not_the_confirmation(
    num_confirmed: int, numbers: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = SweepPlan(
        "point", algorithm="promp", rounds=3, num_samples=9, num_confirmed=num_confirmed
    )
    MadeUpTrials(plan).install(monkeypatch)
    boards = install_consult(monkeypatch, lambda board, _: (Decision.STOP, 0))
    study = make_study(plan, tmp_path)
    assert not study.is_finished()
    study.run(**RUN)
    assert [this.number for this in study.sweep.rounds] == numbers
    assert len(boards) == 1
    assert trials_spent(tmp_path) == len(study.sweep.table.rows) == 3 + num_confirmed
    again = make_study(plan, tmp_path)
    assert again.is_finished()
    again.run(**RUN)
    assert [this.number for this in again.sweep.rounds] == numbers


def test_trials_that_confirm_are_not_on_offer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MadeUpTrials(PLAN).install(monkeypatch)
    boards = install_consult(monkeypatch, as_a_rule)
    make_study(PLAN, tmp_path).run(**RUN)
    assert [board.budget_trials_left for board in boards] == [4, 2, 0]
    assert [len(board.rows) for board in boards] == [3, 5, 7]


def test_minutes_that_are_spent_begin_no_round_and_ask_no_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MadeUpTrials(PLAN, seconds=1.2).install(monkeypatch)
    boards = install_consult(monkeypatch, as_a_rule)
    study = make_study(PLAN, tmp_path, minutes=1.0 / 60.0)
    study.run(**RUN)
    assert [this.number for this in study.sweep.rounds] == [0]
    assert not boards
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert ledger.remaining("minutes") == 0.0
    assert not ledger.unsettled
    resumed = make_study(PLAN, tmp_path, minutes=1.0 / 60.0)
    resumed.run(**RUN)
    assert len(resumed.sweep.table.rows) == 3
    assert not boards
    more = make_study(PLAN, tmp_path, minutes=10.0)
    more.run(**RUN)
    assert more.is_finished()
    assert len(more.sweep.table.rows) == PLAN.num_samples
    assert boards


def test_a_study_without_a_round_can_still_be_reported(tmp_path: Path) -> None:
    ledger_path = tmp_path / "ledger.jsonl"
    study = make_study(PLAN, tmp_path, minutes=1.0)
    study.close()
    ledger = Ledger(ledger_path)
    ledger.settle(ledger.reserve("minutes", ledger.remaining("minutes")), 1.0)
    late = make_study(PLAN, tmp_path, minutes=1.0)
    late.run(**RUN)
    assert late.sweep.rounds == ()
    assert late.next_space() == PLAN.space()
    assert not late.sweep.table.rows


def test_a_dead_process_spent_the_time_until_it_last_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MadeUpTrials(PLAN, num_left=2).install(monkeypatch)
    dead = make_study(PLAN, tmp_path, minutes=30.0)
    monkeypatch.setattr(dead, "close", lambda: None)
    dead.run(**RUN)
    began = Ledger(tmp_path / "ledger.jsonl").events[1].time
    os.utime(tmp_path / "trials.jsonl", (began + 120.0, began + 120.0))
    # What the next process touches before it looks tells nothing about the dead one.
    for name in (".lock", "config.json"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (began + 1200.0, began + 1200.0))
    make_study(PLAN, tmp_path, minutes=30.0)
    settled = [e for e in Ledger(tmp_path / "ledger.jsonl").events if e.kind is EventKind.SETTLED]
    assert [event.data["actual"] for event in settled] == [pytest.approx(2.0)]
