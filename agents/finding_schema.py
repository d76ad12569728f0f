"""The JSON schema of a finding, as shown to the model; ``findings.py`` checks the reply."""

from collections.abc import Mapping
from typing import Any

from agents.findings import MAX_TEXT_LENGTH, Author, Decision, Direction, may_change
from tuning.spaces.space import SearchSpace


def finding_schema(author: str, space: SearchSpace) -> dict[str, Any]:
    """The JSON schema of a reply, as shown to the model; ``parse_finding`` is stricter.

    Args:
        author: The agent that is asked.
        space: The current space; only its knobs are offered.
    """
    author = Author(author)
    knobs = [knob for knob in space.ranges if may_change(author, knob)]
    number = {"type": "number"}
    changes = {
        "knob": {"enum": knobs},
        "low": number,
        "high": number,
        "options": {"type": "array"},
    }
    expectation = {
        "knob": {"enum": knobs},
        "side": {"type": "string", "description": "low, high, or an option of a choice"},
        "direction": {"enum": [direction.value for direction in Direction]},
    }
    text = {"type": "string", "maxLength": MAX_TEXT_LENGTH}
    properties: dict[str, Any] = {
        "hypothesis": text,
        "expected_effect": text,
        "expectation": _object_schema(expectation, tuple(expectation)),
        "changes": {"type": "array", "items": _object_schema(changes, ("knob",))},
        "trial_ids": {"type": "array", "items": {"type": "string"}, "minItems": 1},
    }
    if author is Author.COORDINATOR:
        properties["decision"] = {"enum": [decision.value for decision in Decision]}
        properties["num_trials"] = {"type": "integer", "minimum": 0}
    return _object_schema(properties, tuple(properties))


def _object_schema(properties: Mapping[str, Any], required: tuple[str, ...]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }
