"""The comparison of best and default: when it may say better, and how often it is wrong."""

import numpy as np
import pytest

from tuning.comparison import compare


def test_a_shift_on_every_task_is_seen_through_large_differences_between_tasks() -> None:
    generator = np.random.default_rng(0)
    default = generator.normal(0.0, 100.0, 20)  # tasks differ far more than the two policies do
    best = default + generator.normal(1.0, 0.5, 20)
    result = compare(best.tolist(), default.tolist(), seed=0)
    assert result.verdict.startswith("The best trial is better")
    assert 0.0 < result.low < result.difference < result.high < 2.0
    assert result.difference == pytest.approx(result.best_mean - result.default_mean)
    swapped = compare(default.tolist(), best.tolist(), seed=0)
    assert swapped.verdict.startswith("The best trial is worse")


def test_the_interval_is_that_of_the_normal_theory_where_that_holds() -> None:
    difference = np.random.default_rng(1).normal(3.0, 2.0, 400)
    result = compare(difference.tolist(), [0.0] * 400, seed=0)
    half = 1.96 * difference.std() / 20.0
    assert result.low == pytest.approx(difference.mean() - half, abs=0.03)
    assert result.high == pytest.approx(difference.mean() + half, abs=0.03)


def test_equal_policies_are_seldom_told_apart() -> None:
    generator = np.random.default_rng(2)
    verdicts = [
        compare(
            generator.normal(size=20).tolist(), generator.normal(size=20).tolist(), seed=i
        ).verdict
        for i in range(100)
    ]
    claimed = sum(not verdict.startswith("No difference shown") for verdict in verdicts)
    assert claimed <= 14  # 5 % are expected, the percentile bootstrap of 20 has about 7 %


def test_the_default_itself_is_called_so() -> None:
    result = compare([1.0, 2.0], [1.0, 2.0], seed=0, is_default=True)
    assert (result.difference, result.low, result.high) == (0.0, 0.0, 0.0)
    assert "default configuration itself" in result.verdict
    assert compare([1.0, 2.0], [1.0, 2.0], seed=0).verdict.startswith("No difference shown")


def test_one_seed_gives_one_interval() -> None:
    best, default = [1.0, 5.0, 2.0], [0.0, 1.0, 3.0]
    assert compare(best, default, seed=3) == compare(best, default, seed=3)


def test_returns_that_do_not_pair_up_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shapes \(2,\) and \(3,\)"):
        compare([1.0, 2.0], [1.0, 2.0, 3.0], seed=0)
    with pytest.raises(ValueError, match="at least 2"):
        compare([1.0], [2.0], seed=0)
    with pytest.raises(ValueError, match=r"tasks \[1\] are not"):
        compare([1.0, float("nan")], [1.0, 2.0], seed=0)
