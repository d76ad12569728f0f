"""A study that is killed while its agents talk: no reply is paid twice, and its end is the same."""

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from agents.findings import Author
from agents.ledger import EventKind, Ledger
from tests.agents import scripted_server as server
from tests.agents.made_up_study import end_of, make_study
from tests.agents.talking_study import MODEL, PLAN, Nursery, nursery

pytestmark = pytest.mark.slow
Place: TypeAlias = tuple[int, str, int]

TOKENS = 111  # of each answer of the server
MAX_WAIT_S = 60.0
NO_CHANGE = {
    "hypothesis": "The best lies inside.",
    "expected_effect": "Nothing changes.",
    "expectation": {"knob": "meta.inner_lr", "side": "high", "direction": "same"},
    "changes": [],
}
WIDER = NO_CHANGE | {"changes": [{"knob": "policy.hidden_dim", "low": 16, "high": 192}]}


class Model:
    """Answers each agent by its own script, and counts what it is asked.

    Args:
        hangs_at: Round, agent and number of the answer that does not come when it is first asked.
    """

    def __init__(self, hangs_at: Place | None = None) -> None:
        self.hangs_at = hangs_at
        self.hangs = threading.Event()
        self.asked: list[Place] = []
        self.num_given: Counter[tuple[int, str]] = Counter()

    def __call__(self, handler: Any) -> None:
        board = board_of(handler.script.seen.requests[-1])
        agent = board["round"], board["author"]
        place = *agent, self.num_given[agent]
        self.asked.append(place)
        if place == self.hangs_at and not self.hangs.is_set():
            self.hangs.set()
            server.hangs(handler)
        else:
            self.num_given[agent] += 1
            self._step(place, board)(handler)

    def _step(self, place: Place, board: dict[str, Any]) -> server.Step:
        evidence = {"trial_ids": board["trial_ids"][:1]}
        left = board["budget_trials_left"]
        decision = {"decision": "go on" if left else "stop", "num_trials": left}
        prose = server.says("I would search further.")
        steps = {
            # It is refused for the same reason twice, and asked the same twice.
            Author.STATE_MODELING: [prose, prose, server.says(json.dumps(WIDER | evidence))],
            Author.META_LEARNING: [
                server.calls("cost", {}),
                server.says(json.dumps(NO_CHANGE | evidence)),
            ],
            Author.COORDINATOR: [
                server.calls("table_summary", {}),
                server.says(json.dumps(WIDER | evidence | decision)),
            ],
        }
        return steps[Author(place[1])][place[2]]


def board_of(request: dict[str, Any]) -> dict[str, Any]:
    """What lies on the table in a question."""
    text = " ".join(str(message["content"]) for message in request["messages"])
    content: dict[str, Any] = json.loads(text.split("<board>\n")[1].split("\n</board>")[0])
    return content


def asked_in_all(rounds: tuple[int, ...] = (1, 2)) -> list[Place]:
    """What is asked when nothing goes wrong."""
    numbers = {Author.STATE_MODELING: 3, Author.META_LEARNING: 2, Author.COORDINATOR: 2}
    return [(r, a.value, n) for r in rounds for a, num in numbers.items() for n in range(num)]


def outcome(folder: Path) -> dict[str, Any]:
    """What a study came to: trials, findings, spaces, and how many replies were refused."""
    kinds = Counter(event.kind for event in Ledger(folder / "ledger.jsonl").events)
    counted = EventKind.REFUSED, EventKind.SAID, EventKind.NOTED, EventKind.FELL_BACK
    return end_of(make_study(PLAN, folder)) | {"events": {kind: kinds[kind] for kind in counted}}


def spent(folder: Path) -> dict[str, float]:
    ledger = Ledger(folder / "ledger.jsonl")
    return {kind: ledger.spent(kind) for kind in ("trials", "calls", "tokens")}


def in_doubt(folder: Path) -> float:
    """Tokens of calls that a dead process made, of which nobody knows what they took."""
    unsettled = Ledger(folder / "ledger.jsonl").unsettled
    assert all(entry.kind == "tokens" for entry in unsettled)
    return sum(entry.amount for entry in unsettled)


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with nursery(tmp_path_factory.mktemp("crewai")) as found:
        yield found


@pytest.fixture(scope="module")
def undisturbed(processes: Nursery, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the study comes to that nobody kills."""
    folder, model = tmp_path_factory.mktemp("whole"), Model()
    with server.serving([model]) as seen:
        processes.start(folder, seen.base_url)
        assert processes.exit_code() == 0
    assert model.asked == asked_in_all()
    assert spent(folder) == {"trials": 7, "calls": 14, "tokens": 14 * TOKENS}
    found = outcome(folder)
    assert found["is_finished"]
    assert (found["events"][EventKind.REFUSED], found["events"][EventKind.FELL_BACK]) == (4, 0)
    assert {entry.brain for entry in found["said"]} == {MODEL}
    assert found["next_space"].ranges["policy.hidden_dim"].high == 192
    return found


def kill(processes: Nursery, process: int) -> None:
    os.kill(process, signal.SIGKILL)
    assert processes.exit_code() == -signal.SIGKILL


@pytest.mark.parametrize(
    "place",
    [
        (1, Author.META_LEARNING.value, 0),
        (1, Author.COORDINATOR.value, 1),
        (2, Author.META_LEARNING.value, 1),
    ],
)
def test_what_was_answered_before_a_kill_is_not_asked_again(
    place: Place, processes: Nursery, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    model = Model(hangs_at=place)
    with server.serving([model]) as seen:
        process = processes.start(tmp_path, seen.base_url)
        assert model.hangs.wait(MAX_WAIT_S)
        kill(processes, process)
        processes.start(tmp_path, seen.base_url)
        assert processes.exit_code() == 0
    assert Counter(model.asked) == Counter([*asked_in_all(), place]), "only what hung comes twice"
    assert outcome(tmp_path) == undisturbed
    # The call that hung was made, and counts; what it took is not known, and counts in full.
    paid = {"trials": 7, "calls": 15, "tokens": 14 * TOKENS + in_doubt(tmp_path)}
    assert spent(tmp_path) == paid
    assert in_doubt(tmp_path) > 0


def test_a_study_killed_while_trials_run_keeps_trials_and_asks_nothing_again(
    processes: Nursery, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    model, table = Model(), tmp_path / "trials.jsonl"
    num_before = 4  # of which the last is in the round that the agents decided
    with server.serving([model]) as seen:
        process = processes.start(tmp_path, seen.base_url, num_before)
        deadline = time.monotonic() + MAX_WAIT_S
        while not (table.exists() and table.read_bytes().count(b"\n") == num_before):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        kill(processes, process)
        before = table.read_bytes()
        assert model.asked == asked_in_all((1,))
        assert spent(tmp_path) == {"trials": 5, "calls": 7, "tokens": 7 * TOKENS}
        processes.start(tmp_path, seen.base_url)
        assert processes.exit_code() == 0
    assert table.read_bytes().startswith(before)
    assert model.asked == asked_in_all()
    assert outcome(tmp_path) == undisturbed
    assert spent(tmp_path) == {"trials": 7, "calls": 14, "tokens": 14 * TOKENS}
    assert in_doubt(tmp_path) == 0


def test_a_reply_whose_line_is_torn_is_asked_for_again_and_no_other(
    processes: Nursery, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    place = (1, Author.META_LEARNING.value, 0)
    model, path = Model(hangs_at=place), tmp_path / "ledger.jsonl"
    with server.serving([model]) as seen:
        process = processes.start(tmp_path, seen.base_url)
        assert model.hangs.wait(MAX_WAIT_S)
        kill(processes, process)
        lines = path.read_bytes().splitlines(keepends=True)
        last = max(number for number, line in enumerate(lines) if b'"digest"' in line)
        path.write_bytes(b"".join(lines[:last]) + lines[last][:-9])
        with pytest.warns(UserWarning, match=r"the last line of .* was torn"):
            before = spent(tmp_path)
        # The model is deterministic: what it is asked again, it answers as before.
        model.num_given[place[:2]] = 0
        model.num_given[1, Author.STATE_MODELING.value] = 2
        model.asked.clear()
        processes.start(tmp_path, seen.base_url)
        assert processes.exit_code() == 0
    assert model.asked == asked_in_all()[2:], "the two replies before are kept"
    assert outcome(tmp_path) == undisturbed
    assert before["calls"] == 3
    assert spent(tmp_path)["calls"] == before["calls"] + len(model.asked)
    assert spent(tmp_path)["tokens"] == 14 * TOKENS + in_doubt(tmp_path)
