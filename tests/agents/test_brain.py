"""The brain answers by the endpoint while that is up and paid for, and offline from then on."""

import functools
import json
import os
import subprocess
import sys
import time

import pytest

from agents.brain import Brain, make_brain
from agents.budget import Budget
from agents.endpoint import Endpoint
from agents.findings import Author
from agents.ledger import Ledger
from agents.offline import offline_reply
from agents.plain_text import plain_reply
from agents.prompts import task_text
from tests.agents import scripted_server as server
from tests.agents.round_table import Notebook, board

KEY = "canary-1234567890"
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {}}}
    for name in ("table_summary", "cost")
]


@functools.cache
def question():
    return [{"role": "user", "content": task_text(board(), Author.COORDINATOR, (), round_trials=6)}]


def test_without_a_model_the_brain_is_offline():
    brain = make_brain()
    assert brain.name == "offline"
    assert brain.answer(question()) == offline_reply(question())
    assert brain.speaker == "offline"


def test_base_url_without_a_model_is_refused():
    with pytest.raises(ValueError, match="needs a model"):
        make_brain(None, "http://127.0.0.1:1/v1")


@pytest.mark.parametrize(
    ("base_url", "environ", "sent"),
    [
        ("http://127.0.0.1:1/v1", {"SSMRL_API_KEY": "own-secret"}, "own-secret"),
        ("http://127.0.0.1:1/v1", {"OPENAI_API_KEY": "openai-secret"}, None),
        (None, {"OPENAI_API_KEY": "openai-secret"}, "openai-secret"),
        (None, {"OPENAI_API_KEY": "openai-secret", "SSMRL_API_KEY": "own-secret"}, "own-secret"),
        ("https://api.openai.com.evil.example/v1", {"OPENAI_API_KEY": "openai-secret"}, None),
    ],
)
def test_key_goes_only_where_it_belongs(base_url, environ, sent, monkeypatch):
    class SentError(Exception):
        pass

    def exchange(url, body, headers, **limits):
        assert url.startswith(base_url or "https://api.openai.com/v1")
        raise SentError(headers.get("Authorization"))

    monkeypatch.setattr("agents.endpoint.Exchange", exchange)
    brain = make_brain("a-model", base_url, environ=environ)
    with pytest.raises(SentError) as caught:
        brain.answer(question())
    assert caught.value.args == (None if sent is None else f"Bearer {sent}",)


def test_model_answers_while_it_is_up():
    said = Notebook()
    with server.serving([server.says("{}")]) as seen:
        brain = make_brain("a-model", seen.base_url, environ={}, say=said)
        assert brain.answer(question()).text == "{}"
    assert (brain.name, brain.speaker) == ("a-model", "a-model")
    assert not said.lines


@pytest.mark.parametrize(
    "step", [server.status(500), server.cut, server.drips_body, server.hangs, server.status(401)]
)
def test_from_the_failure_on_the_answers_are_the_offline_ones(step):
    said = Notebook()
    with server.serving([server.says("{}"), step]) as seen:
        brain = make_brain("a-model", seen.base_url, environ={}, patience_s=0.6, say=said)
        assert brain.answer(question(), TOOLS).text == "{}"
        for _ in range(3):
            assert brain.answer(question(), TOOLS) == offline_reply(question(), TOOLS)
            assert brain.speaker == "offline"
        num_failed = len(seen.requests) - 1
    # On a busy machine, the last attempt can end before the server hears of it.
    assert 0 <= len(said.texts("noted", "a-model")) - num_failed <= 1
    assert num_failed >= 1
    assert len(said.texts("fell back", "a-model")) == 1


def test_calls_and_tokens_are_reserved_before_they_are_spent(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl", Budget(calls=2))
    spent = []

    def answers(handler):
        spent.append(Ledger(tmp_path / "ledger.jsonl").spent("calls"))
        server.says("{}")(handler)

    said = Notebook()
    with server.serving([answers]) as seen:
        brain = make_brain("a-model", seen.base_url, environ={}, meter=ledger, say=said)
        for _ in range(4):
            brain.answer(question())
    assert spent == [1, 2]  # as a process would find it that starts after a crash
    assert ledger.spent("tokens") == 2 * 111
    assert brain.speaker == "offline"
    assert len(said.texts("fell back")) == 1


def test_failed_attempts_count_as_calls(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl", Budget(calls=3))
    with server.serving([server.status(500)]) as seen:
        make_brain("a", seen.base_url, environ={}, patience_s=2.0, meter=ledger).answer(question())
    assert len(seen.requests) == ledger.spent("calls") == 3


def test_token_budget_ends_before_it_is_exceeded(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl", Budget(tokens=6000))
    with server.serving([server.says("{}")]) as seen:
        brain = make_brain("a-model", seen.base_url, environ={}, meter=ledger)
        for _ in range(12):
            brain.answer(question())
    assert 0 < len(seen.requests) < 12
    assert ledger.spent("tokens") <= 6000
    assert ledger.spent("calls") == len(seen.requests)


def test_interrupted_brain_answers_no_more():
    brain = Brain(Endpoint("a-model", "http://127.0.0.1:1/v1"))
    brain.interrupt()
    with pytest.raises(RuntimeError, match="interrupted"):
        brain.answer(question())


def test_llm_answers_for_the_brain():
    llm = Brain().to_llm()
    calls = llm.call(question(), tools=TOOLS)
    assert calls[0]["function"]["name"] == "table_summary"
    assert "Final Answer:" in llm.call(question()[0]["content"])
    assert llm.supports_function_calling()
    assert not Brain(native_tools=False).to_llm().supports_function_calling()


def test_llm_leaves_out_what_the_model_invents_and_is_never_silent():
    text = "Thought: x\nAction: cost\nAction Input: {}\nObservation: {}\nFinal Answer: {}"
    with server.serving([server.says(text), server.says("")]) as seen:
        llm = make_brain("a-model", seen.base_url, environ={}).to_llm()
        assert llm.call(question()).endswith("Action: cost\nAction Input: {}")
        assert llm.call(question())
        assert llm.call(question(), tools=TOOLS)


@pytest.mark.parametrize(
    "text",
    [
        "Action:" + " " * 60_000,
        "Action:" + "\n" * 60_000 + "Action",
        "Action: a\n" * 6000,
        "Action: a Action Input: {" * 2500,
        "Action: a\nAction Input: " + '{"a":' * 10_000,
        "Final Answer: " * 4000,
        "Final Answer: Action:" + " " * 60_000,
        "Action" + " " * 30_000 + "1" * 30_000 + ":",
        '{"' * 30_000,
    ],
)
@pytest.mark.parametrize("wants_tools", [True, False])
def test_no_text_takes_crewai_long_to_read(text, wants_tools):
    with server.serving([server.says(text)]) as seen:
        llm = make_brain("a-model", seen.base_url, environ={}).to_llm()
        from crewai.utilities.agent_utils import process_llm_response

        reply = llm.call(question(), tools=TOOLS if wants_tools else None)
        started = time.process_time()
        if not wants_tools:  # with tools, CrewAI takes the text as it is
            process_llm_response(reply, use_stop_words=True)
    assert time.process_time() - started < 0.2


def test_tool_in_plain_text_is_called_as_meant():
    arguments = {"changes": [{"knob": "meta.inner_lr", "low": 0.01, "high": 2.0}]}
    text = (
        f"Thought: try.\nAction: **simulate_proposal**\nAction Input: ```{json.dumps(arguments)}```"
    )
    from crewai.agents.parser import parse

    action = parse(plain_reply(text))
    assert action.tool == "simulate_proposal"
    assert json.loads(action.tool_input) == arguments


def test_key_is_in_no_form_of_the_llm():
    brain = make_brain("a-model", "http://127.0.0.1:1/v1", environ={"SSMRL_API_KEY": KEY})
    llm = brain.to_llm()
    shown = [repr(brain), repr(llm), str(llm), llm.model_dump_json(), str(llm.to_config_dict())]
    assert KEY not in " ".join(shown)
    assert llm.api_key is None


QUIET = """
import json, os, signal, sys
before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
events = []
sys.addaudithook(lambda name, args: events.append(name))
import agents.brain, agents.crew
late = "crewai" not in sys.modules
from agents.brain import Brain
from agents.crew import consult
from tests.agents.round_table import board
assert not {"socket.connect", "socket.getaddrinfo"} & set(events)
events.clear()  # the physics starts a process to look for a window system
result = consult(board(), brain=Brain(), round_trials=6)
after = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
print(json.dumps({
    "late": late,
    "signals": before == after,
    "spoken": list(result.spoken.values()),
    "events": sorted(set(events)),
    "storage": os.environ["CREWAI_STORAGE_DIR"],
}))
"""


def test_offline_round_connects_nowhere_and_leaves_nothing(tmp_path):
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("CREWAI", "OTEL"))}
    done = subprocess.run(
        [sys.executable, "-c", QUIET],
        env=environ | {"HOME": str(tmp_path), "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["late"]  # CrewAI is imported when a crew is made, not before
    assert seen["signals"]
    assert seen["spoken"] == ["offline"] * 3
    reaching_out = {"socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.listen"}
    starting = {"subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.fork"}
    # The list holds what was heard: it heard something.
    assert "open" in seen["events"]
    assert not (reaching_out | starting) & set(seen["events"])
    assert not os.path.exists(seen["storage"])
    assert done.stderr == ""
