"""Messages to a model and its replies: data without behaviour."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from tuning.table.field_types import TEXT, FieldType, check_fields, check_present, list_of, map_of

Message: TypeAlias = Mapping[str, Any]

MESSAGE_FIELDS = ("role", "content", "tool_calls", "tool_call_id", "name")
"""The fields of a message that are sent."""

_TYPES: Mapping[str, FieldType] = {"text": TEXT, "tool_calls": list_of(map_of(TEXT))}


@dataclass(frozen=True)
class ToolCall:
    """A tool that the model wants called.

    Attributes:
        name: Name of the tool, as the model wrote it.
        arguments: JSON of an object; the invalid ``"{"`` if the model sent anything else.
        call_id: Id by which the tool's answer refers to the call.
    """

    name: str
    arguments: str
    call_id: str


@dataclass(frozen=True)
class Reply:
    """A model's reply.

    Attributes:
        text: The text, at most ``agents.endpoint.MAX_TEXT_LENGTH`` characters; may be empty.
        tool_calls: The tool calls; may be empty.
        num_tokens: Tokens of question and answer; estimated if the server does not count them.
    """

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    num_tokens: int = 0

    def content(self) -> dict[str, Any]:
        """The content of its record, without the tokens, which the budget's line has."""
        return {"text": self.text, "tool_calls": [asdict(call) for call in self.tool_calls]}

    @classmethod
    def from_content(cls, content: Mapping[str, Any], num_tokens: int) -> "Reply":
        """The reply in a record's content.

        Raises:
            ValueError: If the content is not a reply.
        """
        check_present(content, *_TYPES)
        check_fields(content, _TYPES)
        try:
            calls = tuple(ToolCall(**call) for call in content["tool_calls"])
        except TypeError as error:
            raise ValueError(f"not a tool call: {error}") from None
        return cls(content["text"], calls, num_tokens)
