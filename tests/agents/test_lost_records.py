"""A study whose files have lost records: what it spent stays spent, and what was said is kept."""

import warnings
from pathlib import Path

import pytest

from agents.budget import KINDS, Budget
from agents.kept_study import kept_study
from agents.ledger import EventKind, Ledger
from ssmrl.files import replace_file
from tests.agents.made_up_study import MadeUpTrials, as_a_rule, end_of, install_consult, make_study
from tuning.ending import LostError
from tuning.placement import Placement
from tuning.plan import SweepPlan
from tuning.table.record import sealed
from tuning.table.record_files import mend_records

PLAN = SweepPlan("point", algorithm="promp", rounds=2, num_samples=7, num_confirmed=2)
RUN = {"num_cpus": 1, "placement": Placement(), "quiet": True}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a study that came to its end; who goes on with it may ask nobody."""
    replace_file(tmp_path / "config.json", PLAN.to_json())
    MadeUpTrials(PLAN).install(monkeypatch)
    install_consult(monkeypatch, as_a_rule)
    make_study(PLAN, tmp_path).run(**RUN)
    return tmp_path


def test_rounds_that_are_lost_are_those_that_the_ledger_decided(folder: Path) -> None:
    expected = end_of(make_study(PLAN, folder))
    assert [this.author for this in expected["rounds"]][1] == "agents"
    assert expected["rounds"][1].moves
    for left in (b"", b"\x00" * 999, (folder / "rounds.jsonl").read_bytes()[:-9], None):
        path = folder / "rounds.jsonl"
        path.unlink() if left is None else path.write_bytes(left)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert end_of(make_study(PLAN, folder)) == expected
        assert end_of(make_study(PLAN, folder)) == expected


def test_rounds_that_the_ledger_does_not_know_are_exit_code_3(folder: Path) -> None:
    ledger = Ledger(folder / "ledger.jsonl")
    lines = (folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    decided = next(e.number for e in ledger.events if e.kind is EventKind.DECIDED)
    lines[decided - 1] = b"?\n"
    (folder / "ledger.jsonl").write_bytes(b"".join(lines))
    mend_records(folder / "ledger.jsonl", "")
    (folder / "rounds.jsonl").unlink()
    with pytest.raises(LostError, match=r"rounds\.jsonl lacks round 1, .*restore the file"):
        make_study(PLAN, folder)


def test_whichever_record_is_lost_the_trials_stay_spent(folder: Path) -> None:
    path = folder / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    said: list[str] = []
    for number in range(1, len(lines)):
        path.write_bytes(b"".join([*lines[:number], b"?\n", *lines[number + 1 :]]))
        mend_records(path, "")
        said.clear()
        study = make_study(PLAN, folder, say=lambda kind, text="", **_: said.append(text))
        assert Ledger(path).spent("trials") == PLAN.num_samples
        assert study._trials_left() == 0
        assert said == [
            "1 records of the ledger are lost; the spending, including all doubtful amounts, is: "
            f"trials {PLAN.num_samples}, minutes 0, tokens 0, calls 0"
        ]


def spending(path: Path) -> Ledger:
    ledger = Ledger(path, Budget(trials=9, tokens=5000))
    for kind, amount, actual in (("tokens", 100, 40), ("calls", 1, 1), ("tokens", 300, 350)):
        ledger.settle(ledger.reserve(kind, amount), actual)
    ledger.reserve("tokens", 200)  # a process that died
    ledger.settle(ledger.reserve("calls", 1), 0)
    ledger.settle(ledger.reserve("tokens", 50), 20)
    return ledger


def test_what_lost_records_spent_is_known_of_later_ones_and_doubt_counts_as_spent(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger.jsonl"
    whole = spending(path)
    spent = {kind: whole.spent(kind) for kind in KINDS}
    assert spent == {"trials": 0, "minutes": 0, "tokens": 610, "calls": 1}
    lines = path.read_bytes().splitlines(keepends=True)
    numbers = range(1, len(lines) - 1)  # of the last nothing is told by a later one
    for lost in [{n} for n in numbers] + [{n, m} for n in numbers for m in numbers if n < m]:
        kept = [b"?\n" if n in lost else line for n, line in enumerate(lines)]
        path.write_bytes(b"".join(kept))
        mend_records(path, "")
        ledger = Ledger(path)
        assert ledger.num_lost == len(lost)
        assert [event.number for event in ledger.events] == list(range(1, len(lines) + 1))
        for kind in KINDS:
            known = ledger.spent(kind)
            assert known >= spent[kind], (lost, kind)
            assert known <= spent[kind] + 650
        ledger.settle(ledger.reserve("tokens", 7), 7)
        assert Ledger(path).spent("tokens") == ledger.spent("tokens")


def test_a_reservation_that_is_lost_and_settled_by_an_older_version_is_named(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger.jsonl"
    events = [
        {"number": 1, "kind": "reserved", "data": {"kind": "calls", "amount": 1}},
        {"number": 2, "kind": "settled", "data": {"reservation": 1, "actual": 1}},
    ]
    path.write_text("?\n" + sealed(events[1]) + "\n")
    mend_records(path, "")
    with pytest.raises(ValueError, match=r"line 2 of .*reservation 1 is lost, and this one"):
        Ledger(path)
    path.write_text("\n".join(["?", *map(sealed, events), ""]))  # which was never a record
    mend_records(path, "")
    assert (Ledger(path).num_lost, Ledger(path).spent("calls")) == (0, 1)


def test_a_ledger_that_is_gone_is_exit_code_3(folder: Path) -> None:
    def resume(budget: Budget | None = None) -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return kept_study(PLAN, budget or Budget(), folder, resume=True, say=print)

    path = folder / "ledger.jsonl"
    whole = path.read_bytes()
    assert resume() == (PLAN, Budget(trials=7))
    first, *lines = whole.splitlines(keepends=True)
    for left in (None, b"", bytes(len(whole)), first[:99]):
        path.unlink() if left is None else path.write_bytes(left)
        with pytest.raises(LostError, match=r"ledger\.jsonl is gone or empty: .*restore it"):
            resume()
    path.write_bytes(b"".join([first, *lines[1:]]))
    with pytest.raises(LostError, match=r"^line 2 of .*ledger\.jsonl .*`ssmrl doctor .* --repair`"):
        resume()
    path.write_bytes(b"".join(lines))
    mend_records(path, "")
    with pytest.raises(
        LostError, match=r"the budget of the study is in a lost record of .*; restore the file"
    ):
        resume()
    assert resume(Budget(tokens=5)) == (PLAN, Budget(trials=7, tokens=5))
