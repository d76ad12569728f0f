"""A planned point of a sweep, as opposed to one that a searcher chose."""

from collections.abc import Mapping
from dataclasses import dataclass

from ssmrl.config import KnobValue
from tuning.table.trial import Trial


@dataclass(frozen=True)
class PlannedPoint:
    """A point that is tried before any that the searcher chooses.

    Attributes:
        knobs: The searched knobs.
        seed: Training seed; None for the sweep's own.
        outside: Whether it may lie outside of the round's space.
    """

    knobs: Mapping[str, KnobValue]
    seed: int | None = None
    outside: bool = False

    def made(self, row: Trial) -> bool:
        """Whether a row has this point and this seed."""
        return row.knobs == self.knobs and self.seed in {None, *row.seeds[:1]}
