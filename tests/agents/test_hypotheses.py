"""Whether a hypothesis held: by new trials alone, and undecided where they do not suffice."""

import json
from typing import Any

import pytest

from agents.findings import Finding
from agents.hypotheses import Verdict, score_hypothesis
from tests.agents.boards import make_trial
from tuning.table.trial import Trial, TrialState

BEFORE = (make_trial(0, 1.0, {"meta.inner_lr": 0.1}), make_trial(1, -9.0, {"meta.inner_lr": 0.9}))


def finding(side: str = "high", direction: str = "better", knob: str = "meta.inner_lr") -> Finding:
    return Finding.from_json(
        json.dumps(
            {
                "author": "meta-learning",
                "hypothesis": "h",
                "expected_effect": "e",
                "expectation": {"knob": knob, "side": side, "direction": direction},
                "changes": [],
                "trial_ids": ["t0000"],
                "decision": None,
                "num_trials": None,
            }
        )
    )


def after(*points: tuple[Any, float | None], knob: str = "meta.inner_lr") -> tuple[Trial, ...]:
    new = (make_trial(2 + i, score, {knob: v}) for i, (v, score) in enumerate(points))
    return (*BEFORE, *new)


# Three above the best trial's 0.1, all better than the three that are not: of the 20 ways to divide
# six scores one is as extreme, so p = 0.05.
HIGH_IS_BETTER = after((0.2, 2.0), (0.3, 3.0), (0.4, 4.0), (0.1, 1.0), (0.05, 0.5), (0.02, 0.1))


@pytest.mark.parametrize(
    ("side", "direction", "verdict", "statistic"),
    [
        ("high", "better", Verdict.SUPPORTED, "p = 0.050 for better, 3 new trials on the side"),
        ("high", "worse", Verdict.REFUTED, "p = 0.050 for the opposite, 3 new trials"),
        ("high", "same", Verdict.REFUTED, "p = 0.100 for a difference"),
        ("low", "worse", Verdict.UNDECIDED, "for worse, 2 new trials on the side meant against 4"),
    ],
)
def test_the_side_meant_is_compared_with_the_rest_of_the_round(
    side: str, direction: str, verdict: Verdict, statistic: str
) -> None:
    score = score_hypothesis(finding(side, direction), BEFORE, HIGH_IS_BETTER)
    if side == "high":
        assert score.verdict is verdict
    else:  # 2 of 15 divisions: p = 1 / 15
        assert score.verdict is Verdict.SUPPORTED
        statistic = "p = 0.067 " + statistic
    assert statistic in score.statistic
    assert score.trial_ids == tuple(f"t{number:04d}" for number in range(2, 8))


@pytest.mark.parametrize(
    ("others", "p", "verdict"),
    [
        ((1.0, 0.5, 2.5), "p = 0.100", Verdict.SUPPORTED),  # 2 of 20 divisions are as extreme
        ((1.0, 0.5, 3.5), "p = 0.200", Verdict.UNDECIDED),  # 4 of 20
    ],
)
def test_one_of_ten_by_chance_is_enough_and_one_of_five_is_not(
    others: tuple[float, ...], p: str, verdict: Verdict
) -> None:
    points = [(value, score) for value, score in zip((0.1, 0.05, 0.02), others, strict=True)]
    rows = after((0.2, 2.0), (0.3, 3.0), (0.4, 4.0), *points)
    for direction, wanted in (
        ("better", verdict),
        ("worse", Verdict.REFUTED if verdict is Verdict.SUPPORTED else verdict),
    ):
        score = score_hypothesis(finding(direction=direction), BEFORE, rows)
        assert score.verdict is wanted, direction
        assert p in score.statistic or direction == "worse"


def test_trials_that_were_known_before_decide_nothing() -> None:
    score = score_hypothesis(finding(), HIGH_IS_BETTER, HIGH_IS_BETTER)
    assert score.verdict is Verdict.UNDECIDED
    assert score.statistic.startswith("too few trials: 0 new trials")


def test_a_trial_that_diverged_is_worse_than_any_score() -> None:
    rows = after((0.2, None), (0.3, None), (0.4, None), (0.1, -99.0), (0.05, -98.0), (0.02, -97.0))
    score = score_hypothesis(finding(direction="worse"), BEFORE, rows)
    assert score.verdict is Verdict.SUPPORTED
    assert score_hypothesis(finding(), BEFORE, rows).verdict is Verdict.REFUTED


def test_trials_that_were_stopped_or_failed_are_left_out() -> None:
    rows = [*BEFORE]
    for number, state in enumerate([TrialState.PRUNED, TrialState.FAILED] * 4, start=2):
        score = 50.0 if state is TrialState.PRUNED else None
        point: dict[str, Any] = {"meta.inner_lr": 0.2 if number % 4 < 2 else 0.05}
        rows.append(make_trial(number, score, point, state=state, reason="stopped"))
    score = score_hypothesis(finding(), BEFORE, rows)
    assert (score.verdict, score.trial_ids) == (Verdict.UNDECIDED, ())


def test_that_nothing_was_shown_is_no_proof_of_equality() -> None:
    few = after((0.2, 1.0), (0.3, 2.0), (0.05, 1.0), (0.02, 2.0))
    same = finding(direction="same")
    assert score_hypothesis(same, BEFORE, few).verdict is Verdict.UNDECIDED
    many = after(*[(value, float(i)) for value in (0.2, 0.05) for i in range(5)])
    assert score_hypothesis(same, BEFORE, many).verdict is Verdict.SUPPORTED
    equal = after(*[(value, 1.0) for value in (0.2, 0.05) for _ in range(5)])
    assert score_hypothesis(finding(), BEFORE, equal).verdict is Verdict.UNDECIDED


def test_a_choice_is_compared_option_by_option() -> None:
    rows = after(*[(value, float(value) + i) for value in (False, True) for i in (0.0, 0.1, 0.2)])
    renamed = tuple(
        make_trial(row.number, row.score, {"policy.gated": row.knobs["meta.inner_lr"]})
        for row in rows[2:]
    )
    gated = finding("True", "better", "policy.gated")
    assert score_hypothesis(gated, BEFORE, renamed).verdict is Verdict.SUPPORTED
    plain = finding("False", "better", "policy.gated")
    assert score_hypothesis(plain, BEFORE, renamed).verdict is Verdict.REFUTED
