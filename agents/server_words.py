"""Parses the answers of an OpenAI-compatible server, whole or streamed; it sends no requests."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

MAX_WORDS = 160
_DONE = "[DONE]"
_TEXTS = ("content", "reasoning_content", "reasoning", "thinking")


class CutError(ValueError):
    """A stream ended before its answer was complete."""


def has_news(line: bytes) -> bool:
    """Whether a line of a stream has a part of the answer, not a comment or an empty piece.

    Args:
        line: The line, with or without its newline.

    Example:
        >>> has_news(b'data: {"choices": [{"delta": {"content": "a"}}]}')
        True
        >>> has_news(b": keep waiting"), has_news(b'data: {"choices": []}')
        (False, False)
    """
    try:
        delta = _choice(_piece(line)).get("delta")
    except (ValueError, RecursionError):
        return False
    fields = delta if isinstance(delta, dict) else {}
    return any(fields.get(name) for name in (*_TEXTS, "tool_calls"))


def is_end(line: bytes) -> bool:
    """Whether a line ends the stream."""
    return _data(line) == _DONE


def joined(body: bytes) -> dict[str, Any]:
    """The pieces of a stream, joined into one answer.

    Args:
        body: All lines; those that are not pieces of an answer are skipped.

    Raises:
        CutError: If both the end of the stream and the end of the answer are missing.
        ValueError: If a piece is not JSON.
    """
    message: dict[str, Any] = {"content": ""}
    whole: dict[str, Any] = {"choices": [{"message": message}]}
    calls: dict[Any, dict[str, Any]] = {}
    has_ended = False
    for line in body.splitlines():
        has_ended = has_ended or is_end(line)
        for piece in _pieces(line):
            if "error" in piece:
                return {"error": piece["error"]}
            if isinstance(piece.get("usage"), dict):
                whole["usage"] = piece["usage"]
            choice = _choice(piece)
            has_ended = has_ended or bool(choice.get("finish_reason"))
            delta = choice.get("delta")
            if isinstance(delta, dict):
                if isinstance(delta.get("content"), str):
                    message["content"] += delta["content"]
                _take_in(calls, delta.get("tool_calls"))
    if not has_ended:
        raise CutError("the answer was cut: its stream has no end")
    if calls:
        message["tool_calls"] = list(calls.values())
    return whole


def words_of(text: str) -> str:
    """A server's own reason in one short line; the start of its answer if it gives none.

    Example:
        >>> words_of('{"error": {"code": 500, "message": "no slot"}}'), words_of("<h1>Bad</h1>")
        ('no slot', '<h1>Bad</h1>')
    """
    text = text[:4096]
    with suppress(ValueError, RecursionError):  # not JSON, or cut
        text = reason_of(json.loads(text)) or text  # noqa: TID251  # foreign, and only shown
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:MAX_WORDS]


def reason_of(content: Any) -> str:
    """The reason in an error answer; empty if it gives none."""
    for name in ("error", "message", "detail", "msg"):
        found = content.get(name) if isinstance(content, dict) else None
        if isinstance(found, str) and found:
            return found
        if isinstance(found, dict) and (inner := reason_of(found)):
            return inner
    return ""


def _data(line: bytes) -> str:
    name, _, value = line.decode("utf-8", "replace").partition(":")
    return value.strip() if name == "data" else ""


def _pieces(line: bytes) -> Iterator[dict[str, Any]]:
    if _data(line) not in ("", _DONE):
        yield _piece(line)


def _piece(line: bytes) -> dict[str, Any]:
    content = json.loads(_data(line) or "{}")  # noqa: TID251  # only what is checked is taken of it
    return content if isinstance(content, dict) else {}


def _choice(piece: dict[str, Any]) -> dict[str, Any]:
    choices = piece.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def _take_in(calls: dict[Any, dict[str, Any]], deltas: Any) -> None:
    """Append pieces of tool calls to their earlier pieces; some servers send whole calls."""
    for delta in deltas if isinstance(deltas, list) else []:
        if not isinstance(delta, dict):
            continue
        key = delta.get("index")
        if type(key) is not int:
            key = ("whole", len(calls))
        call = calls.setdefault(key, {"id": None, "function": {"name": "", "arguments": ""}})
        call["id"] = call["id"] or delta.get("id")
        function = delta.get("function")
        fields = function if isinstance(function, dict) else {}
        for name, kept in call["function"].items():
            more = fields.get(name)
            if isinstance(more, dict) and not kept:  # arguments that are not quoted
                call["function"][name] = more
            elif isinstance(more, str) and isinstance(kept, str):
                call["function"][name] = kept + more
