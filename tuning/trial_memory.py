"""The memory that a trial needs by its sizes: reserved, refused, or no longer tried.

What any Python process takes beside that is left out.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import Any

from ssmrl.config import KnobValue, TrainConfig
from tuning.spaces.ranges import Choice
from tuning.spaces.space import SearchSpace
from tuning.table.trial import Trial, TrialState

NUM_LOST = 2
"""Number of out-of-memory trials after which their part of the space is avoided."""

_FITTED = (TrialState.COMPLETE, TrialState.PRUNED)
_MOST_CORNERS = 64
_DIGITS = 2  # binary digits kept of a request: trials with equal requests share an actor


def trial_need(base: TrainConfig, point: Mapping[str, KnobValue], num_seeds: int = 1) -> int:
    """Memory that a trial needs by its sizes [bytes]; 0 if networks of these sizes cannot exist.

    Then the trial itself fails, with its own message, and does not end its siblings.

    Args:
        base: Configuration that the point changes.
        point: Point of the trial.
        num_seeds: Seeds that train side by side.
    """
    from ssmrl.memory_need import memory_need  # torch, which --help need not wait for

    try:
        return memory_need(base.with_knobs(point)).total * num_seeds
    except (ValueError, RuntimeError):  # RuntimeError: more numbers than torch can count
        return 0


def largest_need(space: SearchSpace, num_seeds: int = 1) -> int:
    """Memory that the largest point of a space needs [bytes]; 0 if it has too many corners.

    Args:
        space: Search space; the need grows with each of its numbers.
        num_seeds: Seeds that train side by side.
    """
    ends = [
        a_range.options if isinstance(a_range, Choice) else (a_range.high,)
        for a_range in space.ranges.values()
    ]
    if math.prod(len(values) for values in ends) > _MOST_CORNERS:
        return 0
    corners = (dict(zip(space.ranges, values, strict=True)) for values in product(*ends))
    return max(trial_need(space.base, corner, num_seeds) for corner in corners)


def asked_of_ray(need: int, most: int | None) -> int:
    """The memory that a trial requests from Ray [bytes].

    The need is rounded up by less than half, so that trials of nearly the same size have the same
    request and reuse a process. It is never more than ``most``, for which Ray would wait in vain:
    such a trial starts, and is refused there with the sum.

    Args:
        need: Need of the trial [bytes].
        most: Memory of the largest machine [bytes]; None if unknown.

    Example:
        >>> asked_of_ray(1000, None), asked_of_ray(1000, 900)
        (1024, 900)
    """
    step = 1 << max(0, need.bit_length() - _DIGITS)
    rounded = -(-need // step) * step
    return rounded if most is None else min(rounded, most)


def too_large(config: TrainConfig, num_seeds: int, available: int | None) -> str:
    """Why a trial should not start, with the sum; empty if it may.

    Args:
        config: Configuration of each seed.
        num_seeds: Seeds that train side by side.
        available: Available memory [bytes]; None if unknown.
    """
    from ssmrl.memory_need import memory_need

    need = memory_need(config)
    total = need.total * num_seeds
    if available is None or total <= available:
        return ""
    return (
        f"not begun: {num_seeds} x ({need}) = {total / 1e9:.3g} GB, but "
        f"{available / 1e9:.3g} GB of memory are available"
    )


class Avoided:
    """The part of a space in which trials ran out of memory.

    Once two have, a point that needs no less than one of them is not tried. A trial does not count
    if another one with the same need or more had enough memory: there something else took it.

    Args:
        need_of: Function from a point to the memory that it needs [bytes].
        rows: Function that returns all rows so far.
        say: Prints a line when the smallest avoided need changes.
    """

    def __init__(
        self,
        need_of: Callable[[Mapping[str, KnobValue]], int],
        rows: Callable[[], Iterable[Trial]],
        say: Callable[[str], None],
    ) -> None:
        self._need_of, self._rows, self._say = need_of, rows, say
        self._needs: dict[str, int] = {}
        self._said = 0

    def __getstate__(self) -> dict[str, Any]:
        """No state: Tune pickles it with the searcher for its own resume, which is not used."""
        return {}

    def __call__(self, point: Mapping[str, KnobValue]) -> bool:
        """Whether a point should not be tried."""
        rows = list(self._rows())
        lost = [row for row in rows if row.state is TrialState.OOM]
        if len(lost) < NUM_LOST:
            return False
        fits = max((self._need(row) for row in rows if row.state in _FITTED), default=0)
        failing = {row.trial_id: need for row in lost if (need := self._need(row)) > fits}
        if len(failing) < NUM_LOST:
            return False
        bound = min(failing.values())
        if bound != self._said:
            self._said = bound
            self._say(
                f"{', '.join(failing)} ran out of memory: points that need {bound / 1e9:.3g} GB or "
                "more by their sizes are no longer tried"
            )
        return self._need_of(point) >= bound

    def _need(self, row: Trial) -> int:
        if row.trial_id not in self._needs:
            self._needs[row.trial_id] = self._need_of(row.knobs)
        return self._needs[row.trial_id]
