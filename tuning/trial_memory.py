"""What a trial needs of the memory by its sizes: kept free, refused, or no longer tried.

What any process of Python takes beside them is left out.
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
"""So many trials that ran out of memory make their part of the space one that fails."""

_FITTED = (TrialState.COMPLETE, TrialState.PRUNED)
_MOST_CORNERS = 64
_DIGITS = 2  # binary ones that are kept of what is asked for: equal requests share an actor


def trial_need(base: TrainConfig, point: Mapping[str, KnobValue], num_seeds: int = 1) -> int:
    """What a trial needs by its sizes; 0 if nothing of these sizes can be made [bytes].

    That is found out, and said in its own words, by the trial: it must not end its siblings.

    Args:
        base: What the point changes.
        point: Of the trial.
        num_seeds: Seeds that train side by side.
    """
    from ssmrl.memory_need import memory_need  # torch, which --help need not wait for

    try:
        return memory_need(base.with_knobs(point)).total * num_seeds
    except (ValueError, RuntimeError):  # RuntimeError: more numbers than torch can count
        return 0


def largest_need(space: SearchSpace, num_seeds: int = 1) -> int:
    """What the largest point of a space needs; 0 if its corners are too many to look at [bytes].

    Args:
        space: What is needed grows with every number of it.
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
    """What Ray is asked to keep free [bytes].

    Rounded up by less than half, so that trials of nearly the same size have the same request and
    one process after another; never more than there is, which Ray would wait for in vain: such a
    trial begins, and is refused there with the sum.

    Args:
        need: Of the trial.
        most: What the largest machine has in all; None if that is not known.

    Example:
        >>> asked_of_ray(1000, None), asked_of_ray(1000, 900)
        (1024, 900)
    """
    step = 1 << max(0, need.bit_length() - _DIGITS)
    rounded = -(-need // step) * step
    return rounded if most is None else min(rounded, most)


def too_large(config: TrainConfig, num_seeds: int, available: int | None) -> str:
    """Why a trial should not begin, with the sum; empty if it may.

    Args:
        config: Of each seed.
        num_seeds: Seeds that train side by side.
        available: Memory that there is [bytes]; None if that is not known.
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

    Once two have, a point that needs no less than one of them is not tried. A need at which another
    trial had room enough counts for nothing: there something else took the memory.

    Args:
        need_of: What a point needs [bytes].
        rows: All rows so far, whenever it is asked.
        say: Told once where the part begins.
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
        """Nothing: Tune keeps it with the searcher for a way of resuming that is not used here."""
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
                f"{', '.join(failing)} ran out of memory: what needs {bound / 1e9:.3g} GB or more "
                "by its sizes is no longer tried"
            )
        return self._need_of(point) >= bound

    def _need(self, row: Trial) -> int:
        if row.trial_id not in self._needs:
            self._needs[row.trial_id] = self._need_of(row.knobs)
        return self._needs[row.trial_id]
