"""The crew speaks, its tools are called, and no reply leads out of what is allowed."""

import functools
import json
import os
import signal
import threading
import time

import pytest

from agents.brain import Brain, make_brain
from agents.crew import consult
from agents.findings import Author, Finding, check_finding
from agents.ledger import Ledger
from tests.agents import scripted_server as server
from tests.agents.round_table import Notebook, board, rows, space, trial
from tuning.box.trust_box import propose

KEY = "canary-1234567890"
NO_CHANGE = {
    "hypothesis": "The best lies inside.",
    "expected_effect": "Nothing changes.",
    "expectation": {"knob": "meta.inner_lr", "side": "high", "direction": "same"},
    "changes": [],
    "trial_ids": ["t0014"],
}
WIDER = NO_CHANGE | {"changes": [{"knob": "policy.hidden_dim", "low": 16, "high": 192}]}
GO_ON = {"decision": "go on", "num_trials": 5}


def ask(table, brain, **more):
    said = Notebook()
    return consult(table, brain=brain, round_trials=6, say=said, **more), said


def by_model(steps, *, table=None, **more):
    """What comes of a model that answers by a script."""
    said = Notebook()
    with server.serving(steps) as seen:
        environ = {"SSMRL_API_KEY": KEY}
        brain = make_brain("a-model", seen.base_url, environ=environ, say=said, **more)
        outcome = consult(table or board(), brain=brain, round_trials=6, say=said)
    return outcome, said, seen


def trust_box(table):
    return propose(table.space, first=table.first, limits=table.limits, rows=table.rows).space


@pytest.mark.parametrize("native_tools", [True, False], ids=["native", "text"])
def test_offline_crew_speaks_calls_tools_and_ends_where_the_trust_box_does(native_tools):
    table = board()
    outcome, said = ask(table, Brain(native_tools=native_tools))
    assert list(outcome.spoken.items()) == [(author, "offline") for author in Author]
    assert outcome.refusals == ()
    assert outcome.space == trust_box(table) != table.space
    assert (outcome.decision, outcome.num_trials) == ("go on", 6)
    known = table.trials()
    for finding in outcome.findings:
        assert finding.trial_ids
        assert all(name in known for name in finding.trial_ids)
    assert check_finding(outcome.findings[-1], table) == outcome.space
    for author, tools in {
        Author.STATE_MODELING: ("edge_hits", "importance", "failure_map", "simulate_proposal"),
        Author.META_LEARNING: ("edge_hits", "importance", "failure_map"),
        Author.COORDINATOR: ("table_summary", "cost", "simulate_proposal"),
    }.items():
        asked = [text.split()[1] for text in said.texts("noted", author.value)]
        assert asked == list(tools)
        assert len(said.texts("said", author.value)) == len(said.texts("found", author.value)) == 1
    assert said.lines[-1][0] == "decided"


def test_incumbent_beyond_two_agents_knobs_is_reached_without_refusals():
    far = dict(rows()[-1].knobs) | {"policy.state_dim": 256, "meta.inner_lr": 5.0}
    table = board(rows=(*rows(), trial(15, far, 9.0)))
    outcome, _ = ask(table, Brain())
    assert outcome.refusals == ()
    assert outcome.space == trust_box(table)
    assert outcome.space.contains(far)


def test_table_without_trials_falls_back_to_the_trust_box():
    table = board(rows=())
    outcome, said = ask(table, Brain())
    assert set(outcome.spoken.values()) == {"trust box"}
    assert outcome.space == table.space
    assert len(said.texts("fell back")) == 3


@pytest.mark.parametrize("brain", ["offline", "model"])
def test_budget_at_its_end_stops(brain):
    table = board(budget_trials_left=0)
    outcome = (
        ask(table, Brain())[0]
        if brain == "offline"
        else by_model([server.says("no")], table=table)[0]
    )
    assert (outcome.decision, outcome.num_trials) == ("stop", 0)


def test_native_tool_calls_complete():
    arguments = {"changes": WIDER["changes"]}
    steps = [
        server.calls("simulate_proposal", arguments),
        server.says(json.dumps(WIDER)),
        server.says(f"Here it is:\n```json\n{json.dumps(NO_CHANGE)}\n```"),
        server.says(json.dumps(WIDER | GO_ON)),
    ]
    outcome, said, seen = by_model(steps)
    assert set(outcome.spoken.values()) == {"a-model"}
    assert outcome.refusals == ()
    assert outcome.space.ranges["policy.hidden_dim"].high == 192
    assert outcome.num_trials == 5
    answered = json.loads(seen.requests[1]["messages"][-1]["content"])
    assert answered["is_accepted"] is True
    assert seen.requests[1]["messages"][-1]["role"] == "tool"
    assert said.texts("noted", "state modeling")[0].startswith("asks simulate_proposal")
    # What the first two said stands before the third.
    task = seen.requests[3]["messages"][1]["content"]
    assert json.dumps(WIDER["changes"]) in task


def test_several_calls_in_one_reply_are_told_one_after_the_other():
    answer = server.says(json.dumps(NO_CHANGE))
    steps = [server.calls("table_summary", {}, times=4), answer, answer]
    busy, overlaps = threading.Lock(), []

    def say(kind, text="", **more):
        if busy.acquire(blocking=False):
            time.sleep(0.02)
            busy.release()
        else:
            overlaps.append(text)

    with server.serving([*steps, server.says(json.dumps(NO_CHANGE | GO_ON))]) as seen:
        brain = make_brain("a-model", seen.base_url, environ={})
        outcome = consult(board(), brain=brain, round_trials=6, say=say)
    assert set(outcome.spoken.values()) == {"a-model"}
    assert sum(m["role"] == "tool" for m in seen.requests[1]["messages"]) == 4
    assert not overlaps


def test_plain_text_calls_complete_where_the_server_takes_no_tools():
    text = 'Thought: cost?\nAction: cost\nAction Input: {}\nObservation: {"seconds": 0}'
    steps = [
        server.status(400, "a-model does not support tools"),
        server.says(text),
        server.says(f"Thought: enough.\nFinal Answer: {json.dumps(NO_CHANGE)}"),
        server.says(f"Thought: enough.\nFinal Answer: {json.dumps(NO_CHANGE)}"),
        server.says(f"Thought: enough.\nFinal Answer: {json.dumps(NO_CHANGE | GO_ON)}"),
    ]
    outcome, said, seen = by_model(steps)
    assert set(outcome.spoken.values()) == {"a-model"}
    assert outcome.refusals == ()
    assert outcome.space == board().space
    assert "tools" in seen.requests[0]
    assert not any("tools" in request for request in seen.requests[1:])
    observed = seen.requests[2]["messages"]
    assert any('"env_steps"' in str(message["content"]) for message in observed)
    assert not any('{"seconds": 0}' in str(message["content"]) for message in observed)
    assert not said.texts("fell back")


def test_refused_agent_is_told_why_and_may_answer_again():
    foreign = NO_CHANGE | {"changes": [{"knob": "meta.inner_lr", "low": 0.01, "high": 2.0}]}
    steps = [
        server.says("I think that we should search further."),
        server.says(json.dumps(foreign)),
        server.says(json.dumps(NO_CHANGE)),
        server.says(json.dumps(NO_CHANGE)),
        server.says(json.dumps(NO_CHANGE | GO_ON)),
    ]
    outcome, said, seen = by_model(steps)
    assert set(outcome.spoken.values()) == {"a-model"}
    first, second = outcome.refusals
    assert "JSON object" in first.reason
    assert "may not change" in second.reason
    for refusal, request in zip(outcome.refusals, seen.requests[1:], strict=False):
        told = request["messages"][1]["content"].split("<refused>\n")[1].split("\n</refused>")[0]
        assert json.loads(told) == refusal.reason
    assert len(said.texts("refused", "state modeling")) == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"hypothesis": ',
        json.dumps(NO_CHANGE | GO_ON | {"trial_ids": ["t7777"]}),
        json.dumps(NO_CHANGE | GO_ON | {"num_trials": 99}),
        json.dumps(NO_CHANGE | {"run": "rm -rf /"}),
        '{"a":' * 5000,
        "Thought: x\nAction: os.system\nAction Input: ls",
        "Action: cost\nAction Input: " + "[" * 5000,
    ],
)
def test_agent_that_only_talks_nonsense_is_replaced_by_the_trust_box(text):
    table = board()
    outcome, said, _ = by_model([server.says(text)], table=table)
    assert outcome.space == trust_box(table)
    assert set(outcome.spoken.values()) == {"trust box"}
    assert len(outcome.refusals) == 3 * 3
    assert len(said.texts("fell back")) == 3


def test_model_that_only_calls_tools_comes_to_an_end():
    table = board()
    with_other_arguments = [server.calls("compare_trials", {"a": "t0001", "b": "t9"})] * 20
    outcome, _, seen = by_model(with_other_arguments, table=table)
    assert outcome.space == trust_box(table)
    assert len(seen.requests) < 100


@pytest.mark.parametrize("step", [server.status(500), server.hangs, server.cut])
def test_endpoint_that_is_down_gives_the_offline_result(step):
    table = board()
    offline, _ = ask(table, Brain())
    outcome, said, _ = by_model([step], table=table, patience_s=0.5)
    assert (outcome.space, outcome.findings, outcome.spoken) == (
        offline.space,
        offline.findings,
        offline.spoken,
    )
    assert len(said.texts("fell back", "a-model")) == 1


def test_endpoint_that_fails_in_the_middle_is_replaced_in_the_middle():
    steps = [server.says(json.dumps(NO_CHANGE)), server.calls("cost", {}), server.status(401)]
    outcome, _, _ = by_model(steps)
    assert list(outcome.spoken.values()) == ["a-model", "offline", "offline"]
    assert outcome.refusals == ()
    assert outcome.space == space()


@pytest.mark.parametrize("step", [server.says_key, server.echoes_key])
def test_key_is_nowhere_but_in_the_header(step):
    outcome, said, seen = by_model([step])
    assert all(KEY in headers["Authorization"] for headers in seen.headers)
    collected = [repr(outcome), repr(said.lines), json.dumps(seen.requests)]
    assert KEY not in " ".join(collected)


def test_ledger_takes_down_who_said_what(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    table = board()
    say = functools.partial(ledger.record, round=1)
    outcome = consult(table, brain=Brain(), round_trials=6, say=say)
    found = [event for event in Ledger(path).events if event.kind == "found"]
    assert [event.who for event in found] == [author.value for author in Author]
    for event, finding in zip(found, outcome.findings, strict=True):
        assert Finding.from_json(json.dumps(event.data["finding"])) == finding
        assert event.data["brain"] == "offline"


def test_interruption_does_not_wait_for_the_model():
    with server.serving([server.hangs]) as seen:
        brain = make_brain("a-model", seen.base_url, environ={})
        brain.to_llm()

        def interrupt():
            while not seen.requests:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt, daemon=True).start()
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            consult(board(), brain=brain, round_trials=6)
    assert time.monotonic() - started < 30  # of the 60 s for which the brain would wait
    assert not any(thread.name.startswith("crew-") for thread in threading.enumerate())


def test_round_trials_must_be_positive():
    with pytest.raises(ValueError, match="round_trials"):
        consult(board(), brain=Brain(), round_trials=0)
