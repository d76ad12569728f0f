"""The comparison of winner and default: when it may say better, and how often it is wrong."""

import numpy as np
import pytest
from scipy import stats

from tuning.comparison import LATER_LEVEL, Comparison, compare
from tuning.power import findable_spreads


def of(best: list[float], default: list[float] | None) -> Comparison:
    return compare(best, default, num_tasks=100)


def test_the_intervals_are_those_of_student_and_welch() -> None:
    rng = np.random.default_rng(0)
    best, default = rng.normal(3.0, 2.0, 5).tolist(), rng.normal(0.0, 0.5, 3).tolist()
    found = of(best, default)
    own = stats.t.interval(0.95, 4, np.mean(best), stats.sem(best))
    assert (found.best_low, found.best_high) == pytest.approx(own)
    welch = stats.ttest_ind(best, default, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((welch.low, welch.high))
    assert found.best_mean == pytest.approx(np.mean(best))
    assert found.difference == pytest.approx(np.mean(best) - np.mean(default))
    assert found.num_seeds == 3


def test_a_later_look_has_an_interval_of_its_own_level() -> None:
    rng = np.random.default_rng(0)
    best, default = rng.normal(3.0, 2.0, 5).tolist(), rng.normal(0.0, 0.5, 3).tolist()
    first = of(best, default)
    surer = compare(best, default, num_tasks=100, level=LATER_LEVEL)
    assert surer.low < first.low < first.high < surer.high, "who asks again must be surer"
    found = compare(best, default, num_tasks=100, level=0.99)
    welch = stats.ttest_ind(best, default, equal_var=False).confidence_interval(0.99)
    assert (found.low, found.high) == pytest.approx((welch.low, welch.high))
    assert found.level == 0.99
    own = stats.t.interval(0.95, 4, np.mean(best), stats.sem(best))
    assert (found.best_low, found.best_high) == pytest.approx(own)


@pytest.mark.parametrize("num_seeds", [3, 6, 12])
def test_what_is_said_to_be_findable_is_found_in_8_of_10_cases(num_seeds: int) -> None:
    rng = np.random.default_rng(num_seeds)
    shift, num_cases = findable_spreads(num_seeds), 1000
    found = sum(
        of(rng.normal(shift, 1.0, num_seeds).tolist(), rng.normal(size=num_seeds).tolist()).is_shown
        for _ in range(num_cases)
    )
    assert 0.77 < found / num_cases < 0.83


def test_after_a_comparison_the_spread_that_was_seen_says_what_is_findable() -> None:
    best, default = [10.0, 12.0, 14.0], [9.0, 11.0, 13.0]
    assert of(best, default).findable == pytest.approx(2.0 * findable_spreads(3))
    assert of(best, [9.0]).findable is None
    assert of(best, None).findable is None


@pytest.mark.parametrize(
    ("best", "default", "is_shown"),
    [
        ([10.0, 11.0, 12.0], [0.0, 1.0, 2.0], True),
        ([0.0, 1.0, 2.0], [10.0, 11.0, 12.0], True),
        ([10.0, 11.0, 12.0], [9.0, 11.0, 13.0], False),
        ([10.0, 10.1], [0.0, 0.1], False),
        ([10.0, 11.0, 12.0], None, False),
    ],
)
def test_a_difference_is_shown_by_its_interval_and_three_seeds_each(
    best: list[float], default: list[float] | None, is_shown: bool
) -> None:
    assert of(best, default).is_shown == is_shown


@pytest.mark.parametrize("unit", [0.001, 1.0, 1000.0])
@pytest.mark.parametrize(
    ("best", "default"),
    [
        ([10.0, 11.0, 12.0], [0.0, 1.0, 2.0]),
        ([0.0, 1.0, 2.0], [10.0, 11.0, 12.0]),
        ([10.0, 11.0, 12.0], [9.0, 11.0, 13.0]),
        ([9.0, 11.0, 13.0], [10.0, 12.0, 13.0]),
    ],
)
def test_in_which_unit_returns_are_counted_decides_nothing(
    best: list[float], default: list[float], unit: float
) -> None:
    one, other = of(best, default), of([unit * x for x in best], [unit * x for x in default])
    assert (one.is_shown, one.verdict) == (other.is_shown, other.verdict)
    assert other.findable == pytest.approx(unit * one.findable)


def test_the_verdict_follows_the_interval() -> None:
    high, low = [10.0, 11.0, 12.0], [0.0, 1.0, 2.0]
    assert of(high, low).verdict.startswith("The winner is better")
    assert of(low, high).verdict.startswith("The winner is worse")
    assert of(high, [9.0, 11.0, 13.0]).verdict.startswith("No difference shown")


@pytest.mark.parametrize(
    ("best", "default", "num_seeds"),
    [
        ([10.0, 10.1], [0.0, 0.1, 0.2], "2 seeds"),
        ([10.0, 10.1, 10.2], [0.0], "1 seed"),
        ([10.0, 10.1, 10.2], [], "0 seeds"),
        ([10.0, 10.1], None, "2 seeds"),
    ],
)
def test_below_three_seeds_each_there_is_no_verdict(
    best: list[float], default: list[float] | None, num_seeds: str
) -> None:
    assert of(best, default).verdict.startswith(f"{num_seeds}: no verdict")


def test_what_is_not_known_is_null() -> None:
    single = of([1.0], [])
    assert (single.best_mean, single.best_low, single.best_high) == (1.0, None, None)
    assert (single.default_mean, single.difference, single.low) == (None, None, None)
    assert (single.blind_return, single.switched_off_mean) == (None, None)


def test_the_default_itself_is_called_so_and_has_no_difference() -> None:
    found = of([1.0, 2.0, 4.0], None)
    assert "default configuration itself" in found.verdict
    assert (found.default_mean, found.difference, found.low, found.high) == (None,) * 4
    assert found.best_low is not None


def test_seeds_that_chose_the_winner_do_not_count() -> None:
    found = compare([1.0], None, num_tasks=100, num_seeds=0)
    assert found.num_seeds == 0
    assert found.verdict.startswith("0 seeds: no verdict")


def test_equal_policies_are_seldom_told_apart() -> None:
    rng = np.random.default_rng(2)
    draws = [of(*rng.normal(size=(2, 3)).tolist()).verdict for _ in range(300)]
    claimed = sum(not verdict.startswith("No difference shown") for verdict in draws)
    assert claimed <= 25  # 5 % are expected, and Welch's interval of 3 and 3 has a little less


def test_seeds_that_all_earn_the_same_have_no_spread() -> None:
    found = of([2.0, 2.0, 2.0], [1.0, 1.0, 1.0])
    assert (found.low, found.high) == (1.0, 1.0)
    assert found.verdict.startswith("The winner is better")
    equal = of([2.0, 2.0, 2.0], [2.0, 2.0, 2.0])
    assert (equal.low, equal.high, equal.is_shown) == (0.0, 0.0, False)
    assert equal.verdict.startswith("No difference shown"), "an interval holds its ends"


def test_returns_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="finite and of at least 1 seed"):
        of([1.0, float("nan")], None)
    with pytest.raises(ValueError, match="at least 1 seed"):
        of([], [1.0])
