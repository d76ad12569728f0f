"""Early stopping: by env steps, and not of what has to be compared."""

from typing import Any
from unittest.mock import Mock, call, create_autospec

import pytest
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tuning.scheduler import Sparing, make_scheduler, trains_again
from tuning.table.trial import Trial, TrialState


class FakeTrial:
    def __init__(self, trial_id: str, **config: Any) -> None:
        self.trial_id, self.config = trial_id, config


def decide(scheduler: TrialScheduler, trial: FakeTrial, env_steps: int, score: float) -> str:
    return str(scheduler.on_trial_result(None, trial, {"env_steps": env_steps, "score": score}))


def with_trials(*trials: FakeTrial) -> TrialScheduler:
    scheduler = make_scheduler("asha", max_steps=1000)
    for trial in trials:
        scheduler.on_trial_add(None, trial)
    return scheduler


def test_it_judges_by_env_steps() -> None:
    a, b, c = FakeTrial("a"), FakeTrial("b"), FakeTrial("c")
    scheduler = with_trials(a, b, c)
    assert decide(scheduler, a, 249, -100.0) == "CONTINUE"
    assert decide(scheduler, a, 250, 1.0) == "CONTINUE"
    assert decide(scheduler, b, 249, -100.0) == "CONTINUE", "before the grace period"
    assert decide(scheduler, b, 250, 0.0) == "STOP"
    assert decide(scheduler, c, 250, 2.0) == "CONTINUE"
    assert decide(scheduler, c, 1000, 3.0) == "STOP", "the budget is spent"


def test_before_a_quarter_of_the_budget_nobody_is_stopped() -> None:
    """However much worse: a first iteration says little of the last one."""
    good, bad = FakeTrial("a"), FakeTrial("b")
    scheduler = with_trials(good, bad)
    for env_steps in (1, 2, 10, 100, 200, 249):
        assert decide(scheduler, good, env_steps, 1.0) == "CONTINUE"
        assert decide(scheduler, bad, env_steps, -100.0) == "CONTINUE", env_steps
    assert decide(scheduler, good, 250, 1.0) == "CONTINUE"
    assert decide(scheduler, bad, 250, -100.0) == "STOP"


def test_it_judges_again_at_half_of_the_budget_and_lets_the_better_half_go_on() -> None:
    trials = [FakeTrial(name) for name in "abcd"]
    scheduler = with_trials(*trials)
    for place, trial in enumerate(trials):
        assert decide(scheduler, trial, 250, float(place)) == "CONTINUE", "each better than before"
    late = dict(zip("abcd", (5.0, 4.0, 6.0, 4.5), strict=True))
    told = [decide(scheduler, trial, 500, late[trial.trial_id]) for trial in trials]
    assert told == ["CONTINUE", "STOP", "CONTINUE", "STOP"]


def test_a_repetition_under_a_seed_of_its_own_goes_on_and_stops_nobody() -> None:
    first, again, other = FakeTrial("a"), FakeTrial("b", seed=7), FakeTrial("c")
    scheduler = with_trials(first, again, other)
    assert decide(scheduler, again, 250, 5.0) == "CONTINUE"
    assert decide(scheduler, first, 250, 1.0) == "CONTINUE", "compared with nobody yet"
    assert decide(scheduler, again, 500, -100.0) == "CONTINUE"
    assert decide(scheduler, other, 250, 0.0) == "STOP"
    scheduler.on_trial_complete(None, again, {"env_steps": 1000, "score": 1.0})
    scheduler.on_trial_complete(None, first, {"env_steps": 1000, "score": 1.0})


RETURNS = {"a": (1.0, 5.0), "b": (2.0, 4.0), "c": (3.0, 6.0), "d": (0.5, 9.0), "e": (4.0, 4.5)}


def told(result: list[tuple[int, float]]) -> dict[str, Any]:
    """What a trial reports after so many evaluations."""
    curve = tuple((env_steps, 0.0, score) for env_steps, score in result)
    return {"env_steps": result[-1][0], "score": result[-1][1], "curve": curve}


def ended(name: str, curve: list[tuple[int, float]]) -> Trial:
    """The row of a trial that stopped there."""
    points = tuple((env_steps, 0.0, score) for env_steps, score in curve)
    return Trial(name, 0, TrialState.PRUNED, curve[-1][1], {}, curve=points)


def one_after_another(died_in: tuple[str, int] | None) -> dict[str, int]:
    """At which of two evaluations each trial was stopped, one at a time; 3 if at none.

    Args:
        died_in: In which trial, and after how many of its evaluations, the driver was killed.
    """
    scheduler, rows, stopped = with_trials(), list[Trial](), dict[str, int]()
    for name, returns in RETURNS.items():
        curve = [(250, returns[0]), (500, returns[1])]
        trial = FakeTrial(name)
        scheduler.on_trial_add(None, trial)
        stopped[name] = 3
        for number in (1, 2):
            if died_in == (name, number - 1):
                scheduler = make_scheduler("asha", max_steps=1000, earlier=rows)
                scheduler.on_trial_add(None, trial)
            result = told(curve[:number])
            if scheduler.on_trial_result(None, trial, result) == TrialScheduler.STOP:
                stopped[name] = number
                break
        rows.append(ended(name, curve[: min(2, stopped[name])]))
    return stopped


@pytest.mark.parametrize("name", RETURNS)
@pytest.mark.parametrize("num_evaluations", [0, 1])
def test_a_sweep_that_goes_on_stops_what_an_undisturbed_one_stops(
    name: str, num_evaluations: int
) -> None:
    undisturbed = one_after_another(None)
    assert undisturbed == {"a": 3, "b": 2, "c": 3, "d": 1, "e": 2}
    assert one_after_another((name, num_evaluations)) == undisturbed


def test_a_point_that_was_reported_before_the_driver_died_is_compared_with() -> None:
    first, other = FakeTrial("a"), FakeTrial("b")
    scheduler = with_trials(first, other)
    scheduler.on_trial_result(None, first, told([(250, 9.0), (500, 1.0)]))
    assert decide(scheduler, other, 250, 5.0) == "STOP"


def test_whatever_is_called_the_score_is_what_trials_are_compared_by() -> None:
    earlier = [ended("earlier", [(250, 5.0), (500, 7.0)])]
    scheduler = make_scheduler("asha", max_steps=1000, metric="gain", earlier=earlier)
    trial = FakeTrial("a")
    scheduler.on_trial_add(None, trial)
    curve = ((250, 0.0, 6.0), (500, 0.0, 6.5))
    for number, decision in ((1, "CONTINUE"), (2, "STOP")):
        env_steps, _, gain = curve[number - 1]
        result = {"env_steps": env_steps, "gain": gain, "curve": curve[:number]}
        assert scheduler.on_trial_result(None, trial, result) == decision


def inner_and_sparing() -> tuple[Mock, Sparing]:
    inner = create_autospec(TrialScheduler, instance=True)
    inner.on_trial_result.return_value = TrialScheduler.CONTINUE
    return inner, Sparing(inner, trains_again, metric="gain")


def test_the_other_scheduler_is_asked_the_same_but_not_about_what_is_spared() -> None:
    inner, scheduler = inner_and_sparing()
    controller, trial, spared, result = (
        object(),
        FakeTrial("a"),
        FakeTrial("b", seed=7),
        {"gain": 1},
    )
    scheduler.set_search_properties("gain", "max", points=3)
    for each in (trial, spared):
        scheduler.on_trial_add(controller, each)
        scheduler.on_trial_result(controller, each, result)
        scheduler.on_trial_error(controller, each)
        scheduler.on_trial_complete(controller, each, result)
        scheduler.on_trial_remove(controller, each)
    assert scheduler.choose_trial_to_run(controller) is inner.choose_trial_to_run.return_value
    assert inner.method_calls == [
        call.set_search_properties("gain", "max", points=3),
        call.on_trial_add(controller, trial),
        call.on_trial_result(controller, trial, result),
        call.on_trial_error(controller, trial),
        call.on_trial_complete(controller, trial, result),
        call.on_trial_remove(controller, trial),
        call.choose_trial_to_run(controller),
    ]


@pytest.mark.parametrize(
    ("reports", "wanted"),
    [
        ((1, 2, 3), (1, 2, 3)),
        ((2, 5), (1, 2, 3, 4, 5)),
        ((3, 2, 4), (1, 2, 3, 2, 4)),  # begun again from a checkpoint before its last report
        ((0, 2, 3), (0, 1, 2, 3)),  # nothing was evaluated at first
    ],
)
def test_each_evaluation_is_told_once_in_its_order_as_a_result_of_its_trial(
    reports: tuple[int, ...], wanted: tuple[int, ...]
) -> None:
    inner, scheduler = inner_and_sparing()
    controller, trial = object(), FakeTrial("a")
    curve = tuple((250 * number, 0.0, float(number)) for number in range(1, 6))
    for number in reports:
        result = {"env_steps": 250 * number, "gain": float(number), "curve": curve[:number]}
        if not number:
            del result["curve"]
        scheduler.on_trial_result(controller, trial, result | {"trial_id": "a"})
    asked = [each.args for each in inner.on_trial_result.call_args_list]
    assert [(each[0], each[1]) for each in asked] == [(controller, trial)] * len(wanted)
    results = [(each[2]["env_steps"], each[2]["gain"], each[2]["trial_id"]) for each in asked]
    assert results == [(250 * number, float(number), "a") for number in wanted]


def test_bad_input_is_refused() -> None:
    assert type(make_scheduler("none", max_steps=1)) is FIFOScheduler
    make_scheduler("asha", max_steps=1)
    with pytest.raises(ValueError, match="at least 1, but got 0"):
        make_scheduler("asha", max_steps=0)
    with pytest.raises(KeyError, match="the schedulers are: asha, none"):
        make_scheduler("pbt", max_steps=100)
