"""The ledger loses nothing, leaks nothing, and never gives back what a crash may have spent."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.budget import KINDS, Budget
from agents.ledger import BudgetError, Event, EventKind, Ledger
from ssmrl import disk_room
from ssmrl.format import FormatError
from tests.contracts.property_settings import PROPERTY
from tuning.table.record import sealed

ROOT = Path(__file__).resolve().parents[2]
CANARY = 'sk-canary"\\ключ-0123'


def make_ledger(folder: Path, **limits: Any) -> Ledger:
    return Ledger(folder / "ledger.jsonl", Budget(**limits), clock=lambda: 1.5)


def test_what_is_recorded_is_read_again(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path, trials=8)
    ledger.record(EventKind.SAID, "I would go on.\nOr not.", who="coordinator", round=2)
    ledger.record(EventKind.SCORED, data={"p": math.nan, "ids": ("t0001",), "kept": True})
    again = Ledger(tmp_path / "ledger.jsonl")
    assert again.events == ledger.events
    assert [event.kind for event in again.events] == ["budget", "said", "scored"]
    assert again.events[1].text == "I would go on.\nOr not."
    assert dict(again.events[2].data) == {"p": "nan", "ids": ["t0001"], "kept": True}
    assert again.budget == Budget(trials=8)


def test_a_reservation_is_on_the_disk_before_it_is_used(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path, tokens=1000)
    ledger.reserve("tokens", 400)
    last = (tmp_path / "ledger.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["data"] == {"kind": "tokens", "amount": 400, "spent": 400}


def test_a_budget_is_reserved_settled_and_refused(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path, tokens=1000, calls=3)
    first = ledger.reserve("tokens", 600)
    assert (ledger.remaining("tokens"), ledger.spent("tokens")) == (400, 600)
    with pytest.raises(BudgetError, match="tokens is 1000, of which 400 are left: too few for 401"):
        ledger.reserve("tokens", 401)
    ledger.settle(first, 250)
    assert (ledger.remaining("tokens"), ledger.spent("tokens")) == (750, 250)
    assert ledger.remaining("calls") == 3
    assert ledger.remaining("minutes") == math.inf
    ledger.settle(ledger.reserve("minutes", 1e9), 1e9)  # without a limit
    with pytest.raises(ValueError, match="only what is reserved can be settled, once"):
        ledger.settle(first, 250)
    assert ledger.spent("tokens") == 250


def test_a_call_that_takes_more_than_it_reserved_is_the_last(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path, tokens=1000)
    ledger.settle(ledger.reserve("tokens", 900), 1700)
    assert (ledger.spent("tokens"), ledger.remaining("tokens")) == (1700, 0)
    with pytest.raises(BudgetError, match="of which 0 are left"):
        ledger.reserve("tokens", 1)


@pytest.mark.parametrize("amount", [0, -1, math.nan, math.inf, True])
def test_an_amount_is_a_positive_number(tmp_path: Path, amount: float) -> None:
    ledger = make_ledger(tmp_path)
    with pytest.raises(ValueError, match="amount must be"):
        ledger.reserve("calls", amount)
    with pytest.raises(KeyError, match="the kinds are: trials, minutes, tokens, calls"):
        ledger.reserve("money", 1)
    with pytest.raises(ValueError, match="the budget of calls must be finite"):
        Budget(calls=-1)
    with pytest.raises(ValueError, match="not by `record`"):
        ledger.record(EventKind.SETTLED, data={"reservation": 1, "actual": -100})
    assert ledger.unsettled == ()


@PROPERTY
@given(
    st.lists(
        st.tuples(st.sampled_from(KINDS), st.integers(1, 40), st.none() | st.integers(0, 60)),
        max_size=25,
    )
)
def test_a_budget_is_never_exceeded_by_more_than_one_call(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[str, int, int | None]]
) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    limits = dict.fromkeys(KINDS, 100.0)
    ledger = make_ledger(folder, **limits)
    largest_excess = dict.fromkeys(KINDS, 0.0)
    for kind, amount, actual in calls:
        try:
            reservation = ledger.reserve(kind, amount)
        except BudgetError:
            assert amount > ledger.remaining(kind)
            continue
        if actual is None:  # a crash: another process goes on
            ledger = make_ledger(folder, **limits)
            assert reservation in ledger.unsettled
        else:
            ledger.settle(reservation, actual)
            largest_excess[kind] = max(largest_excess[kind], actual - amount)
    for kind in KINDS:
        assert ledger.spent(kind) <= 100 + largest_excess[kind]
        assert make_ledger(folder, **limits).spent(kind) == ledger.spent(kind)


def test_what_a_killed_process_reserved_counts_as_spent_until_it_is_settled(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from agents.budget import Budget\n"
        "from agents.ledger import Ledger\n"
        "ledger = Ledger(Path(sys.argv[1]), Budget(trials=20))\n"
        "ledger.settle(ledger.reserve('trials', 8), 6)\n"
        "ledger.reserve('trials', 8)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "ledger.jsonl"
    dead = subprocess.run([sys.executable, "-c", script, str(path)], cwd=ROOT, check=False)
    assert dead.returncode == -signal.SIGKILL
    ledger = Ledger(path)
    assert (ledger.spent("trials"), ledger.remaining("trials")) == (14, 6)
    (open_one,) = ledger.unsettled
    ledger.settle(open_one, 3)  # the round was taken up again and ended early
    assert Ledger(path).remaining("trials") == 11


def test_a_torn_line_costs_nothing_but_itself(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path, calls=5)
    ledger.reserve("calls", 2)
    path = tmp_path / "ledger.jsonl"
    whole = path.read_bytes()
    ledger.reserve("calls", 1)
    torn = path.read_bytes()[:-7]
    path.write_bytes(torn)
    with pytest.warns(UserWarning, match=r"the last line of .* was torn"):
        again = Ledger(path)
    assert path.read_bytes() == torn, "reading changes nothing"
    assert again.spent("calls") == 2
    again.record(EventKind.NOTED, "x")
    assert path.read_bytes().startswith(whole)
    assert (tmp_path / "ledger.jsonl.torn").read_bytes() == torn[len(whole) :] + b"\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"number": 2, "kind": "bribed"}', "'bribed' is not a valid EventKind"),
        ('{"number": 3, "kind": "said"}', "3 follows 1"),
        ('{"number": 2, "kind": "said", "tone": "loud"}', "not an event"),
        ('{"number": 2, "kind": "settled", "data": {"reservation": 9, "actual": 1}}', "9"),
        ('{"number": 2, "kind": "reserved", "data": {"kind": "calls", "amount": -5}}', "-5"),
        ('{"number": 2, "kind": "budget", "data": {"calls": "all"}}', "'all'"),
    ],
)
def test_a_line_that_was_changed_is_named(tmp_path: Path, line: str, message: str) -> None:
    make_ledger(tmp_path, calls=5)
    with (tmp_path / "ledger.jsonl").open("a") as file:
        file.write(sealed(json.loads(line), place=2) + "\n")
    with pytest.raises(ValueError, match=f"line 2 of .*{message}"):
        Ledger(tmp_path / "ledger.jsonl")


def test_a_changed_line_and_one_of_version_0_1_are_refused(tmp_path: Path) -> None:
    make_ledger(tmp_path, calls=5)
    path = tmp_path / "ledger.jsonl"
    whole = path.read_text()
    path.write_text(whole.replace('"calls": 5', '"calls": 9'))
    with pytest.raises(ValueError, match=r"line 1 of .*checksum does not fit"):
        Ledger(path)
    path.write_text(whole.replace('"format": 2, ', ""))
    with pytest.raises(FormatError, match=r"line 1 of .* has no format: version 0.1"):
        Ledger(path)


def test_a_second_writer_is_noticed(tmp_path: Path) -> None:
    first, second = make_ledger(tmp_path), make_ledger(tmp_path)
    first.record(EventKind.NOTED, "one")
    with pytest.raises(RuntimeError, match="only one process may write"):
        second.record(EventKind.NOTED, "two")


def test_a_new_budget_is_one_for_all_that_was_spent(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path, trials=10)
    ledger.settle(ledger.reserve("trials", 9), 9)
    more = make_ledger(tmp_path, trials=12)
    assert more.remaining("trials") == 3
    assert Ledger(tmp_path / "ledger.jsonl").budget == Budget(trials=12)
    make_ledger(tmp_path, trials=12)
    kinds = [event.kind for event in Ledger(tmp_path / "ledger.jsonl").events]
    assert kinds.count(EventKind.BUDGET) == 2


def test_a_secret_is_written_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path, secrets=(CANARY, "", "abc", CANARY[:6]))
    quoted = json.dumps({"key": CANARY})
    filler = "x" * 8180  # where the text is cut, the secret begins
    for text in (CANARY, f"the key is {CANARY}!", quoted, json.dumps(quoted), filler + CANARY):
        ledger.record(EventKind.SAID, text, who=text)
        ledger.record(EventKind.NOTED, data={text: [{"deep": text}], "error": ValueError(text)})
    for content in (path.read_text(), *(json.dumps(event.content()) for event in ledger.events)):
        assert "canary" not in content
        assert "0123" not in content
    assert ledger.events[1].data["***"] == [{"deep": "***"}]
    # What is too short to be one is left alone: it stands in half of all words.
    assert ledger.redact("abc") == "abc"


def test_a_long_text_is_cut_and_says_so(tmp_path: Path) -> None:
    event = make_ledger(tmp_path).record(EventKind.SAID, "y" * 10_000)
    assert event.text.endswith("... (1808 characters more)")
    assert event.text.startswith("y" * 8192)


def test_a_word_of_the_ledgers_own_is_no_danger_as_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path, Budget(tokens=10), secrets=("tokens", "kind", "amount", "said"))
    ledger.settle(ledger.reserve("tokens", 4), 3)
    ledger.record(EventKind.SAID, "the tokens")
    again = Ledger(path, secrets=("tokens",))
    assert (again.spent("tokens"), again.events[-1].text) == (3, "the ***")


def test_a_full_disk_leaves_the_ledger_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = make_ledger(tmp_path, calls=5)
    before = (tmp_path / "ledger.jsonl").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        patched.setattr(disk_room, "PATIENCE_S", 0.0)
        with pytest.raises(OSError, match="No space left"):
            ledger.reserve("calls", 1)
    assert (tmp_path / "ledger.jsonl").read_bytes() == before
    assert ledger.remaining("calls") == 5
    assert ledger.reserve("calls", 1).number == 2


def test_an_event_survives_json() -> None:
    event = Event(3, EventKind.REFUSED, 1, "meta-learning", "ü\n", {"a": [1, None]}, 2.5)
    assert Event.from_content(json.loads(json.dumps(event.content()))) == event
