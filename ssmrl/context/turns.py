"""Order of collection and updates within an iteration; callers supply both as functions."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ssmrl.context.settings import ContextSettings

Weights = TypeVar("Weights")
Part = TypeVar("Part")
Statistics = TypeVar("Statistics")
Found = TypeVar("Found")


@dataclass(frozen=True)
class Turns(Generic[Part, Statistics]):
    """Result of an iteration's turns.

    Attributes:
        played: Rollouts of each turn.
        statistics: Statistics of the last updates; None if there were none yet.
        sample_seconds: Time spent on collecting and storing rollouts [s].
        update_seconds: Time spent on starting updates and waiting for them [s].
    """

    played: list[Part]
    statistics: Statistics | None
    sample_seconds: float
    update_seconds: float


def take_turns(
    meta: ContextSettings,
    iteration: int,
    *,
    acting: Callable[[], Weights],
    play: Callable[[int, Weights], Part],
    keep: Callable[[Part], None],
    learn: Callable[[int], Callable[[], Statistics]],
) -> Turns[Part, Statistics]:
    """Collect each turn and learn after it; with ``meta.lane_groups``, learn while collecting.

    In the second case, updates on earlier turns start before a turn is collected and are awaited
    after it, so a device computes them meanwhile. The turn acts with the weights from before them.
    The order does not depend on timing, so one seed gives one result. The very first turn has
    nothing to learn from.

    Args:
        meta: Settings with the number of turns and the order.
        iteration: Iteration number, counted from 0.
        acting: Function that copies the weights to act with.
        play: Function that collects a turn with these weights.
        keep: Function that stores a turn.
        learn: Function that starts the updates of a turn on the stored data. It returns a function
            that waits for them and reads their statistics.
    """
    seconds = {"sample": 0.0, "update": 0.0}

    def timed(kind: str, work: Callable[..., Found], *given: Any) -> Found:
        started = time.perf_counter()
        found = work(*given)
        seconds[kind] += time.perf_counter() - started
        return found

    played: list[Part] = []
    statistics: Statistics | None = None
    for turn in range(meta.num_turns):
        weights = timed("sample", acting)
        is_beside = meta.lane_groups > 0 and (iteration > 0 or turn > 0)
        read = timed("update", learn, turn) if is_beside else None
        played.append(timed("sample", play, turn, weights))
        if read is not None:
            statistics = timed("update", read)
        timed("sample", keep, played[-1])
        if not meta.lane_groups:
            statistics = timed("update", timed("update", learn, turn))
    return Turns(played, statistics, seconds["sample"], seconds["update"])
