"""Answers for the crew: from a model behind an endpoint, or offline from statistics alone."""

import atexit
import functools
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from agents.endpoint import (
    DEFAULT_BASE_URL,
    Endpoint,
    EndpointDownError,
    Meter,
    NoToolsError,
)
from agents.kept_replies import KeptReplies
from agents.ledger import BudgetError, EventKind
from agents.offline import offline_reply
from agents.plain_text import plain_reply
from agents.reply import Message, Reply, ToolCall

if TYPE_CHECKING:
    from crewai import BaseLLM, Task
    from crewai.agents.agent_builder.base_agent import BaseAgent
    from crewai.tools.base_tool import BaseTool
    from crewai.utilities.types import LLMMessage
    from pydantic import BaseModel

OFFLINE = "offline"
KEY_VARIABLES = ("SSMRL_API_KEY", "OPENAI_API_KEY")

_QUIET = {
    # Telemetry would connect, wait ten seconds without a network, and handle SIGINT and SIGTERM.
    # OTEL_SDK_DISABLED would also silence Ray, whose workers inherit this environment.
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_DISABLE_TRACKING": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "CREWAI_DISABLE_VERSION_CHECK": "true",
}
_CONTEXT_LENGTH = 131_072
_NO_WORDS = "(an answer without words)"  # CrewAI gives up on an empty one


class Say(Protocol):
    """Receives progress events, like a ledger's ``record``."""

    def __call__(
        self,
        kind: EventKind,
        text: str = "",
        *,
        who: str = "",
        data: Mapping[str, Any] | None = None,
    ) -> object:
        """Receives one event."""


def say_nothing(
    kind: EventKind, text: str = "", *, who: str = "", data: Mapping[str, Any] | None = None
) -> None:
    """Ignores the event."""


class Brain:
    """Answers for the agents: by the endpoint while it is up and within budget, else offline.

    Args:
        endpoint: The model; None for the offline brain, which answers from the statistics.
        say: Receives an event when the endpoint is given up.
        native_tools: Whether the offline brain calls tools natively, or in plain text.
        kept: Replies received before; their questions are not asked again.
    """

    def __init__(
        self,
        endpoint: Endpoint | None = None,
        *,
        say: Say = say_nothing,
        native_tools: bool = True,
        kept: KeptReplies | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._kept = kept or KeptReplies()
        self._say = say
        self._native_tools = native_tools
        self._speaker = OFFLINE
        self._is_interrupted = False

    @property
    def name(self) -> str:
        """Name of the configured brain: ``offline``, or the name of the model."""
        return OFFLINE if self._endpoint is None else self._endpoint.model

    @property
    def speaker(self) -> str:
        """The source of the last answer: ``offline``, or the name of the model."""
        return self._speaker

    @property
    def takes_tools(self) -> bool:
        """Whether tools are called natively, or else in plain text (``Action:`` and so on)."""
        takes = self._native_tools if self._endpoint is None else self._endpoint.takes_tools
        return takes and self._kept.takes_tools

    def begin(self, round: int, who: str) -> None:
        """Starts the conversation of one agent in one round of a study."""
        self._kept.begin(round, who)

    def interrupt(self) -> None:
        """Stop answering; callable from any thread. A waiting caller gets an error at once."""
        self._is_interrupted = True
        if self._endpoint is not None:
            self._endpoint.give_up("interrupted")

    def redact(self, text: str) -> str:
        """The text without the endpoint's key."""
        return text if self._endpoint is None else self._endpoint.redact(text)

    def answer(self, messages: Sequence[Message], tools: Sequence[Message] = ()) -> Reply:
        """The agent's next reply.

        Args:
            messages: The conversation of one agent so far.
            tools: Schemas of its tools; empty if tools are called in plain text.

        Raises:
            NoToolsError: If the endpoint refuses tools, or a kept reply says that it did.
            RuntimeError: If ``interrupt`` was called.
        """
        question = self._kept.question(messages, tools)
        if (kept := self._kept.find(question)) is not None:
            if kept.reply is None:
                raise NoToolsError(f"{kept.model} did not take tool schemas")
            self._speaker, reply = kept.model, kept.reply
        else:
            reply = self._new_answer(messages, tools, question)
        self._kept.advance()
        return reply

    def _new_answer(
        self, messages: Sequence[Message], tools: Sequence[Message], question: Mapping[str, Any]
    ) -> Reply:
        """The reply to a question that has no kept reply."""
        endpoint = self._endpoint
        if endpoint is not None and not endpoint.is_down:
            try:
                reply = endpoint.complete(messages, tools, question)
            except (EndpointDownError, BudgetError) as error:
                endpoint.give_up(str(error))
                if not self._is_interrupted:
                    words = f"on the offline brain: {error}"
                    self._say(EventKind.FELL_BACK, words, who=endpoint.model)
            else:
                self._speaker = endpoint.model
                return reply
        if self._is_interrupted:
            raise RuntimeError("the study was interrupted")
        self._speaker = OFFLINE
        return offline_reply(messages, tools)

    def to_llm(self) -> "BaseLLM":
        """The brain behind CrewAI's model interface; imports CrewAI, silenced."""
        quieten_crewai()
        llm = _llm_class()(model=self.name)
        llm.bind(self)
        return llm  # type: ignore[no-any-return]


def make_brain(
    model: str | None = None,
    base_url: str | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    patience_s: float = 60.0,
    study_patience_s: float | None = None,
    say: Say = say_nothing,
    meter: Meter | None = None,
) -> Brain:
    """The brain of a study: a model at any OpenAI-compatible endpoint, or offline without one.

    The key comes from the environment variable ``SSMRL_API_KEY``. If it is missing, OpenAI itself,
    and no other server, gets ``OPENAI_API_KEY``, so no server gets another one's key. Servers on
    the same machine need none:

    ========= =================================== ===========================
    server    ``base_url``                        ``model``
    ========= =================================== ===========================
    Ollama    ``http://127.0.0.1:11434/v1``       as ``ollama list`` names it
    vLLM      ``http://127.0.0.1:8000/v1``        as given to ``vllm serve``
    llama.cpp ``http://127.0.0.1:8080/v1``        any
    OpenAI    left out                            as in its documentation
    others    as in their documentation           as in their documentation
    ========= =================================== ===========================

    Args:
        model: Name of the model at the server; None for the offline brain.
        base_url: Base URL of the server; OpenAI's by default.
        environ: Environment variables with the key.
        patience_s: Maximum silence of the server within a reply [s]; each new piece of a stream
            restarts it. A slow machine needs more time before the first piece.
        study_patience_s: Maximum time lost on the server over the whole study; by default
            ``patience_s`` [s].
        say: Receives events about failed attempts and about giving up the endpoint.
        meter: Meter that calls and tokens are reserved from; it also supplies the kept replies.

    Raises:
        ValueError: If there is a ``base_url`` without a model, or a value is malformed.
    """
    kept = KeptReplies(() if meter is None else meter.events)
    if model is None:
        if base_url is not None:
            raise ValueError("a base URL needs a model to ask for; give `--model` too, or neither.")
        return Brain(kept=kept)
    url = base_url or DEFAULT_BASE_URL

    def report(sentence: str) -> None:
        say(EventKind.NOTED, f"the endpoint failed: {sentence}", who=model)

    endpoint = Endpoint(
        model,
        url,
        key=_key(url, environ),
        patience_s=patience_s,
        study_patience_s=study_patience_s,
        report=report,
        meter=meter,
    )
    return Brain(endpoint, say=say, kept=kept)


def quieten_crewai() -> None:
    """Ensure that CrewAI, once imported, connects nowhere, handles no signals and leaves no files.

    Its database of the last answers goes to a temporary folder, which is deleted when the process
    ends, unless ``CREWAI_STORAGE_DIR`` names one.
    """
    os.environ.update(_QUIET)
    # Every error that CrewAI logs is also raised, and the caller reports it.
    logging.getLogger("crewai").setLevel(logging.CRITICAL)
    if "CREWAI_STORAGE_DIR" not in os.environ:
        folder = tempfile.mkdtemp(prefix="ssmrl-crew-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["CREWAI_STORAGE_DIR"] = folder


def _key(url: str, environ: Mapping[str, str]) -> str:
    own, openai = (environ.get(name, "") for name in KEY_VARIABLES)
    is_openai = urlsplit(url).hostname == urlsplit(DEFAULT_BASE_URL).hostname
    return own or (openai if is_openai else "")


@functools.cache
def _llm_class() -> Any:
    """Defines the class only on use: importing its base class takes seconds."""
    from crewai import BaseLLM
    from pydantic import PrivateAttr

    class BrainLLM(BaseLLM):
        """A brain behind CrewAI's model interface."""

        _brain: Brain = PrivateAttr()

        def bind(self, brain: Brain) -> None:
            self._brain = brain

        def call(
            self,
            messages: "str | list[LLMMessage]",
            tools: "list[dict[str, BaseTool]] | None" = None,
            callbacks: list[Any] | None = None,
            available_functions: dict[str, Any] | None = None,
            from_task: "Task | None" = None,
            from_agent: "BaseAgent | None" = None,
            response_model: "type[BaseModel] | None" = None,
        ) -> Any:
            said = (
                [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
            )
            try:
                reply = self._brain.answer(said, tools or [])
            except NoToolsError as error:
                # CrewAI recognises these words, and continues in plain text.
                raise RuntimeError(f"the model does not support tools: {error}") from None
            if reply.tool_calls and tools:
                return [_openai_call(call) for call in reply.tool_calls]
            text = reply.text.strip() or _NO_WORDS
            return text if tools else plain_reply(text)

        def supports_function_calling(self) -> bool:
            return self._brain.takes_tools

        def get_context_window_size(self) -> int:
            return _CONTEXT_LENGTH

        def get_input_tokens_count(
            self,
            messages: "str | list[LLMMessage]",
            tools: "list[dict[str, BaseTool]] | None" = None,
            response_model: "type[BaseModel] | None" = None,
        ) -> int:
            return len(str(messages)) // 4  # CrewAI's own estimate warns on every call

    return BrainLLM


def _openai_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.call_id, "type": "function", "function": function}
