"""How long a trial may be silent before it counts as hanging; this module kills nothing."""

import time
from collections.abc import Callable
from dataclasses import dataclass

FLOOR_S = 20.0
"""Silence that is never a hang [s]."""

START_S = 180.0
"""The same before the first report: models are built, and modules are loaded on first use [s]."""

_FACTOR = 3.0  # times the longest silence so far that was no hang


@dataclass
class _Watched:
    count: int
    heard: float
    longest: float = 0.0
    has_reported: bool = False


class Watch:
    """Records the last sign of life of each trial, and how long it is usually silent.

    Args:
        floor_s: Silence that is never a hang [s].
        start_s: The same before the first report of a trial [s].
        clock: Monotonic clock [s].

    Example:
        >>> now = [0.0]
        >>> watch = Watch(clock=lambda: now[0])
        >>> watch.hear("t0000", 1)
        True
        >>> watch.report("t0000")
        >>> now[0] = 19.0
        >>> watch.silence("t0000")
        >>> now[0] = 21.0
        >>> watch.silence("t0000")
        21.0
    """

    def __init__(
        self,
        *,
        floor_s: float = FLOOR_S,
        start_s: float = START_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._floor_s, self._start_s, self._clock = floor_s, start_s, clock
        self._watched: dict[str, _Watched] = {}

    def hear(self, trial: str, count: int) -> bool:
        """Record how many signs of life a trial has shown.

        Args:
            trial: Name of the trial.
            count: Count of its signs of life; 0 before the first.

        Returns:
            Whether the count has changed.
        """
        now, known = self._clock(), self._watched.get(trial)
        if known is None:
            self._watched[trial] = _Watched(count, now)
            return True
        if count == known.count:
            return False
        if known.has_reported:
            known.longest = max(known.longest, now - known.heard)
        known.count, known.heard = count, now
        return True

    def report(self, trial: str) -> None:
        """A trial finished an iteration: from now on it is expected to keep its pace."""
        if trial in self._watched:
            self._watched[trial].has_reported = True

    def silence(self, trial: str) -> float | None:
        """How long a trial has been silent [s]; None if that is not too long."""
        if (known := self._watched.get(trial)) is None:
            return None
        silent = self._clock() - known.heard
        usual = max(self._floor_s, _FACTOR * known.longest)
        most = usual if known.has_reported else max(usual, self._start_s)
        return silent if silent > most else None

    def forget(self, trial: str) -> None:
        """Forget a trial that ended or is restarted."""
        self._watched.pop(trial, None)
