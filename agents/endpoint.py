"""A client of one OpenAI-compatible server, with a bound on the time that is lost on it."""

import json
import math
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from agents.exchange import Exchange, ExchangeError, Response, Stream, check_url
from agents.kept_replies import REFUSES_TOOLS
from agents.ledger import BudgetError, Event, Reservation
from agents.reply import MESSAGE_FIELDS, Message, Reply, ToolCall
from agents.server_words import CutError, has_news, is_end, joined, words_of
from ssmrl.strict_json import json_text

DEFAULT_BASE_URL = "https://api.openai.com/v1"
MAX_TEXT_LENGTH = 65_536

_MAX_BYTES = 1 << 20
_STREAM = Stream(has_news, is_end, 16 * _MAX_BYTES)  # larger, since JSON wraps each token
_MAX_ATTEMPTS = 6
_MAX_TOOL_CALLS = 8
_MAX_ARGUMENTS_LENGTH = 8192
_MAX_DEPTH = 32
_MAX_KEY_LENGTH = 4096
_MIN_SECRET_LENGTH = 8  # shorter keys, such as "none" for local servers, are not secrets
_OF_TOOLS = (200, 400, 404, 422, 500, 501)  # statuses with which servers refuse tools
_RETRIED = frozenset({408, 409, 425, 429})
# Some servers put <think> into the prompt; a thought that was cut has no </think>.
_THOUGHT = re.compile(r"\A.*?</think>|\A\s*<think>.*\Z", re.DOTALL)


class EndpointDownError(RuntimeError):
    """The server is given up for the rest of this run; the message says why."""


class NoToolsError(RuntimeError):
    """The server does not take tool schemas; ask in plain text."""


class Meter(Protocol):
    """A budget that calls and tokens are reserved from before they are spent, such as a ledger."""

    @property
    def events(self) -> tuple[Event, ...]:
        """All recorded events, with the kept replies."""

    def reserve(self, kind: str, amount: float) -> Reservation:
        """Takes an amount from a budget; raises ``BudgetError`` if less is left."""

    def settle(
        self, reservation: Reservation, actual: float, reply: Mapping[str, Any] | None = None
    ) -> None:
        """Replaces a reservation by the amount spent, and stores the reply that it paid for."""


class Endpoint:
    """A model behind ``/chat/completions``, which is given up once too much time was lost on it.

    Answers are requested as streams. If the server streams, every new piece restarts the timeout,
    so such an answer may take as long as it needs.

    Failed attempts and the pauses after them count as lost time, answers never do. The endpoint is
    down for good after six failed attempts in a row, after ``study_patience_s`` of lost time, or
    after a refusal that a retry cannot fix.

    Args:
        model: Name of the model at the server.
        base_url: Base URL of the server, up to and including ``/v1``.
        key: Bearer token, sent to this server and shown nowhere; empty for none.
        patience_s: Maximum silence of the server within a reply [s].
        study_patience_s: Maximum time lost on the server in total; by default ``patience_s`` [s].
        max_tokens: Maximum length of a requested answer [tokens].
        report: Receives one sentence for each failed attempt.
        meter: Meter that each attempt reserves one call and its tokens from; None for no limit.

    Raises:
        ValueError: If a value is outside its range; the message never holds the key.
    """

    def __init__(
        self,
        model: str,
        base_url: str = DEFAULT_BASE_URL,
        *,
        key: str = "",
        patience_s: float = 60.0,
        study_patience_s: float | None = None,
        max_tokens: int = 4096,
        report: Callable[[str], None] | None = None,
        meter: Meter | None = None,
    ) -> None:
        if not model.strip() or not model.isprintable():
            raise ValueError(f"`model` must be a name, but got {model[:80]!r}")
        in_all_s = patience_s if study_patience_s is None else study_patience_s
        for name, seconds in {"patience_s": patience_s, "study_patience_s": in_all_s}.items():
            if not (math.isfinite(seconds) and seconds > 0):
                raise ValueError(f"`{name}` must be positive and finite, but got {seconds}")
        if max_tokens < 1:
            raise ValueError(f"`max_tokens` must be at least 1, but got {max_tokens}")
        self._key = _checked_key(key)
        self._url = check_url(base_url).rstrip("/") + "/chat/completions"
        self._model = model
        self._patience_s, self._in_all_s = patience_s, in_all_s
        self._max_tokens = max_tokens
        self._limit_name = "max_tokens"
        self._report = report or (lambda sentence: None)
        self._meter = meter
        self._lost_s = 0.0
        self._takes_tools = self._streams = self._counts_streams = True
        self._down = ""
        self._exchange: Exchange | None = None
        self._given_up = threading.Event()

    @property
    def model(self) -> str:
        """Name of the model."""
        return self._model

    @property
    def is_down(self) -> bool:
        """Whether the endpoint was given up."""
        return bool(self._down)

    @property
    def lost_s(self) -> float:
        """Time lost on the server so far [s]."""
        return self._lost_s

    @property
    def takes_tools(self) -> bool:
        """Whether the server takes tool schemas, as far as is known."""
        return self._takes_tools

    def complete(
        self,
        messages: Sequence[Message],
        tools: Sequence[Message] = (),
        question: Mapping[str, Any] | None = None,
    ) -> Reply:
        """The model's answer.

        Args:
            messages: The conversation so far, each with ``role`` and ``content``.
            tools: Schemas of the tools that the model may call.
            question: Key under which the meter stores the reply; None to store no reply.

        Raises:
            EndpointDownError: If the endpoint is down, or goes down now.
            NoToolsError: If the server says that it takes no tools.
            BudgetError: If the budget does not allow one more call.
        """
        for attempt in range(_MAX_ATTEMPTS):
            if self._down:
                break
            started = time.monotonic()
            try:
                return self._metered(messages, tools, question)
            except _AttemptError as error:
                self._lost_s += time.monotonic() - started
                self._report(self.redact(str(error)))
                self._pause_or_give_up(attempt, error)
        raise EndpointDownError(self.redact(self._down))

    def give_up(self, reason: str) -> None:
        """Stop using the server at once, for a given reason; callable from any thread."""
        self._down = self._down or reason
        self._given_up.set()
        if (exchange := self._exchange) is not None:
            exchange.abort()

    def redact(self, text: str) -> str:
        """The text without the key."""
        is_secret = len(self._key) >= _MIN_SECRET_LENGTH
        return text.replace(self._key, "***") if is_secret else text

    def _metered(
        self,
        messages: Sequence[Message],
        tools: Sequence[Message],
        question: Mapping[str, Any] | None,
    ) -> Reply:
        if self._meter is None:
            return self._attempt(messages, tools)
        num_asked = _estimated_tokens(messages, "")
        call = self._meter.reserve("calls", 1)
        try:
            tokens = self._meter.reserve("tokens", num_asked + self._max_tokens)
        except BudgetError:
            self._meter.settle(call, 0)
            raise
        self._meter.settle(call, 1)
        num_tokens = num_asked  # the estimate for a failed attempt
        said: Mapping[str, Any] = {}
        try:
            reply = self._attempt(messages, tools)
            num_tokens, said = reply.num_tokens, reply.content()
        except NoToolsError:
            said = REFUSES_TOOLS
            raise
        finally:  # one record for both, so that no paid reply is lost
            kept = {**question, "model": self._model, **said} if question and said else None
            self._meter.settle(tokens, num_tokens, kept)
        return reply

    def _attempt(self, messages: Sequence[Message], tools: Sequence[Message]) -> Reply:
        timeout_s = min(self._patience_s, self._in_all_s - self._lost_s)
        accepted = "application/json, text/event-stream"
        headers = {"Content-Type": "application/json", "Accept": accepted}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        body = self._body(messages, tools)
        self._exchange = Exchange(
            self._url, body, headers, timeout_s=timeout_s, max_bytes=_MAX_BYTES, stream=_STREAM
        )
        try:
            response = self._exchange.response()
        except ExchangeError as error:
            raise _AttemptError(str(error), is_final=self._given_up.is_set()) from None
        if response.status != 200:
            words = words_of(self.redact(response.body.decode("utf-8", "replace")))
            raise self._refusal(response.status, words, bool(tools), response.retry_after_s)
        return self._reply(response, messages, bool(tools))

    def _body(self, messages: Sequence[Message], tools: Sequence[Message]) -> bytes:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [
                {name: message[name] for name in MESSAGE_FIELDS if name in message}
                for message in messages
            ],
            self._limit_name: self._max_tokens,
        }
        if self._streams:
            body["stream"] = True
            if self._counts_streams:
                body["stream_options"] = {"include_usage": True}
        if tools:
            body["tools"] = [_lenient(tool) for tool in tools]
        return json_text(body).encode()

    def _refusal(
        self, status: int, words: str, with_tools: bool, retry_after_s: float | None = None
    ) -> Exception:
        """The error for a server's refusal; status 200 means an error object in the answer."""
        said = f"the server answered {status}" if status != 200 else "the server answered an error"
        lowered = words.lower()
        if status in (400, 422) and (learnt := self._learnt(lowered)):
            return _AttemptError(learnt, pause_s=0.0)
        if with_tools and status in _OF_TOOLS and "tool" in lowered:
            self._takes_tools = False
            return NoToolsError(f"{said} to tool schemas")
        if status in (401, 403):  # their texts quote the key, whole or in part
            return _AttemptError(f"{said}: check the key", is_final=True)
        said = f"{said}: {words}" if words else said
        if status in _RETRIED or status >= 500 or status == 200:
            return _AttemptError(said, pause_s=retry_after_s)
        return _AttemptError(said + self._hint(), is_final=True)

    def _learnt(self, words: str) -> str:
        """Adapts the request format to the server's complaint; empty if nothing new was learnt."""
        if self._limit_name == "max_tokens" and "max_completion_tok" in words:
            self._limit_name = "max_completion_tokens"
            return "the server wants `max_completion_tokens`"
        if self._streams and self._counts_streams and "stream_options" in words:
            self._counts_streams = False
            return "the server takes no `stream_options`"
        if self._streams and "stream" in words:
            self._streams = False
            return "the server does not stream"
        return ""

    def _hint(self) -> str:
        """A hint about the base URL, for when the answer does not come from a model."""
        base = self._url.removesuffix("/chat/completions")
        if base.endswith("/v1"):
            return ""
        return "; most servers answer below /v1: try a `--base-url` that ends in it"

    def _reply(self, response: Response, messages: Sequence[Message], with_tools: bool) -> Reply:
        try:
            data = (
                joined(response.body) if response.is_stream else json.loads(response.body)  # noqa: TID251  # only what is checked is taken
            )
            if isinstance(data, dict) and data.get("error") and "choices" not in data:
                raise self._refusal(200, words_of(self.redact(json_text(data))), with_tools)
            message = data["choices"][0]["message"]
            content, calls = message.get("content"), message.get("tool_calls")
        except CutError as error:
            raise _AttemptError(str(error)) from None
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
            said = "the answer was cut, or is not a chat completion"
            raise _AttemptError(said + self._hint()) from None
        text = self.redact(_THOUGHT.sub("", content, count=1)) if isinstance(content, str) else ""
        if len(text) > MAX_TEXT_LENGTH:
            raise _AttemptError(f"the answer of {len(text)} characters is too long")
        tool_calls = [
            _tool_call(call, number, self.redact)
            for number, call in enumerate(calls if isinstance(calls, list) else [])
        ]
        num_tokens = _num_tokens(data.get("usage"), messages, text)
        return Reply(text, tuple(tool_calls[:_MAX_TOOL_CALLS]), num_tokens)

    def _pause_or_give_up(self, attempt: int, error: "_AttemptError") -> None:
        left_s = self._in_all_s - self._lost_s
        doubling_s = min(1.0, self._in_all_s / 60) * 2**attempt
        pause_s = doubling_s if error.pause_s is None else error.pause_s
        if error.is_final:
            self._down = self._down or str(error)
        elif attempt == _MAX_ATTEMPTS - 1:
            self._down = f"{error}; {_MAX_ATTEMPTS} attempts in a row failed"
        elif pause_s >= left_s:
            self._down = (
                f"{error}; the {self._in_all_s:g} s for waiting are used up; give a slow server a "
                "larger `--patience`"
            )
        else:
            self._given_up.wait(pause_s)
            self._lost_s += pause_s


class _AttemptError(Exception):
    """One attempt failed."""

    def __init__(
        self, sentence: str, *, pause_s: float | None = None, is_final: bool = False
    ) -> None:
        super().__init__(sentence)
        self.pause_s = pause_s
        self.is_final = is_final


def _checked_key(key: str) -> str:
    key = key.strip()
    if len(key) > _MAX_KEY_LENGTH or not all("!" <= letter <= "~" for letter in key):
        # The value is left out: this message may be printed.
        raise ValueError("the key must be printable ASCII without spaces; check its variable.")
    return key


def _lenient(tool: Message) -> dict[str, Any]:
    """The schema without ``strict``, which some servers refuse; arguments are checked here."""
    function = {name: value for name, value in tool["function"].items() if name != "strict"}
    return {"type": "function", "function": function}


def _tool_call(call: Any, number: int, redact: Callable[[str], str]) -> ToolCall:
    function = call.get("function") if isinstance(call, dict) else None
    fields = function if isinstance(function, dict) else {}
    name, arguments = fields.get("name"), fields.get("arguments")
    call_id = call.get("id") if isinstance(call, dict) else None
    return ToolCall(
        redact(name[:64]) if isinstance(name, str) else "unknown",
        redact(_arguments(arguments)),
        redact(call_id[:64]) if isinstance(call_id, str) and call_id else f"call_{number}",
    )


def _arguments(arguments: Any) -> str:
    if isinstance(arguments, dict):  # as some servers send them
        arguments = json.dumps(arguments)  # noqa: TID251  # foreign; the tool checks it
    if not isinstance(arguments, str) or len(arguments) > _MAX_ARGUMENTS_LENGTH:
        return "{"
    if arguments.count("{") + arguments.count("[") > _MAX_DEPTH * 8 or not arguments.strip():
        return "{}" if not arguments.strip() else "{"
    try:
        is_object = isinstance(json.loads(arguments), dict)  # noqa: TID251  # as above
        return arguments if is_object else "{"
    except (ValueError, RecursionError):
        return "{"


def _num_tokens(usage: Any, messages: Sequence[Message], text: str) -> int:
    total = usage.get("total_tokens") if isinstance(usage, dict) else None
    if type(total) is int and 0 < total <= 10_000_000:
        return total
    return _estimated_tokens(messages, text)


def _estimated_tokens(messages: Sequence[Message], text: str) -> int:
    return (sum(len(str(message.get("content"))) for message in messages) + len(text)) // 4 + 1
