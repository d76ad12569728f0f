"""At which shares of a budget trials are compared; not what becomes of them there."""

FACTOR = 2
"""From one stage to the next the experience grows by this; the first is the first evaluation."""


def stage(passed: int, before: int) -> int:
    """The share of the budget that an evaluation stands for.

    A long iteration passes several shares at once. If a stage lies among them, the scheduler
    compares the trial there, with others that came just so far. What it is remembered by must not
    be more: it would come before better ones only because its iterations are long.

    Args:
        passed: Shares that were passed at this evaluation; there is one for each evaluation.
        before: Those that were passed at the evaluation before; 0 if there was none.

    Example:
        >>> [stage(passed, passed - 1) for passed in (1, 2, 3, 4)]
        [1, 2, 3, 4]
        >>> stage(3, before=1), stage(3, before=0), stage(4, before=1)
        (2, 2, 4)
    """
    latest = 1
    while latest * FACTOR <= passed:
        latest *= FACTOR
    return latest if before < latest else passed
