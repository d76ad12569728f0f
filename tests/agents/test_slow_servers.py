"""Servers that take their time, think aloud, or say in their own words why they do not answer."""

import json
import time
from typing import Any

import pytest

from agents.endpoint import Endpoint, EndpointDownError, NoToolsError
from agents.reply import ToolCall
from agents.server_words import words_of
from tests.agents import scripted_server as server

QUESTION = [{"role": "user", "content": "What now?"}]
TOOL = {"type": "function", "function": {"name": "cost", "parameters": {}}}


def endpoint(base_url: str, said: list[str] | None = None, **more: Any) -> Endpoint:
    said = [] if said is None else said
    return Endpoint("a-model", base_url, report=said.append, **{"patience_s": 0.5} | more)


def letters(text: str) -> list[bytes]:
    return [server.event({"content": letter}) for letter in text]


def test_each_piece_that_arrives_counts_as_life() -> None:
    """The answer takes three times as long as the server may be silent, or as may be lost."""
    with server.serving([server.streams(*letters('{"a": 12345}'), pause_s=0.12)]) as seen:
        asked = endpoint(seen.base_url)
        started = time.monotonic()
        assert asked.complete(QUESTION).text == '{"a": 12345}'
    assert time.monotonic() - started > 1.0
    assert asked.lost_s == 0.0
    assert seen.requests[0]["stream"] is True


def test_thinking_is_life_and_no_part_of_the_answer() -> None:
    thoughts = [server.event({"reasoning_content": "hm"})] * 6
    with server.serving([server.streams(*thoughts, *letters("{}"), pause_s=0.12)]) as seen:
        assert endpoint(seen.base_url).complete(QUESTION).text == "{}"


@pytest.mark.parametrize(
    "piece", [b": keep waiting\n\n", server.event({}), server.event({"content": ""}), b"\n"]
)
def test_what_brings_nothing_is_no_life(piece: bytes) -> None:
    with server.serving([server.streams(piece, pause_s=0.05, forever=True)]) as seen:
        asked = endpoint(seen.base_url)
        started = time.monotonic()
        with pytest.raises(EndpointDownError, match=r"larger `--patience`"):
            asked.complete(QUESTION)
    assert time.monotonic() - started < 1.5


def test_the_patience_with_a_reply_and_with_all_of_them_are_two() -> None:
    """Three replies that never come cost three times the one, and no more than the other."""
    with server.serving([server.hangs]) as seen:
        asked = endpoint(seen.base_url, patience_s=0.2, study_patience_s=0.9)
        started = time.monotonic()
        with pytest.raises(EndpointDownError, match=r"0\.9 s for waiting are used up"):
            asked.complete(QUESTION)
    assert time.monotonic() - started < 1.6
    assert len(seen.requests) >= 3


def test_one_reply_may_take_long_where_much_may_be_lost() -> None:
    def slow(handler: Any) -> None:
        time.sleep(0.8)
        server.says("{}")(handler)

    with server.serving([slow]) as seen:
        assert endpoint(seen.base_url, patience_s=3.0).complete(QUESTION).text == "{}"


@pytest.mark.parametrize("name", ["patience_s", "study_patience_s"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_patience_that_is_none_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be positive and finite"):
        endpoint("http://127.0.0.1:1/v1", **{name: value})


def test_tool_calls_come_in_pieces_or_whole() -> None:
    first = {"index": 0, "id": "call_1", "function": {"name": "cost", "arguments": ""}}
    halves = [{"index": 0, "function": {"arguments": part}} for part in ('{"a"', ": 1}")]
    whole = {"id": "call_2", "function": {"name": "cost", "arguments": {"b": 2}}}
    pieces = [server.event({"tool_calls": [call]}) for call in (first, *halves, whole)]
    usage = b'data: {"choices": [], "usage": {"total_tokens": 77}}\n\n'
    with server.serving([server.streams(*pieces, usage)]) as seen:
        reply = endpoint(seen.base_url).complete(QUESTION, [TOOL])
    assert reply.tool_calls == (
        ToolCall("cost", '{"a": 1}', "call_1"),
        ToolCall("cost", '{"b": 2}', "call_2"),
    )
    assert reply.num_tokens == 77


def test_a_stream_without_its_end_is_a_cut_answer() -> None:
    said: list[str] = []
    steps = [server.streams(*letters('{"a": 1'), end=b""), server.streams(*letters("{}"))]
    with server.serving(steps) as seen:
        assert endpoint(seen.base_url, said, patience_s=3.0).complete(QUESTION).text == "{}"
    assert ["cut" in sentence for sentence in said] == [True]


def test_a_reason_to_finish_is_an_end() -> None:
    last = server.event({}, finish_reason="stop")
    with server.serving([server.streams(*letters("{}"), last, end=b"")]) as seen:
        assert endpoint(seen.base_url).complete(QUESTION).text == "{}"


@pytest.mark.parametrize("flood", [b"data: x\n\n", server.event({"content": "x" * 9999})])
def test_a_stream_that_never_ends_is_cut(flood: bytes) -> None:
    with (
        server.serving([server.streams(flood * 100, forever=True)]) as seen,
        pytest.raises(EndpointDownError, match=r"more than 16777216 bytes|no whole answer"),
    ):
        endpoint(seen.base_url, patience_s=2.0).complete(QUESTION)


@pytest.mark.parametrize(
    ("refusal", "lacks"),
    [
        ("unknown field `stream_options`", "stream_options"),
        ("streaming is not supported", "stream"),
    ],
)
def test_a_server_that_does_not_stream_is_asked_for_all_at_once(refusal: str, lacks: str) -> None:
    with server.serving([server.status(400, refusal), server.says("{}")]) as seen:
        asked = endpoint(seen.base_url)
        assert asked.complete(QUESTION).text == "{}"
    assert lacks in seen.requests[0]
    assert lacks not in seen.requests[1]
    assert "stream_options" not in seen.requests[1]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('so {"b": 2}?\n</think>\n{"a": 1}', '{"a": 1}'),
        ('<think>{"b": 2}?</think>{"a": 1}', '{"a": 1}'),
        ('<think>{"b": 2}? and then', ""),
        ('{"a": "think"}', '{"a": "think"}'),
    ],
)
def test_thoughts_are_left_out_whatever_is_left_of_their_tags(text: str, answer: str) -> None:
    with server.serving([server.says(text)]) as seen:
        assert endpoint(seen.base_url).complete(QUESTION).text.strip() == answer


ERROR = {"error": {"code": 500, "message": "the model ran out of memory", "type": "server"}}


@pytest.mark.parametrize(
    "step",
    [
        lambda handler: handler.send(500, json.dumps(ERROR).encode()),
        lambda handler: handler.send(503, b'{"detail": "the model ran out of memory"}'),
        lambda handler: handler.send(500, b"the model ran out of memory"),
        server.raw(json.dumps(ERROR).encode()),
        server.raw(b'{"error": "the model ran out of memory"}'),
        server.streams(f"data: {json.dumps(ERROR)}\n\n".encode()),
    ],
)
def test_a_server_is_quoted_in_its_own_words(step: Any) -> None:
    said: list[str] = []
    with server.serving([step, server.says("{}")]) as seen:
        assert endpoint(seen.base_url, said, patience_s=3.0).complete(QUESTION).text == "{}"
    (sentence,) = said
    assert sentence.startswith("the server answered ")
    assert sentence.endswith(": the model ran out of memory")


@pytest.mark.parametrize("code", [200, 400, 500])
def test_tools_are_left_out_for_who_says_so_in_any_way(code: int) -> None:
    """llama.cpp answers 500: tools param requires --jinja flag."""
    body = json.dumps({"error": {"message": "tools param requires --jinja flag"}}).encode()
    steps = [lambda handler: handler.send(code, body), server.says("{}")]
    with server.serving(steps) as seen:
        asked = endpoint(seen.base_url)
        with pytest.raises(NoToolsError):
            asked.complete(QUESTION, [TOOL])
        assert asked.complete(QUESTION).text == "{}"


def test_the_key_is_in_no_words_even_where_they_are_cut() -> None:
    key = "canary-1234567890"
    for padding in range(140, 160):
        step = server.status(500, "x" * padding + key)
        said: list[str] = []
        with server.serving([step, server.says("{}")]) as seen:
            endpoint(seen.base_url, said, key=key, patience_s=3.0).complete(QUESTION)
        assert "canar" not in " ".join(said)


@pytest.mark.parametrize("step", [server.status(404, "no"), server.raw(b"<html>It works</html>")])
def test_a_base_url_without_its_end_gets_a_hint(step: Any) -> None:
    hint = "below /v1: try a `--base-url` that ends in"
    for base, has_hint in (("", True), ("/v1", False)):
        with server.serving([step]) as seen, pytest.raises(EndpointDownError) as caught:
            endpoint(seen.base_url.removesuffix("/v1") + base).complete(QUESTION)
        assert (hint in str(caught.value)) is has_hint


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"error": {"message": "a\\nb"}}', "a b"),
        ('{"object": "error", "message": "m"}', "m"),
        ('{"detail": [{"msg": "m"}]}', '{"detail": [{"msg": "m"}]}'),
        ("[" * 9000, "[" * 160),
        ('{"error": {"message": {"message": "deep"}}}', "deep"),
        ("\x1b[31mred", "[31mred"),
        ("", ""),
    ],
)
def test_words_are_one_short_line(body: str, words: str) -> None:
    assert words_of(body) == words
