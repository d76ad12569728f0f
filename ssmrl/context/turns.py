"""In which order an iteration plays and learns, whoever plays and learns; it does neither."""

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
    """What the turns of an iteration were.

    Attributes:
        played: In each.
        statistics: Of the last updates; None where there were none yet.
        sample_seconds: Spent on play, and on keeping it [s].
        update_seconds: Spent on beginning updates and on waiting for them [s].
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
    """Play a turn and learn from it; or, with ``meta.lane_groups``, from the turn before beside it.

    In that case the updates are begun before the turn is played, with the weights of before them,
    and are waited for after it: what a device computes meanwhile takes no time of its own. The
    order is the same however long anything takes, so one seed gives one result. In the very first
    turn there is nothing to learn from.

    Args:
        meta: Says how many turns there are, and in which of the two ways they go.
        iteration: Counted from 0.
        acting: Copies the weights to act with.
        play: Plays a turn with these weights.
        keep: Keeps what was played.
        learn: Begins the updates of a turn with what is kept, and returns what waits for them and
            reads their statistics.
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
