"""How long a trial may be silent before it counts as hanging; it ends nothing itself."""

import time
from collections.abc import Callable
from dataclasses import dataclass

FLOOR_S = 20.0
"""So long any trial may be silent [s]."""

START_S = 180.0
"""So long until its first report: a model is built, and much is loaded when first used [s]."""

_FACTOR = 3.0  # times the longest silence after which it went on


@dataclass
class _Watched:
    count: int
    heard: float
    longest: float = 0.0
    has_reported: bool = False


class Watch:
    """Remembers when each trial was heard of, and how long it is usually silent.

    Args:
        floor_s: Never call a shorter silence a hang [s].
        start_s: Nor a shorter one before its first report [s].
        clock: Seconds that only grow [s].

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
        """What a trial says of itself.

        Args:
            trial: Its name.
            count: Grows with each sign of life; 0 as long as there was none.

        Returns:
            Whether it is another one than before.
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
        """A trial has made an iteration: from now on it is expected to keep its pace."""
        if trial in self._watched:
            self._watched[trial].has_reported = True

    def silence(self, trial: str) -> float | None:
        """For how long a trial has been silent, if that is too long [s]."""
        if (known := self._watched.get(trial)) is None:
            return None
        silent = self._clock() - known.heard
        usual = max(self._floor_s, _FACTOR * known.longest)
        most = usual if known.has_reported else max(usual, self._start_s)
        return silent if silent > most else None

    def forget(self, trial: str) -> None:
        """It ended, or begins again."""
        self._watched.pop(trial, None)
