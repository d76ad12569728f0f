"""The range of iteration lengths in a search space: a run ends with a whole iteration."""

from ssmrl.config import KnobValue
from tuning.spaces.space import Choice, Int, SearchSpace


def iteration_lengths(space: SearchSpace) -> tuple[int, int]:
    """The shortest and the longest iteration of a space's points [env steps].

    A point trains past its budget by less than one iteration, so it may get up to that many more
    env steps than another.

    Args:
        space: The search space. The length of an iteration is a product with one factor per knob,
            so the knobs are tried one by one.
    """
    own = shortest = longest = _length(space, {})
    for knob, a_range in space.ranges.items():
        if isinstance(a_range, Int | Choice):
            ends: tuple[KnobValue, ...] = (
                a_range.options if isinstance(a_range, Choice) else (a_range.low, a_range.high)
            )
            lengths = [_length(space, {knob: end}) for end in ends]
            shortest, longest = shortest * min(lengths) // own, longest * max(lengths) // own
    return shortest, longest


def _length(space: SearchSpace, knobs: dict[str, KnobValue]) -> int:
    config = space.base.with_knobs(knobs)
    return int(config.meta.env_steps_per_iteration(config.env.horizon))
