"""Importance: the knob that decides is found, and what cannot be said is not said."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.importance import PedAnovaImportanceEvaluator

from ssmrl.config import KnobValue, TrainConfig
from tuning.importance import Importance, importance
from tuning.spaces.ranges import Choice, Float, Int, Range
from tuning.spaces.space import Condition, SearchSpace
from tuning.table.trial import Trial, TrialState

LR, CLIP, STEPS, METHOD, DIM = (
    "meta.inner_lr",
    "meta.outer_lr",
    "meta.num_epochs",
    "policy.method",
    "policy.state_dim",
)
RANGES: dict[str, Range] = {
    LR: Float(1e-3, 1.0, log=True),
    CLIP: Float(0.1, 0.3),
    STEPS: Int(1, 3),
    METHOD: Choice(("ssm", "gru")),
}


def complete(number: int, score: float, knobs: Mapping[str, KnobValue]) -> Trial:
    return Trial(
        trial_id=f"t{number:04d}",
        number=number,
        state=TrialState.COMPLETE,
        score=score,
        knobs=dict(knobs),
    )


def drawn(count: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [
        {
            LR: float(10 ** rng.uniform(-3, 0)),
            CLIP: float(rng.uniform(0.1, 0.3)),
            STEPS: int(rng.integers(1, 4)),
            METHOD: ("ssm", "gru")[rng.integers(2)],
        }
        for _ in range(count)
    ]


def by_knob(results: tuple[Importance, ...]) -> dict[str, Importance]:
    return {result.knob: result for result in results}


def check_sound(results: tuple[Importance, ...], space: SearchSpace) -> None:
    assert sorted(result.knob for result in results) == sorted(space.ranges)
    shares = [result.share for result in results if result.share is not None]
    assert shares == sorted(shares, reverse=True)
    assert not shares or sum(shares) == pytest.approx(1.0)
    for result in results:
        assert (result.share is None) == (result.interval is None) == bool(result.reason)
        if result.share is not None and result.interval is not None:
            low, high = result.interval
            assert 0.0 <= low <= result.share <= high <= 1.0
            assert math.isfinite(low + high)


@pytest.mark.parametrize("decides", [LR, STEPS, METHOD])
def test_the_knob_that_decides_is_found(decides: str) -> None:
    worth = {
        LR: lambda knobs: -abs(math.log10(knobs[LR]) + 1.0),
        STEPS: lambda knobs: -abs(knobs[STEPS] - 2),
        METHOD: lambda knobs: float(knobs[METHOD] == "ssm"),
    }[decides]
    rows = [complete(i, worth(k) + 0.01 * (i * 0.618 % 1), k) for i, k in enumerate(drawn(40))]
    space = SearchSpace(RANGES, TrainConfig(algorithm="promp"))
    results = importance(rows, space, seed=0, num_resamples=50)
    check_sound(results, space)
    assert results[0].knob == decides
    assert results[0].interval is not None
    assert results[0].interval[0] > 0.25  # above an equal share


def test_the_share_is_optuna_s() -> None:
    ranges = {LR: Float(0.0, 1.0), CLIP: Float(0.0, 1.0)}
    study = optuna.create_study(direction="maximize")
    rng = np.random.default_rng(1)
    rows = []
    for number in range(20):
        knobs: dict[str, Any] = {LR: float(rng.random()), CLIP: float(rng.random())}
        score = -((knobs[LR] - 0.3) ** 2) - 0.2 * (knobs[CLIP] - 0.9) ** 2
        rows.append(complete(number, score, knobs))
        distributions = dict.fromkeys(knobs, FloatDistribution(0.0, 1.0))
        study.add_trial(
            optuna.trial.create_trial(params=knobs, distributions=distributions, value=score)
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = PedAnovaImportanceEvaluator(target_quantile=0.25).evaluate(study)  # 5 of 20
    space = SearchSpace({knob: Float(1e-9, 1.0) for knob in ranges}, TrainConfig(algorithm="promp"))
    results = by_knob(importance(rows, space, seed=0, num_resamples=3))
    for knob, value in raw.items():
        assert results[knob].share == pytest.approx(value / sum(raw.values()), rel=1e-6)


def test_the_same_seed_gives_the_same_interval() -> None:
    rows = [complete(i, k[LR], k) for i, k in enumerate(drawn(12))]
    space = SearchSpace(RANGES, TrainConfig(algorithm="promp"))
    first, again, other = (importance(rows, space, seed=s, num_resamples=20) for s in (3, 3, 4))
    assert first == again
    assert [r.share for r in first] == [r.share for r in other]
    assert [r.interval for r in first] != [r.interval for r in other]


def test_more_trials_make_the_interval_narrower() -> None:
    def width(count: int) -> float:
        knobs = drawn(count)
        rows = [complete(i, -abs(math.log10(k[LR]) + 1.0), k) for i, k in enumerate(knobs)]
        results = by_knob(
            importance(
                rows, SearchSpace(RANGES, TrainConfig(algorithm="promp")), seed=0, num_resamples=60
            )
        )
        low, high = results[LR].interval or (0.0, 0.0)
        return high - low

    assert 0.0 < width(80) < width(12)


def test_what_cannot_be_said_is_not_said() -> None:
    space = SearchSpace(RANGES, TrainConfig(algorithm="promp"))
    rows = [complete(i, k[LR], k) for i, k in enumerate(drawn(12))]
    for few in (rows[:9], []):
        results = importance(few, space, seed=0)
        check_sound(results, space)
        assert {r.reason for r in results} == {
            f"too few trials: {len(few)} complete configurations, but it takes 10"
        }
    flat = importance([complete(r.number, 1.0, r.knobs) for r in rows], space, seed=0)
    check_sound(flat, space)
    assert {r.reason for r in flat} == {"all scores are equal"}


def test_equal_knobs_count_once() -> None:
    knobs = {LR: 0.1, CLIP: 0.2, STEPS: 1, METHOD: "ssm"}
    rows = [complete(i, float(i), knobs) for i in range(20)]
    results = importance(rows, SearchSpace(RANGES, TrainConfig(algorithm="promp")), seed=0)
    assert all("too few trials: 1 complete" in r.reason for r in results)


def test_a_knob_that_never_varied_gets_no_share() -> None:
    space = SearchSpace(RANGES, TrainConfig(algorithm="promp"))
    rows = [complete(i, k[LR], k | {STEPS: 2}) for i, k in enumerate(drawn(12))]
    results = importance(rows, space, seed=0, num_resamples=5)
    check_sound(results, space)
    assert results[-1] == Importance(STEPS, reason="it never varied")


def test_one_knob_has_nothing_to_be_compared_with() -> None:
    space = SearchSpace({LR: RANGES[LR]}, TrainConfig(algorithm="promp"))
    rows = [complete(i, k[LR], {LR: k[LR]}) for i, k in enumerate(drawn(12))]
    (result,) = importance(rows, space, seed=0)
    assert result == Importance(LR, reason="no other knob can be compared with it")


def test_conditional_knobs_may_be_missing() -> None:
    space = SearchSpace(
        {METHOD: RANGES[METHOD], DIM: Int(8, 64, step=8), LR: RANGES[LR]},
        TrainConfig(algorithm="promp"),
        {DIM: Condition(METHOD, ("ssm",))},
    )
    rows = []
    for number, draw in enumerate(drawn(30)):
        knobs: dict[str, KnobValue] = {METHOD: draw[METHOD], LR: draw[LR]}
        if knobs[METHOD] == "ssm":
            knobs[DIM] = 8 * (1 + number % 8)
        rows.append(complete(number, float(knobs.get(DIM, -50)) + draw[LR], knobs))
    results = importance(rows, space, seed=0, num_resamples=50)
    check_sound(results, space)
    assert all(result.share is not None for result in results)
    without = [row for row in rows if row.knobs[METHOD] == "gru"] + [
        row for row in rows if row.knobs[METHOD] == "ssm"
    ][:2]
    results = importance(without, space, seed=0, num_resamples=50)
    check_sound(results, space)
    assert "2 complete configurations have it, but it takes 5" in by_knob(results)[DIM].reason


def test_trials_outside_of_the_box_are_evidence_too() -> None:
    moved: dict[str, Range] = {
        LR: Float(0.3, 0.9, log=True),
        STEPS: Int(2, 3),
        CLIP: Float(0.2, 0.4),
        METHOD: Choice(("gru", "lstm")),
    }
    space = SearchSpace(moved, TrainConfig(algorithm="promp"))
    rows = [complete(i, -abs(math.log10(k[LR]) + 1.0), k) for i, k in enumerate(drawn(40))]
    results = importance(rows, space, seed=0, num_resamples=20)
    check_sound(results, space)
    assert results[0].knob == LR
    assert all(result.share is not None for result in results)
