"""Who answers the crew: a model behind an endpoint, or the statistics alone; not what is asked."""

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
    # Telemetry would connect, wait ten seconds without a network, and take over SIGINT and SIGTERM.
    # OTEL_SDK_DISABLED would also silence Ray, which starts its workers with this environment.
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_DISABLE_TRACKING": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "CREWAI_DISABLE_VERSION_CHECK": "true",
}
_CONTEXT_LENGTH = 131_072
_NO_WORDS = "(an answer without words)"  # CrewAI gives up on an empty one


class Say(Protocol):
    """Is told what happens while it happens, such as a ledger with its ``record``."""

    def __call__(
        self,
        kind: EventKind,
        text: str = "",
        *,
        who: str = "",
        data: Mapping[str, Any] | None = None,
    ) -> object:
        """Something happened."""


def say_nothing(
    kind: EventKind, text: str = "", *, who: str = "", data: Mapping[str, Any] | None = None
) -> None:
    """Nobody is told."""


class Brain:
    """Answers for the agents: by the endpoint while it is up and paid for, else offline.

    Args:
        endpoint: The model; None for the offline brain, which answers from the statistics.
        say: Is told when the endpoint is given up.
        native_tools: Whether the offline brain calls tools natively, or in plain text.
        kept: Replies that were received before; what they answer, nobody is asked again.
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
        """Who is meant to answer: ``offline``, or the name of the model."""
        return OFFLINE if self._endpoint is None else self._endpoint.model

    @property
    def speaker(self) -> str:
        """Who gave the last answer: ``offline``, or the name of the model."""
        return self._speaker

    @property
    def takes_tools(self) -> bool:
        """Whether tools are called natively; otherwise in the words ``Action:`` and so on."""
        takes = self._native_tools if self._endpoint is None else self._endpoint.takes_tools
        return takes and self._kept.takes_tools

    def begin(self, round: int, who: str) -> None:
        """The next answers are those of one agent in one round of a study."""
        self._kept.begin(round, who)

    def interrupt(self) -> None:
        """Answer no more, from another thread; what waits for an answer gets an error at once."""
        self._is_interrupted = True
        if self._endpoint is not None:
            self._endpoint.give_up("interrupted")

    def redact(self, text: str) -> str:
        """The text without the endpoint's key."""
        return text if self._endpoint is None else self._endpoint.redact(text)

    def answer(self, messages: Sequence[Message], tools: Sequence[Message] = ()) -> Reply:
        """What the agent says next.

        Args:
            messages: The conversation of one agent so far.
            tools: Schemas of its tools; none where tools are called in plain text.

        Raises:
            NoToolsError: If the endpoint turns out not to take tools, or did so before.
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
        """What is said to a question that was never answered."""
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
        """The brain as CrewAI knows models; imports CrewAI, silenced."""
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
    """The brain of a study: of a model at any OpenAI-compatible endpoint, or offline without one.

    The key comes from the environment variable ``SSMRL_API_KEY``. For OpenAI itself, and nowhere
    else, ``OPENAI_API_KEY`` is taken in its absence: a key is not sent to a place that it was not
    made for. Servers on one's own machine need none:

    ========= =================================== ===========================
    server    ``base_url``                        ``model``
    ========= =================================== ===========================
    Ollama    ``http://127.0.0.1:11434/v1``       as ``ollama list`` names it
    vLLM      ``http://127.0.0.1:8000/v1``        as ``vllm serve`` was told
    llama.cpp ``http://127.0.0.1:8080/v1``        any
    OpenAI    left out                            as in its documentation
    others    as in their documentation           as in their documentation
    ========= =================================== ===========================

    Args:
        model: Name of the model at the server; None for the offline brain.
        base_url: Of the server; OpenAI's by default.
        environ: Where the key is.
        patience_s: How long the server may be silent while it owes an answer [s]; each new piece
            of one that streams counts as life. A slow machine needs more before the first.
        study_patience_s: Time that may be lost on the server over the whole study; as much if left
            out [s].
        say: Is told of each failed attempt, and when the endpoint is given up.
        meter: Calls and tokens are reserved from it, and what it has replies to is not asked again.

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
    """See that CrewAI, once imported, connects nowhere, takes no signal, and stores nothing here.

    It keeps the last answers of every crew in a database. That goes to a folder which is deleted
    when the process ends, unless ``CREWAI_STORAGE_DIR`` names one.
    """
    os.environ.update(_QUIET)
    # What it logs as an error it also raises, and the caller reports it.
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
    """Made late: its parent's module takes seconds to import."""
    from crewai import BaseLLM
    from pydantic import PrivateAttr

    class BrainLLM(BaseLLM):
        """A brain behind CrewAI's interface of a model."""

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
                # The words by which CrewAI knows to go on in plain text.
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
            return len(str(messages)) // 4  # CrewAI's own estimate comes with a warning each time

    return BrainLLM


def _openai_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.call_id, "type": "function", "function": function}
