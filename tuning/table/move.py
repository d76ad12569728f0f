"""One change of one range between two rounds, with its reason; ``tuning.box`` decides on it."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

from ssmrl.strict_json import json_text, json_value
from tuning.spaces.ranges import Range, range_fields, range_from
from tuning.table.field_types import TEXT, check_fields, list_of

_TYPES = {"knob": TEXT, "kind": TEXT, "statistic": TEXT, "trial_ids": list_of(TEXT)}

MOVE_KINDS = ("expand", "narrow", "cut", "drop")


@dataclass(frozen=True)
class Move:
    """One change of one range, and why.

    Attributes:
        knob: The knob with this range.
        old: The range before this move; a knob's second move begins where its first ended.
        new: The range after it.
        kind: One of ``MOVE_KINDS``: ``expand`` adds values; ``narrow`` removes a corner with worse
            scores, ``cut`` a corner with failing trials, ``drop`` a level.
        statistic: The reason, as a clause with its numbers.
        trial_ids: The trials that the statistic was computed from.

    Raises:
        ValueError: If the kind is not known.
    """

    knob: str
    old: Range
    new: Range
    kind: str
    statistic: str
    trial_ids: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "trial_ids", tuple(self.trial_ids))
        if self.kind not in MOVE_KINDS:
            raise ValueError(f"`kind` must be one of {list(MOVE_KINDS)}, but got {self.kind!r}")

    def to_json(self) -> str:
        """The move as one line of JSON."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return json_text(fields | {"old": range_fields(self.old), "new": range_fields(self.new)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of ``to_json``.

        Raises:
            ValueError: If the text is not a move.
        """
        fields: Any = json_value(text, "a move")
        try:
            check_fields(fields, _TYPES)
            ends = {name: range_from(fields["knob"], fields[name]) for name in ("old", "new")}
            return cls(**{**fields, **ends})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a move: {error!r}") from None
