"""What a model is asked and says: data without behaviour."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from tuning.table.field_types import TEXT, FieldType, check_fields, check_present, list_of, map_of

Message: TypeAlias = Mapping[str, Any]

MESSAGE_FIELDS = ("role", "content", "tool_calls", "tool_call_id", "name")
"""What of a message is sent."""

_TYPES: Mapping[str, FieldType] = {"text": TEXT, "tool_calls": list_of(map_of(TEXT))}


@dataclass(frozen=True)
class ToolCall:
    """A tool that the model wants called.

    Attributes:
        name: Of the tool, as the model wrote it.
        arguments: JSON of an object; ``"{"``, which nothing reads, if the model sent anything else.
        call_id: What the answer refers to.
    """

    name: str
    arguments: str
    call_id: str


@dataclass(frozen=True)
class Reply:
    """What a model said.

    Attributes:
        text: Never longer than ``agents.endpoint.MAX_TEXT_LENGTH``; may be empty.
        tool_calls: Of which there may be none.
        num_tokens: What the question and the answer took; estimated where the server is silent.
    """

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    num_tokens: int = 0

    def content(self) -> dict[str, Any]:
        """What a record of it holds, but for the tokens, which are in the budget."""
        return {"text": self.text, "tool_calls": [asdict(call) for call in self.tool_calls]}

    @classmethod
    def from_content(cls, content: Mapping[str, Any], num_tokens: int) -> "Reply":
        """The reply that a record holds.

        Raises:
            ValueError: If it is none.
        """
        check_present(content, *_TYPES)
        check_fields(content, _TYPES)
        try:
            calls = tuple(ToolCall(**call) for call in content["tool_calls"])
        except TypeError as error:
            raise ValueError(f"not a call of a tool: {error}") from None
        return cls(content["text"], calls, num_tokens)
