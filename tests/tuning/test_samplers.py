"""The samplers as every search meets them: conditions, what they learn from, and how they go on."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cmaes
import pytest

from ssmrl.config import KnobValue, TrainConfig
from tuning.search.planned_point import PlannedPoint
from tuning.search.searcher import SEARCHERS, StudySearcher, row_name
from tuning.spaces.space import Choice, Condition, Float, Int, SearchSpace
from tuning.table.trial import Trial, TrialState

BASE = TrainConfig(algorithm="promp")
FLAT = SearchSpace(
    {
        "meta.inner_lr": Float(0.01, 1.0, log=True),
        "meta.discount": Float(0.5, 1.0),
        "policy.hidden_dim": Int(16, 128, step=16),
    },
    BASE,
)
CONDITIONAL = SearchSpace(
    {
        "policy.gated": Choice((False, True)),
        "policy.state_dim": Int(8, 128, step=8),
        "policy.method": Choice(("ssm", "gru", "mlp")),
        "meta.inner_lr": Float(0.01, 1.0, log=True),
        "meta.outer_lr": Float(1e-4, 1e-2, log=True),
    },
    BASE,
    {
        "policy.gated": Condition("policy.state_dim", (64, 72, 80, 88, 96, 104, 112, 120, 128)),
        "policy.state_dim": Condition("policy.method", ("ssm",)),
    },
)
Point = dict[str, KnobValue]
BIG = (2**32, 2**70, 2**32)


def search_over(space: SearchSpace, name: str, **changes: Any) -> StudySearcher:
    arguments: dict[str, Any] = {"storage_path": None, "study_name": "s"}
    return StudySearcher(space, name=name, **(arguments | changes))


def distance(space: SearchSpace, point: Point, units: float) -> float:
    """The squared distance on the unit scale to the point with all coordinates ``units``."""
    places = [space.ranges[knob].to_unit(value) for knob, value in point.items()]  # type: ignore[union-attr,arg-type]
    return sum((place - units) ** 2 for place in places)


def rows_of(search: StudySearcher) -> list[Trial]:
    return [
        Trial(row_name(t.number), t.number, TrialState.COMPLETE, t.value, t.params)
        for t in search.study.trials
    ]


def drive(
    search: StudySearcher, num_trials: int, score: Callable[[Point], float | None], prefix: str = ""
) -> list[Point]:
    """Tries points one after another; a score of None is an error."""
    points = []
    for i in range(num_trials):
        name = f"{prefix}{i}"
        points.append(search.suggest(name))
        value = score(points[-1])
        result = {"score": value, "judged_at": 1, "finished": True}
        search.on_trial_complete(name, None if value is None else result, error=value is None)
    return points


@pytest.mark.parametrize("name", SEARCHERS)
def test_no_searcher_sees_or_suggests_an_inactive_knob(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    search = search_over(
        CONDITIONAL, name, initial_points=[PlannedPoint(CONDITIONAL.default_point())]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nor does it tell the terminal what it cannot do
        points = drive(search, 16, lambda point: float(point["meta.inner_lr"]))
    assert all(CONDITIONAL.contains(point) for point in points), points
    for trial, point in zip(search.study.trials, points, strict=True):
        assert trial.params == point
        assert trial.distributions.keys() == point.keys()
    assert {point["policy.method"] for point in points} == {"ssm", "gru", "mlp"}
    assert len({len(point) for point in points}) > 1
    order = list(CONDITIONAL.ranges)
    assert all(list(point) == sorted(point, key=order.index) for point in points)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("name", "num_seeds"), [("tpe", 3), ("gp", 1), ("cmaes", 3)])
def test_a_searcher_that_learns_comes_nearer_than_random(name: str, num_seeds: int) -> None:
    def late(name: str) -> float:
        """Median distance of the last trials over some seeds."""
        distances = []
        for seed in range(num_seeds):
            search = search_over(FLAT, name, seed=seed)
            points = drive(search, 20, lambda point: -distance(FLAT, point, 0.3))
            distances += [distance(FLAT, point, 0.3) for point in points[-6:]]
        return sorted(distances)[len(distances) // 2]

    assert late(name) < 0.5 * late("random")


def test_sobol_fills_the_space_more_evenly_than_chance_and_planned_points_take_no_place() -> None:
    points = drive(search_over(FLAT, "qmc"), 8, lambda point: 0.0)
    for knob in ("meta.inner_lr", "meta.discount"):
        a_range = FLAT.ranges[knob]
        eighths = {int(8 * a_range.to_unit(float(point[knob]))) for point in points}  # type: ignore[union-attr]
        assert eighths == set(range(8)), f"one point in each eighth of {knob}"
    planned = search_over(FLAT, "qmc", initial_points=[PlannedPoint(FLAT.default_point())])
    assert drive(planned, 9, lambda point: 0.0)[1:] == points


@pytest.mark.parametrize("name", SEARCHERS)
def test_a_seed_of_any_size_searches(name: str) -> None:
    """Optuna's samplers know 32 bits of a seed; what a command line gives has no such limit."""
    points = [drive(search_over(CONDITIONAL, name, seed=seed), 4, lambda _: 0.0) for seed in BIG]
    assert points[0] != points[1]
    assert points[0] == points[2]


def test_a_later_study_does_not_begin_the_same_sequence_again() -> None:
    for name in SEARCHERS:
        first = drive(search_over(FLAT, name), 4, lambda point: 0.0)
        second = drive(search_over(FLAT, name, first_number=4), 4, lambda point: 0.0)
        again = drive(search_over(FLAT, name, first_number=4), 4, lambda point: 0.0)
        assert second == again
        assert not {str(point) for point in first} & {str(point) for point in second}, name


def test_cmaes_is_a_function_of_the_trials_and_keeps_no_pickle(tmp_path: Path) -> None:
    def score(point: Point) -> float:
        return -distance(FLAT, point, 0.8)

    def mean_distance(points: list[Point]) -> float:
        return sum(distance(FLAT, point, 0.8) for point in points) / len(points)

    path = tmp_path / "journal.log"
    search = search_over(FLAT, "cmaes", storage_path=path)
    points = drive(search, 28, score)
    # A sampler without a history of its own must take up the shape that the trials gave.
    fresh = search_over(FLAT, "cmaes", storage_path=path, resume=True, recorded=rows_of(search))
    assert mean_distance(drive(fresh, 7, score, prefix="fresh")) < 0.5 * mean_distance(points[:7])
    for trial in fresh.study.trials:
        assert set(trial.user_attrs) <= {"trial_id", "planned", "resumes"}
        assert not any("cma" in key for key in trial.system_attrs)


def test_cmaes_leaves_a_region_of_failures() -> None:
    def score(point: Point) -> float | None:
        place = FLAT.ranges["meta.discount"].to_unit(float(point["meta.discount"]))  # type: ignore[union-attr]
        return None if place > 0.4 else 0.0

    failed = [score(point) is None for point in drive(search_over(FLAT, "cmaes"), 42, score)]
    assert sum(failed[-14:]) < 0.5 * sum(failed[:14])


def test_cmaes_does_not_take_the_death_of_a_driver_for_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    class Recorder(cmaes.CMA):
        def tell(self, solutions: list[Any]) -> None:
            told.append([(x.tolist(), rank) for x, rank in solutions])
            super().tell(solutions)

    monkeypatch.setattr(cmaes, "CMA", Recorder)

    def populations(num_deaths: int) -> list[Any]:
        """What is told before the eighth draw, if the driver died over the fourth."""
        path = tmp_path / f"{num_deaths}.log"
        search = search_over(FLAT, "cmaes", storage_path=path)
        drive(search, 3, score)
        recorded = rows_of(search)
        for _ in range(num_deaths):
            search.suggest("dies")
            search = search_over(FLAT, "cmaes", storage_path=path, resume=True, recorded=recorded)
        drive(search, 4, score, prefix="later")
        told.clear()
        search.suggest("eighth")
        return list(told)

    def score(point: Point) -> float:
        return -distance(FLAT, point, 0.2)

    (population,) = populations(0)
    assert len(population) == 7
    for num_deaths in (1, 2):
        assert populations(num_deaths) == [population]


@pytest.mark.parametrize("num_knobs", [0, 1])
def test_cmaes_copes_with_hardly_any_number(num_knobs: int) -> None:
    ranges: dict[str, Any] = {"meta.first_order": Choice((False, True))}
    ranges |= {"meta.inner_lr": Float(0.01, 1.0)} if num_knobs else {}
    space = SearchSpace(ranges, BASE)
    points = drive(search_over(space, "cmaes"), 20, lambda point: float(len(str(point))))
    assert all(space.contains(point) for point in points)
    assert {point["meta.first_order"] for point in points} == {False, True}
