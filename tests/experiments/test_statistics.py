"""Summaries of a few runs, against values computed by hand."""

import numpy as np
import pytest

from experiments.statistics import (
    interquartile_mean,
    median,
    nested_interval,
    stratified_interval,
)


class TestStatistics:
    def test_medians_and_interquartile_means_by_hand(self) -> None:
        values = np.array([8.0, 1.0, 3.0, 100.0, 4.0, 6.0, 5.0, 2.0])
        assert median(values) == 4.5
        assert interquartile_mean(values) == 4.5, "the mean of 3, 4, 5, 6"
        assert interquartile_mean(np.array([1.0, 2.0, 6.0])) == 3.0, "too few to leave any out"

    @pytest.mark.parametrize("interval", [stratified_interval, nested_interval])
    def test_the_bootstrap_of_two_seeds_on_one_task_by_hand(self, interval: object) -> None:
        """Its mean is 0, 1/2 or 1 with probabilities 1/4, 1/2, 1/4."""
        scores = np.array([[0.0], [1.0]])
        rng = np.random.default_rng(0)
        assert interval(scores, rng, level=0.9) == (0.0, 1.0)  # type: ignore[operator]
        assert interval(scores, rng, level=0.4) == (0.5, 0.5)  # type: ignore[operator]

    def test_only_nesting_sees_that_a_seeds_scores_move_together(self) -> None:
        scores = np.repeat([[0.0], [1.0]], 200, axis=1)
        low, high = nested_interval(scores, np.random.default_rng(0))
        assert (low, high) == (0.0, 1.0), "as with one task: the tasks add nothing"
        low, high = stratified_interval(
            scores, np.random.default_rng(0), statistic=lambda values: values.mean(-1)
        )
        # 400 fair coins: standard deviation of the mean 1 / 40, 1.96 of them on each side.
        assert (low, high) == (pytest.approx(0.451, abs=0.01), pytest.approx(0.549, abs=0.01))

    def test_what_is_no_matrix_of_numbers_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"\(seed, task\) \[\[1, 0\]\]"):
            nested_interval(np.array([[0.0], [np.nan]]), np.random.default_rng(0))
        with pytest.raises(ValueError, match="must be"):
            stratified_interval(np.zeros(3), np.random.default_rng(0))
