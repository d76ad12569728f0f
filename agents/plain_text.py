"""Rewrites a model's plain-text reply into a form that CrewAI parses fast; ignores its meaning.

CrewAI finds the parts of ``Thought / Action / Action Input / Final Answer`` by expressions whose
time grows with the cube of a run of blanks: two thousand of them take five seconds. So no foreign
text reaches them unchanged.
"""

import json
import re
from typing import Any

_ANSWER = "Final Answer:"
_ACTION = re.compile(r"Action: ?[*`\"]{0,4}(\w{1,64})")
_INPUT = "Action Input:"
_MAX_INPUT_LENGTH = 8192
_MAX_BRACKETS = 256


def plain_reply(text: str) -> str:
    r"""The reply as either one call of a tool or a final answer, in CrewAI's words.

    Text after ``Observation:`` is left out, since the model made it up. A text that is neither is
    taken as a final answer, which the caller may refuse.

    Example:
        >>> plain_reply("I ask.\nAction: cost\nAction Input: {}\nObservation: 3 s")
        'Thought: I ask a tool.\nAction: cost\nAction Input: {}'
        >>> plain_reply("Yes.")
        'Thought: I know.\nFinal Answer: Yes.'
    """
    text = text.split("\nObservation:", 1)[0]
    before, mark, answer = text.rpartition(_ANSWER)
    if not mark:
        before, mark, arguments = text.partition(_INPUT)
        action = _ACTION.search(before)
        if mark and action is not None:
            return (
                f"Thought: I ask a tool.\nAction: {action.group(1)}\n{_INPUT} {_object(arguments)}"
            )
        answer = text
    # CrewAI only starts its search if it finds the word "Action".
    return f"Thought: I know.\n{_ANSWER} {answer.strip().replace('Action', 'action')}"


def _object(text: str) -> str:
    """The first JSON object in a text; an empty one if none is readable."""
    text = text[:_MAX_INPUT_LENGTH]
    start = text.find("{")
    if start < 0 or text.count("{") + text.count("[") > _MAX_BRACKETS:
        return "{}"
    try:
        value: Any = json.JSONDecoder().raw_decode(text[start:])[0]
    except ValueError:
        return "{}"
    text = json.dumps(value)  # noqa: TID251  # the model's own words; the tool checks them
    return text.replace("Action", "action")
