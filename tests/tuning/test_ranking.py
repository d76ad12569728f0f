"""The ranking: equal knobs are one configuration, and the interval says what it is over."""

import json
from typing import Any

import pytest
from scipy import stats

from tuning.table.ranking import elite, level_for_best_of, ranking
from tuning.table.trial import Trial, TrialState


def ended(number: int, score: float | None, lr: float = 0.1, **changes: Any) -> Trial:
    arguments: dict[str, Any] = {
        "trial_id": f"t{number:04d}",
        "number": number,
        "state": TrialState.COMPLETE if score is not None else TrialState.DIVERGED,
        "score": score,
        "knobs": {"meta.inner_lr": lr},
        "interval": None if score is None else (score - 1.0, score + 2.0),
        "reason": "" if score is not None else "a number was not finite",
    }
    return Trial(**(arguments | changes))


def test_trials_of_equal_knobs_are_one_configuration() -> None:
    rows = [ended(3, 4.0, 0.1), ended(0, 1.0, 0.1), ended(1, 3.0, 0.2), ended(2, 9.0, 0.1)]
    first, second = ranking(rows)
    assert first.knobs == {"meta.inner_lr": 0.1}
    assert first.trial_ids == ("t0000", "t0002", "t0003")
    assert first.scores == (1.0, 9.0, 4.0)
    assert first.mean == pytest.approx(14.0 / 3.0)
    assert second.trial_ids == ("t0001",)
    assert json.loads(json.dumps(first.to_dict()))["trial_ids"] == ["t0000", "t0002", "t0003"]


def test_only_complete_trials_compete() -> None:
    pruned = ended(0, 9.0, 0.3, state=TrialState.PRUNED, reason="stopped")
    rows = [pruned, ended(1, None, 0.1), ended(2, -5.0, 0.2)]
    assert [ranked.trial_ids for ranked in ranking(rows)] == [("t0002",)]
    assert ranking([]) == ()


def test_the_earlier_of_equals_comes_first() -> None:
    rows = [ended(4, 1.0, 0.4), ended(2, 1.0, 0.2), ended(3, 1.0, 0.3)]
    assert [ranked.trial_ids[0] for ranked in ranking(rows)] == ["t0002", "t0003", "t0004"]


@pytest.mark.parametrize("num_runs", [2, 3, 31, 32, 60])
def test_the_interval_over_runs_is_student_s(num_runs: int) -> None:
    rows = [ended(i, float((7 * i) % 5)) for i in range(num_runs)]
    (ranked,) = ranking(rows)
    expected = stats.t.interval(0.95, num_runs - 1, loc=ranked.mean, scale=stats.sem(ranked.scores))
    assert ranked.interval == pytest.approx(expected, rel=1e-3)
    assert ranked.interval_over == "runs"
    assert ranked.spread == pytest.approx(stats.tstd(ranked.scores))


def test_the_interval_of_a_single_run_is_the_one_over_its_tasks() -> None:
    (ranked,) = ranking([ended(0, 1.0)])
    assert (ranked.interval, ranked.interval_over, ranked.spread) == ((0.0, 3.0), "tasks", None)
    (ranked,) = ranking([ended(0, 1.0, interval=None)])
    assert (ranked.interval, ranked.interval_over) == (None, "")


@pytest.mark.parametrize("num_ranked", [2, 12])
def test_intervals_allow_for_the_choice_of_the_best(num_ranked: int) -> None:
    rows = [
        ended(
            i,
            1.0,
            lr,
            config={"evaluation.num_tasks": 20, "meta.inner_lr": lr},
            interval=(0.5, 4.0),
        )
        for i, lr in enumerate(0.01 * (i + 1) for i in range(12))
    ]
    single = ranking(rows[:1])[0]
    many = ranking(rows[:num_ranked])[0]
    missed = 1.0 - 0.95 ** (1.0 / num_ranked)
    wider = stats.t.ppf(1.0 - missed, 19) / stats.t.ppf(0.975, 19)
    assert single.interval == (0.5, 4.0)
    assert many.interval == pytest.approx((1.0 - 0.5 * wider, 1.0 + 3.0 * wider))
    assert level_for_best_of(1) == 0.95


def test_each_seed_of_a_trial_is_a_run() -> None:
    seeds = {"seeds": (0, 1), "seed_scores": (1.0, 3.0)}
    (ranked,) = ranking([ended(0, 2.0, **seeds), ended(1, 4.0)])
    assert ranked.scores == (1.0, 3.0, 4.0)
    assert ranked.mean == 3.0


@pytest.mark.parametrize(("num_ranked", "num_elite"), [(0, 0), (3, 3), (12, 5), (20, 5), (21, 6)])
def test_the_elite_is_the_best_quarter_but_at_least_five(num_ranked: int, num_elite: int) -> None:
    ranked = ranking([ended(i, float(i), 0.01 * (i + 1)) for i in range(num_ranked)])
    best = elite(ranked)
    assert [c.mean for c in best] == [float(num_ranked - 1 - i) for i in range(num_elite)]


def test_the_same_run_again_is_no_second_run() -> None:
    """A searcher may come back to a point; with the same seeds its score is the same."""
    first, copy = (ended(number, 2.0, seeds=(3,), seed_scores=(2.0,)) for number in (0, 1))
    fresh = ended(2, 4.0, seeds=(4,), seed_scores=(4.0,))
    (ranked,) = ranking([first, copy, fresh])
    assert ranked.trial_ids == ("t0000", "t0002")
    assert ranked.scores == (2.0, 4.0)
