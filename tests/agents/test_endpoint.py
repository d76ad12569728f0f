"""A server that answers is heard; one that does not costs a bounded time and never the key."""

import json
import socket
import threading
import time

import pytest

from agents.endpoint import Endpoint, EndpointDownError, NoToolsError
from agents.reply import Reply, ToolCall
from tests.agents import scripted_server as server

KEY = "canary-1234567890"
QUESTION = [{"role": "user", "content": "What now?", "cache_breakpoint": True}]
TOOL = {
    "type": "function",
    "function": {"name": "cost", "description": "", "parameters": {}, "strict": True},
}


def endpoint(base_url, said=None, *, patience_s=0.6, key=KEY):
    said = [] if said is None else said
    return Endpoint("a-model", base_url, key=key, patience_s=patience_s, report=said.append)


def test_question_and_answer_arrive_whole():
    with server.serving([server.says('{"a": 1}')]) as seen:
        reply = endpoint(seen.base_url).complete(QUESTION, [TOOL])
    assert reply == Reply('{"a": 1}', (), 111)
    (request,) = seen.requests
    assert request["path"] == "/v1/chat/completions"
    assert request["model"] == "a-model"
    # What only the crew understands is left out.
    assert request["messages"] == [{"role": "user", "content": "What now?"}]
    assert "strict" not in request["tools"][0]["function"]
    assert seen.headers[0]["Authorization"] == f"Bearer {KEY}"


def test_without_a_key_no_credentials_are_sent():
    with server.serving([server.says("{}")]) as seen:
        endpoint(seen.base_url, key="").complete(QUESTION)
    assert "Authorization" not in seen.headers[0]


def test_tool_calls_are_read():
    with server.serving([server.calls("cost", {"a": [1]})]) as seen:
        reply = endpoint(seen.base_url).complete(QUESTION, [TOOL])
    assert reply.tool_calls == (ToolCall("cost", '{"a": [1]}', "call_7"),)


@pytest.mark.parametrize(
    "arguments", ["[1]", "[" * 10_000, '{"a":' * 500, '{"a": 1', 7, None, "x" * 10_000]
)
def test_arguments_that_are_no_object_become_unreadable_ones(arguments):
    call = {"id": 5, "function": {"name": "cost", "arguments": arguments}}
    with server.serving([server.says(None, tool_calls=[call, "no call"])]) as seen:
        reply = endpoint(seen.base_url).complete(QUESTION, [TOOL])
    assert reply.tool_calls == (ToolCall("cost", "{", "call_0"), ToolCall("unknown", "{", "call_1"))


def test_thoughts_before_the_answer_are_left_out():
    with server.serving([server.says('<think>{"b": 2}?</think>{"a": 1}')]) as seen:
        assert endpoint(seen.base_url).complete(QUESTION).text == '{"a": 1}'


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (server.status(500), "500"),
        (server.status(429), "429"),
        (server.cut, "cut"),
        (server.raw(b"<html>"), "not a chat completion"),
        (server.raw(b'{"choices": []}'), "not a chat completion"),
        (server.raw(b"[" * 100_000), "not a chat completion"),
        (server.raw(b" " * 10_000_000), "more than 1048576 bytes"),
        (server.says("x" * 70_000), "70000 characters"),
    ],
)
def test_failed_attempt_is_reported_once_and_made_again(step, reason):
    said = []
    with server.serving([step, server.says("{}")]) as seen:
        asked = endpoint(seen.base_url, said, patience_s=2.0)
        assert asked.complete(QUESTION).text == "{}"
    assert len(said) == 1
    assert reason in said[0]
    assert not asked.is_down


@pytest.mark.parametrize(
    "step",
    [
        server.status(500),
        server.status(429),
        server.status(429, retry_after="3600"),
        server.cut,
        server.drips_body,
        server.drips_header,
        server.hangs,
    ],
)
def test_server_that_never_answers_costs_no_more_than_the_patience(step):
    said = []
    with server.serving([step]) as seen:
        asked = endpoint(seen.base_url, said, patience_s=0.4)
        started = time.monotonic()
        for _ in range(5):
            with pytest.raises(EndpointDownError):
                asked.complete(QUESTION)
        seconds = time.monotonic() - started
    assert asked.is_down
    assert seconds < 1.4  # five times the patience would be 2 s
    assert asked.lost_s < 1.0
    # On a busy machine, the last attempt can end before the server hears of it.
    assert len(seen.requests) >= 1
    assert 0 <= len(said) - len(seen.requests) <= 1


def test_refused_connection_is_given_up_after_six_attempts():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    said = []
    asked = endpoint(f"http://127.0.0.1:{port}/v1", said)
    with pytest.raises(EndpointDownError, match="6 attempts"):
        asked.complete(QUESTION)
    assert len(said) == 6
    assert all("connection refused" in sentence for sentence in said)
    with pytest.raises(EndpointDownError):
        asked.complete(QUESTION)
    assert len(said) == 6


def test_time_of_answers_is_not_lost():
    def slow(handler):
        time.sleep(0.2)
        server.says("{}")(handler)

    with server.serving([slow]) as seen:
        asked = endpoint(seen.base_url, patience_s=0.5)
        for _ in range(4):
            asked.complete(QUESTION)
    assert asked.lost_s == 0.0


def test_no_thread_is_left_waiting_for_a_hanging_server():
    with server.serving([server.hangs]) as seen:
        with pytest.raises(EndpointDownError):
            endpoint(seen.base_url, patience_s=0.2).complete(QUESTION)
        deadline = time.monotonic() + 2
        while any(thread.name == "endpoint" for thread in threading.enumerate()):
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize("code", [400, 401, 403, 404])
def test_refusal_that_no_second_attempt_mends_is_final(code):
    with server.serving([server.status(code, "no such model")]) as seen:
        asked = endpoint(seen.base_url)
        with pytest.raises(EndpointDownError, match=str(code)):
            asked.complete(QUESTION)
    assert len(seen.requests) == 1
    assert asked.is_down


def test_server_without_tools_is_not_down():
    steps = [server.status(400, "a-model does not support tools"), server.says("{}")]
    with server.serving(steps) as seen:
        asked = endpoint(seen.base_url)
        with pytest.raises(NoToolsError):
            asked.complete(QUESTION, [TOOL])
        assert not asked.takes_tools
        assert asked.complete(QUESTION).text == "{}"
    assert asked.lost_s == 0.0


def test_other_name_of_the_length_limit_is_learnt():
    refusal = server.status(400, "use max_completion_tokens instead")
    with server.serving([refusal, server.says("{}")]) as seen:
        endpoint(seen.base_url).complete(QUESTION)
    assert "max_completion_tokens" in seen.requests[1]
    assert "max_tokens" not in seen.requests[1]


def test_redirect_is_not_followed():
    def redirects(handler):
        handler.send(307, b"", {"Location": f"{other.base_url}/chat/completions"})

    with (
        server.serving([server.says("{}")]) as other,
        server.serving([redirects]) as seen,
        pytest.raises(EndpointDownError, match="307"),
    ):
        endpoint(seen.base_url).complete(QUESTION)
    assert not other.requests


@pytest.mark.parametrize("step", [server.echoes_key, server.says_key, server.status(401, KEY)])
def test_key_is_in_no_text(step):
    said = []
    with server.serving([step]) as seen:
        asked = endpoint(seen.base_url, said)
        try:
            said.append(asked.complete(QUESTION).text)
        except EndpointDownError as error:
            said += [str(error), repr(error), repr(error.__cause__), repr(error.__context__)]
    assert KEY in json.dumps(seen.headers)  # it was sent, and echoed
    assert said
    assert KEY not in " ".join([*said, repr(asked)])


@pytest.mark.parametrize("key", ["sécret-canary", "canary secret", "canary\nX-Evil: 1"])
def test_malformed_key_is_refused_unquoted(key):
    with pytest.raises(ValueError, match="printable ASCII") as caught:
        endpoint("http://127.0.0.1:1/v1", key=key)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/v1",
        "file:///etc/passwd",
        "host:80/v1",
        "http://",
        "http://user:canary@host/v1",
        "http://host/v1?key=canary",
        "http://host:canary/v1",
        "http://host/v1 canary",
        "http://host/v1\r\ncanary",
    ],
)
def test_url_that_is_more_than_a_place_is_refused_unquoted(url):
    with pytest.raises(ValueError, match="base URL") as caught:
        endpoint(url)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("usage", "num_tokens"),
    [(None, 4), ({"total_tokens": -5}, 4), ({"total_tokens": 10**12}, 4), ({"total_tokens": 9}, 9)],
)
def test_tokens_are_counted_or_estimated(usage, num_tokens):
    body = {"choices": [{"message": {"content": "1234"}}], "usage": usage}
    with server.serving([server.raw(json.dumps(body).encode())]) as seen:
        reply = endpoint(seen.base_url).complete(QUESTION)  # "What now?" has 9 characters
    assert reply.num_tokens == num_tokens
