"""Reuses replies that an earlier process of the study received to the same questions."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from agents.ledger import Event, EventKind
from agents.reply import MESSAGE_FIELDS, Message, Reply
from ssmrl.strict_json import json_text
from tuning.table.field_types import COUNT, TEXT, FieldType, check_fields, check_present

REFUSES_TOOLS: Mapping[str, Any] = {"refuses_tools": True}
"""The kept reply of a server that refused tools, which is an answer, too."""

_TYPES: Mapping[str, FieldType] = {
    "round": COUNT,
    "who": TEXT,
    "position": COUNT,
    "digest": TEXT,
    "with_tools": FieldType("true or false", lambda value: isinstance(value, bool)),
    "model": TEXT,
}
_KEY = ("round", "who", "position", "digest")


class Kept(NamedTuple):
    """A reply from the ledger.

    Attributes:
        model: The model that gave it.
        reply: The reply; None if the server refused tools.
    """

    model: str
    reply: Reply | None


class KeptReplies:
    """The replies in a ledger, by the question that they answer.

    Two questions are the same if agent, round, number of earlier replies, messages and tools are
    equal. The model may differ: a kept reply stays valid when another model answers now.

    Args:
        events: Events of the ledger at the start of the process; records without a reply, such as
            those of older versions, are skipped.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._round, self._who, self._position = 0, "", 0
        self._takes_tools = True
        self._kept: dict[tuple[Any, ...], Kept] = {}
        self._began_with_tools: dict[tuple[int, str], bool] = {}
        for event in events:
            if event.kind is EventKind.SETTLED and "reply" in event.data:
                self._take(event.data["reply"], int(event.data["actual"]))

    @property
    def takes_tools(self) -> bool:
        """Whether tools may be called natively, according to the kept replies."""
        return self._takes_tools

    def begin(self, round: int, who: str) -> None:
        """Starts a conversation with one agent.

        Args:
            round: Round number in the study.
            who: The agent.
        """
        self._round, self._who, self._position = round, who, 0
        # A conversation keeps its first tool mode, since the other one would ask other questions.
        self._takes_tools = self._began_with_tools.get((round, who), self._takes_tools)

    def question(self, messages: Sequence[Message], tools: Sequence[Message]) -> dict[str, Any]:
        """The key of a question, which is stored with its reply.

        Args:
            messages: The conversation so far.
            tools: Schemas of the tools that may be called.
        """
        said = [{name: m[name] for name in MESSAGE_FIELDS if name in m} for m in messages]
        asked = json_text([said, list(tools)])
        return {
            "round": self._round,
            "who": self._who,
            "position": self._position,
            "digest": hashlib.sha256(asked.encode()).hexdigest(),
            "with_tools": bool(tools),
        }

    def find(self, question: Mapping[str, Any]) -> Kept | None:
        """The kept reply to a question, if the ledger has one."""
        found = self._kept.get(_key(question))
        if found is not None and found.reply is None:
            self._takes_tools = False
        return found

    def advance(self) -> None:
        """Counts one more reply of the conversation, from any source."""
        self._position += 1

    def _take(self, content: Any, num_tokens: int) -> None:
        try:
            check_present(content, *_TYPES)
            check_fields(content, _TYPES)
            has_words = "refuses_tools" not in content
            reply = Reply.from_content(content, num_tokens) if has_words else None
        except (ValueError, TypeError, AttributeError):
            return  # from another version: the question is asked again
        self._kept[_key(content)] = Kept(content["model"], reply)
        conversation = content["round"], content["who"]
        self._began_with_tools.setdefault(conversation, content["with_tools"])


def _key(question: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(question[name] for name in _KEY)
