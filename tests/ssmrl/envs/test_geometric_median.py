"""The geometric median against cases by hand, and against everything else that was tried."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmrl.envs.geometric_median import geometric_median
from tests.contracts.property_settings import PROPERTY


def mean_distance(place: np.ndarray, points: np.ndarray) -> float:
    return float(np.linalg.norm(points - place, axis=1).mean())


@pytest.mark.parametrize(
    ("points", "median"),
    [
        ([[3.0, 4.0]], [3.0, 4.0]),
        # The corners of a square; of a right-angled kite whose diagonals cross in (0, 0).
        ([[0.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 2.0]], [1.0, 1.0]),
        ([[-1.0, 0.0], [9.0, 0.0], [0.0, 2.0], [0.0, -2.0]], [0.0, 0.0]),
        # Three of five in one place win, wherever the others are; so does an angle above 120°.
        ([[1.0, 1.0]] * 3 + [[50.0, 0.0], [0.0, 70.0]], [1.0, 1.0]),
        ([[0.0, 0.0], [5.0, 1.0], [-5.0, 1.0]], [0.0, 0.0]),
        # The mean, where the iteration begins, is a point, and not the median.
        ([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [3.0, 3.0], [1.0, 1.0]], None),
    ],
)
def test_by_hand(points: list[list[float]], median: list[float] | None) -> None:
    found = geometric_median(np.array(points))
    if median is not None:
        np.testing.assert_allclose(found, median, atol=1e-6)
    else:
        assert mean_distance(found, np.array(points)) <= mean_distance(np.ones(2), np.array(points))


@PROPERTY
@given(seed=st.integers(0, 2**20), num_points=st.integers(1, 30), spread=st.floats(1e-3, 1e3))
def test_no_other_place_is_nearer_on_average(seed: int, num_points: int, spread: float) -> None:
    """Places all over, the points themselves, and places close by in all directions."""
    rng = np.random.default_rng(seed)
    points = spread * rng.normal(size=(num_points, 2))
    median = geometric_median(points)
    least = mean_distance(median, points)
    scales = spread * 10.0 ** rng.uniform(-6.0, 0.5, (1000, 1))
    for place in (*points, *(median + scales * rng.normal(size=(1000, 2)))):
        assert mean_distance(place, points) >= least - 1e-9 * spread


def test_of_no_points_there_is_none() -> None:
    with pytest.raises(ValueError, match="at least one"):
        geometric_median(np.zeros((0, 2)))
