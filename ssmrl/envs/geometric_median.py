"""The geometric median: the point with the least mean distance to given points."""

import numpy as np
from jaxtyping import Float

MAX_ITERATIONS = 10_000
TOLERANCE = 1e-12  # Smallest step, relative to the spread of the points.


def geometric_median(points: Float[np.ndarray, "N D"]) -> Float[np.ndarray, " D"]:
    """Geometric median by Weiszfeld's iteration, with Vardi and Zhang's step at a data point.

    Args:
        points: At least one point.

    Returns:
        The median; one of several if the points lie on a line.

    Raises:
        ValueError: If there is no point.

    Example:
        >>> geometric_median(np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 5.0]])).tolist()
        [0.0, 0.0]

    References:
        Vardi, Zhang, "The multivariate L1-median and associated data depth", PNAS 97 (2000),
        equations 2.6 and 2.7.
    """
    if len(points) == 0:
        raise ValueError(f"`points` must hold at least one, but got {points.shape=}")
    center: np.ndarray = points.mean(axis=0)
    smallest = TOLERANCE * np.abs(points - center).max()
    for _ in range(MAX_ITERATIONS):
        offset = points - center
        distance = np.sqrt(np.square(offset).sum(axis=1))
        away = distance > smallest
        weight = 1.0 / distance[away]
        pull = weight @ offset[away]
        strength, num_here = float(np.sqrt(pull @ pull)), int((~away).sum())
        # A place with k points is the median if the pull of the other points is at most k.
        if strength <= max(num_here, TOLERANCE):
            break
        step = (1.0 - num_here / strength) * pull / weight.sum()
        center = center + step
        if np.abs(step).max() <= smallest:
            break
    # The iteration converges slowly to a data point, so the nearest one is tried as well.
    nearest = points[np.square(points - center).sum(axis=1).argmin()]
    both = np.stack([center, nearest])
    costs = np.sqrt(np.square(both[:, None] - points).sum(axis=2)).mean(axis=1)
    median: np.ndarray = both[costs.argmin()]
    return median
