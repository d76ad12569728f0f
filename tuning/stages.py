"""The shares of a budget at which trials are compared; not which trials stop there."""

FACTOR = 2
"""Growth of the experience from stage to stage; the first stage is the first evaluation."""


def stage(passed: int, before: int) -> int:
    """The share of the budget that an evaluation stands for.

    A long iteration passes several shares at once. If a stage lies among them, the scheduler
    compares the trial at that stage. The evaluation must not stand for more: the trial would rank
    before better ones only because its iterations are long.

    Args:
        passed: Number of shares of the budget passed at this evaluation; a budget has as many
            equal shares as planned evaluations.
        before: Number of shares passed at the evaluation before; 0 if there was none.

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
