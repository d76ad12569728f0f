"""Student's t confidence interval of a mean."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

LEVEL = 0.95


def student_interval(
    values: Sequence[float] | np.ndarray, level: float = LEVEL
) -> tuple[float, float] | None:
    """Confidence interval of the mean of the population that the values are sampled from.

    Args:
        values: Independent and roughly normal values, such as means of many.
        level: Confidence level.

    Returns:
        The lower and upper end; None for a single value, which says nothing about the spread.

    Raises:
        ValueError: If there is no value, or the level is not between 0 and 1.

    Example:
        >>> student_interval([1.0, 2.0, 3.0], level=0.5)
        (1.528..., 2.471...)

    References:
        Student 1908, "The Probable Error of a Mean".
    """
    check_level(level)
    sample = np.asarray(values, dtype=np.float64)
    if sample.size == 0:
        raise ValueError("an interval needs at least one value, but got none")
    if sample.size == 1:
        return None
    half = student_factor(sample.size - 1, level) * sample.std(ddof=1) / math.sqrt(sample.size)
    middle = float(sample.mean())
    return middle - float(half), middle + float(half)


def welch_freedom(variances: Sequence[float] | np.ndarray, sizes: Sequence[int]) -> Any:
    """Degrees of freedom behind the standard error of a sum or a difference of means.

    Args:
        variances: Variance of each mean; numbers, or arrays for many sums at once. In each sum at
            least one is not 0.
        sizes: Size of each mean's sample, at least 2.

    Returns:
        A number, or an array.

    References:
        Welch 1947, "The Generalization of Student's Problem when Several Different Population
        Variances are Involved".
    """
    parts = [part**2 / (size - 1) for part, size in zip(variances, sizes, strict=True)]
    return sum(variances) ** 2 / sum(parts)


def student_factor(freedom: Any, level: float = LEVEL) -> Any:
    """Half width of such an interval, in standard errors.

    Args:
        freedom: Degrees of freedom behind the standard error; a number or an array.
        level: Confidence level.

    Returns:
        A number, or an array.

    Raises:
        ValueError: If the level is not between 0 and 1.
    """
    from scipy.special import stdtrit

    check_level(level)
    return stdtrit(freedom, 0.5 + level / 2.0)


def check_level(level: float) -> None:
    """Check a confidence level.

    Raises:
        ValueError: If it is not between 0 and 1.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"`0 < level < 1` must hold, but got {level=}; use 0.95 for 95 %")
