"""The point whose mean distance to given points is least."""

import numpy as np
from jaxtyping import Float

MAX_ITERATIONS = 10_000
TOLERANCE = 1e-12  # Of a step, relative to how far the points lie apart.


def geometric_median(points: Float[np.ndarray, "N D"]) -> Float[np.ndarray, " D"]:
    """Weiszfeld's iteration, with Vardi and Zhang's step where it meets one of the points.

    Args:
        points: At least one.

    Returns:
        The median; one of several where the points lie on a line.

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
        raise ValueError(f"`points` must be at least one, but got {points.shape=}")
    center: np.ndarray = points.mean(axis=0)
    smallest = TOLERANCE * np.abs(points - center).max()
    for _ in range(MAX_ITERATIONS):
        offset = points - center
        distance = np.sqrt(np.square(offset).sum(axis=1))
        away = distance > smallest
        weight = 1.0 / distance[away]
        pull = weight @ offset[away]
        strength, num_here = float(np.sqrt(pull @ pull)), int((~away).sum())
        # As many unit vectors as lie here hold the median against the pull of the others.
        if strength <= max(num_here, TOLERANCE):
            break
        step = (1.0 - num_here / strength) * pull / weight.sum()
        center = center + step
        if np.abs(step).max() <= smallest:
            break
    # Towards one of the points the iteration only creeps, so the nearest is tried as well.
    nearest = points[np.square(points - center).sum(axis=1).argmin()]
    both = np.stack([center, nearest])
    costs = np.sqrt(np.square(both[:, None] - points).sum(axis=2)).mean(axis=1)
    median: np.ndarray = both[costs.argmin()]
    return median
