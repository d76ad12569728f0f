"""Summaries of a few runs, against values computed by hand and by how often intervals hold."""

import numpy as np
import pytest
from scipy import stats

from experiments.statistics import (
    crossed_interval,
    median,
    stratified_interval,
    trimmed_mean,
)
from ssmrl.student import student_factor, student_interval


def mean(values: np.ndarray) -> np.ndarray:
    return np.asarray(values.mean(-1))


class TestStatistics:
    def test_medians_and_interquartile_means_by_hand(self) -> None:
        values = np.array([8.0, 1.0, 3.0, 100.0, 4.0, 6.0, 5.0, 2.0])
        assert median(values) == 4.5
        assert trimmed_mean(values, 0.25) == 4.5, "the mean of 3, 4, 5, 6"
        assert trimmed_mean(np.array([1.0, 2.0, 6.0]), 0.25) == 3.0, "too few to leave any out"
        assert trimmed_mean(values, 0.0) == values.mean()

    def test_the_stratified_bootstrap_of_two_seeds_on_one_task_by_hand(self) -> None:
        """Its mean is 0, 1/2 or 1 with probabilities 1/4, 1/2, 1/4."""
        scores = np.array([[0.0], [1.0]])
        rng = np.random.default_rng(0)
        assert stratified_interval(scores, rng, statistic=mean, level=0.9) == (0.0, 1.0)
        assert stratified_interval(scores, rng, statistic=mean, level=0.4) == (0.5, 0.5)

    def test_the_stratified_bootstrap_takes_seeds_for_each_task_anew(self) -> None:
        scores = np.repeat([[0.0], [1.0]], 200, axis=1)
        low, high = stratified_interval(scores, np.random.default_rng(0), statistic=mean)
        # 400 fair coins: standard deviation of the mean 1 / 40, 1.96 of them on each side.
        assert (low, high) == (pytest.approx(0.451, abs=0.01), pytest.approx(0.549, abs=0.01))

    def test_what_is_no_matrix_of_numbers_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"\(seed, task\) \[\[1, 0\]\]"):
            crossed_interval(np.array([[0.0], [np.nan]]))
        with pytest.raises(ValueError, match="must be"):
            stratified_interval(np.zeros(3), np.random.default_rng(0), statistic=mean)


class TestStudentsInterval:
    def test_it_is_the_textbooks(self) -> None:
        values = [3.0, 1.0, 4.0, 1.0, 5.0]
        wanted = stats.t.interval(0.9, 4, np.mean(values), stats.sem(values))
        assert student_interval(values, 0.9) == pytest.approx(wanted)
        assert student_factor(4, 0.9) == pytest.approx(stats.t.ppf(0.95, 4))

    def test_one_value_has_none_and_no_value_is_refused(self) -> None:
        assert student_interval([3.0]) is None
        with pytest.raises(ValueError, match="at least one value"):
            student_interval([])

    @pytest.mark.parametrize("values", [[1.0], [1.0, 2.0]])
    def test_a_level_of_no_share_is_refused(self, values: list[float]) -> None:
        with pytest.raises(ValueError, match="0 < level < 1"):
            student_interval(values, 95.0)


class TestCrossedInterval:
    @pytest.mark.parametrize("shape", [(1, 6), (6, 1)])
    def test_of_one_seed_or_one_task_it_is_students(self, shape: tuple[int, int]) -> None:
        values = np.random.default_rng(0).normal(size=6)
        found = crossed_interval(values.reshape(shape), trim=0.0)
        assert found == pytest.approx(student_interval(values))

    def test_of_a_single_score_there_is_none(self) -> None:
        assert crossed_interval(np.ones((1, 1))) is None

    def test_the_middle_half_of_one_seed_is_that_of_the_books(self) -> None:
        """A trimmed mean of 20, with 5 cut at each end, and the variance of what was moved."""
        values = np.sort(np.random.default_rng(1).standard_t(2, size=20))
        moved = np.clip(values, values[5], values[14])
        error = moved.std(ddof=1) / (0.5 * np.sqrt(20))
        half = stats.t.ppf(0.975, 9) * error
        middle = values[5:15].mean()
        assert crossed_interval(values[None]) == pytest.approx((middle - half, middle + half))

    def test_seeds_do_not_average_out_the_luck_of_the_tasks(self) -> None:
        """Eight seeds of equal returns know no more about the tasks than one of them does."""
        tasks = np.random.default_rng(2).normal(size=(1, 30))
        one = crossed_interval(tasks, trim=0.0)
        assert crossed_interval(tasks.repeat(8, 0), trim=0.0) == pytest.approx(one)

    def test_tasks_do_not_average_out_the_luck_of_the_seeds(self) -> None:
        seeds = np.random.default_rng(3).normal(size=(4, 1))
        wanted = student_interval(seeds[:, 0])
        assert crossed_interval(seeds.repeat(500, 1), trim=0.0) == pytest.approx(wanted, rel=1e-9)

    @pytest.mark.parametrize("trim", [0.0, 0.25])
    @pytest.mark.parametrize("shape", [(1, 20), (3, 20), (5, 40)])
    @pytest.mark.parametrize("of_seeds", [0.0, 1.0])
    def test_it_holds_the_truth_as_often_as_it_says(
        self, trim: float, shape: tuple[int, int], of_seeds: float
    ) -> None:
        """Nominal 0.95 in 600 draws, whose standard error is 0.009."""
        rng = np.random.default_rng(4)
        hits = 0
        for _ in range(600):
            shared = rng.normal(size=(1, shape[1])) + of_seeds * rng.normal(size=(shape[0], 1))
            if shape[0] == 1:
                shared -= shared.mean() - rng.normal() / np.sqrt(shape[1])  # one seed: tasks alone
            found = crossed_interval(shared + rng.normal(size=shape), trim=trim)
            assert found is not None
            hits += found[0] <= 0.0 <= found[1]
        assert 0.92 <= hits / 600 <= 0.985
