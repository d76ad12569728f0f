"""Searches over several rounds: what a study takes from earlier rows, and points outside of it."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState as StudyState

from ssmrl.config import KnobValue, TrainConfig
from tuning.search.planned_point import PlannedPoint
from tuning.search.searcher import SEARCHERS, StudySearcher, open_storage, row_name
from tuning.search.study import import_rows, open_study
from tuning.spaces.space import Choice, Condition, Float, Int, SearchSpace
from tuning.table.trial import Trial, TrialState

Point = dict[str, KnobValue]
FIRST = SearchSpace(
    {
        "policy.method": Choice(("ssm", "gru")),
        "policy.state_dim": Int(8, 128, step=8),
        "meta.inner_lr": Float(0.01, 1.0, log=True),
    },
    TrainConfig(algorithm="promp"),
    {"policy.state_dim": Condition("policy.method", ("ssm",))},
)
SECOND = FIRST.replace_ranges({"meta.inner_lr": Float(0.05, 5.0, log=True)})
INSIDE: Point = {"policy.method": "gru", "meta.inner_lr": 0.5}
OUTSIDE: Point = {"policy.method": "gru", "meta.inner_lr": 0.02}


def row(number: int, state: TrialState, score: float | None, knobs: Point, **more: Any) -> Trial:
    reason = "" if state is TrialState.COMPLETE else "told so"
    return Trial(row_name(number), number, state, score, knobs, reason=reason, **more)


EARLIER = [
    row(0, TrialState.COMPLETE, 3.25, FIRST.default_point()),
    row(1, TrialState.COMPLETE, 9.0, OUTSIDE),
    row(2, TrialState.PRUNED, 1.5, INSIDE, judged_at=7),
    row(3, TrialState.PRUNED, None, INSIDE | {"meta.inner_lr": 0.7}),
    row(5, TrialState.DIVERGED, None, INSIDE | {"meta.inner_lr": 1.0}),
    row(6, TrialState.FAILED, None, {"policy.method": "ssm", "meta.inner_lr": 0.3}),
]


def second_round(folder: Path | None, **changes: Any) -> StudySearcher:
    arguments: dict[str, Any] = {
        "storage_path": folder and folder / "journal.log",
        "study_name": "round-1",
        "initial_points": [PlannedPoint(INSIDE)],
        "imports": EARLIER,
        "first_number": 7,
    }
    return StudySearcher(SECOND, **(arguments | changes))


def result(score: float, step: int = 1, **more: Any) -> dict[str, Any]:
    return {"score": score, "judged_at": step, "finished": True, **more}


def reopened(folder: Path, study_name: str = "round-1") -> optuna.Study:
    return optuna.load_study(study_name=study_name, storage=open_storage(folder / "journal.log"))


def test_earlier_rows_inside_of_the_space_begin_the_study(tmp_path: Path) -> None:
    second_round(tmp_path)
    *imported, waiting = reopened(tmp_path).trials
    # Row 1 lies outside of the ranges, and row 6 lacks a knob of its method.
    assert [trial.user_attrs["imported"] for trial in imported] == [
        *("t0000", "t0002", "t0003", "t0005")
    ]
    states = [trial.state.name for trial in imported]
    assert states == ["COMPLETE", "PRUNED", "PRUNED", "FAIL"]
    assert [trial.value for trial in imported] == [3.25, 1.5, None, None]
    assert [trial.intermediate_values for trial in imported] == [{}, {7: 1.5}, {}, {}]
    assert [trial.params for trial in imported] == [EARLIER[i].knobs for i in (0, 2, 3, 4)]
    assert waiting.state is StudyState.WAITING


def test_rows_go_on_in_one_table_and_imports_are_not_among_them(tmp_path: Path) -> None:
    first = StudySearcher(FIRST, storage_path=tmp_path / "journal.log", study_name="round-0")
    first.suggest("x")
    assert first.number("x") == 0
    search = second_round(tmp_path)
    assert search.suggest("x") == INSIDE
    assert search.suggest("y") != INSIDE
    assert [search.number("x"), search.number("y")] == [7, 8]
    search.on_trial_complete("y", result(4.0))
    own = reopened(tmp_path).trials[4:]
    assert [trial.user_attrs["trial_id"] for trial in own] == ["t0007", "t0008"]
    assert all("imported" not in trial.user_attrs for trial in own)
    assert [trial.value for trial in own] == [None, 4.0]
    assert len(reopened(tmp_path, "round-0").trials) == 1, "the rounds have studies of their own"


@pytest.mark.parametrize("name", ["tpe", "gp", "cmaes"])
def test_a_sampler_learns_from_imported_rows(name: str) -> None:
    space = FIRST.replace_ranges({"meta.inner_lr": Float(1e-4, 1.0, log=True)})
    a_range = space.ranges["meta.inner_lr"]

    def median_place(imports: list[Trial]) -> float:
        search = StudySearcher(
            space, name=name, storage_path=None, study_name="s", imports=imports, first_number=20
        )
        places = []
        for i in range(4):
            point = search.suggest(str(i))
            places.append(a_range.to_unit(float(point["meta.inner_lr"])))  # type: ignore[union-attr]
        return sum(sorted(places)[1:3]) / 2

    lrs = [a_range.from_unit(i / 19) for i in range(20)]  # type: ignore[union-attr]
    points: list[Point] = [{"policy.method": "gru", "meta.inner_lr": lr} for lr in lrs]
    high = [row(i, TrialState.COMPLETE, float(i), point) for i, point in enumerate(points)]
    low = [row(i, TrialState.COMPLETE, -float(i), point) for i, point in enumerate(points)]
    assert median_place(high) > 0.2 + median_place(low), "the seed is the same, the scores differ"


def test_a_point_outside_is_tried_exactly_and_not_learnt(tmp_path: Path) -> None:
    def drive(search: StudySearcher, score: float) -> list[Point]:
        points = []
        for i in range(9):
            if i == 6:
                search.enqueue(OUTSIDE, outside=True)
                assert search.suggest("outside") == OUTSIDE == search.suggest("outside")
                assert search.number("outside") == 7 + i
                search.on_trial_result("outside", result(score))
                search.on_trial_complete("outside", result(score, 2))
            points.append(search.suggest(str(i)))
            search.on_trial_result(str(i), result(1.0))
            search.on_trial_complete(str(i), result(float(i), 2))
        return points

    other = second_round(tmp_path, storage_path=tmp_path / "other.log")
    assert drive(second_round(tmp_path), 1e9) == drive(other, -1e9)
    (trial,) = [t for t in reopened(tmp_path).trials if "outside" in t.user_attrs]
    assert trial.state is StudyState.FAIL
    assert (trial.params, trial.intermediate_values) == ({}, {})
    assert trial.user_attrs == {"outside": True, "planned": OUTSIDE, "trial_id": "t0013"}
    assert reopened(tmp_path).best_value == 8.0


@pytest.mark.parametrize("name", SEARCHERS)
def test_every_searcher_goes_on_beside_points_outside(name: str) -> None:
    search = second_round(None, name=name)
    for i in range(14):
        if i % 4 == 2:
            search.enqueue(OUTSIDE, outside=True)
        point = search.suggest(str(i))
        assert point == OUTSIDE if i % 4 == 2 else SECOND.contains(point)
        search.on_trial_complete(str(i), result(float(i)) if i % 3 else None, error=not i % 3)


def test_a_point_that_is_called_outside_but_is_not_is_learnt() -> None:
    search = second_round(None, initial_points=[])
    search.enqueue(INSIDE, outside=True)
    assert search.suggest("x") == INSIDE
    search.on_trial_complete("x", result(2.0))
    assert search.study.trials[-1].value == 2.0


def test_a_point_that_no_configuration_accepts_is_not_outside_but_wrong() -> None:
    search = second_round(None)
    with pytest.raises(ValueError, match="must lie inside of the search space"):
        search.enqueue(OUTSIDE)
    for knobs, error, message in [
        ({"meta.inner_lr": -1.0}, ValueError, "`meta.inner_lr` must be positive"),
        ({"meta.inner_lr": "fast"}, TypeError, "must be of type float"),
        ({"meta.lr": 0.1}, KeyError, "unknown knob 'meta.lr'"),
        ({"seed": 3}, ValueError, "must still have the knobs"),
        ({"policy.state_dim": 6}, ValueError, "must still have the knobs"),  # gru has none
    ]:
        with pytest.raises(error, match=message):
            search.enqueue(OUTSIDE | knobs, outside=True)


def test_resume_repeats_what_was_left_of_this_round_alone(tmp_path: Path) -> None:
    dead = second_round(tmp_path)
    dead.enqueue(OUTSIDE, outside=True)
    dead.enqueue(OUTSIDE | {"meta.inner_lr": 0.03}, outside=True)
    points = [dead.suggest(name) for name in "abcd"]
    dead.on_trial_complete("a", result(1.0))  # killed before its row was written
    rows = [
        *EARLIER,
        row(9, TrialState.COMPLETE, 99.0, points[2]),  # outside; the study was not told
        row(10, TrialState.COMPLETE, 4.0, points[3]),
    ]
    alive = second_round(tmp_path, resume=True, recorded=rows)
    left = [(stale.number, stale.knobs, stale.outside) for stale in alive.requeued]
    assert left == [(7, INSIDE, False), (8, OUTSIDE, True)]
    own = reopened(tmp_path).trials[4:]
    assert [trial.state.name for trial in own] == [
        *("COMPLETE", "FAIL", "FAIL", "COMPLETE", "WAITING", "WAITING")
    ]
    assert [alive.suggest("x"), alive.suggest("y")] == [INSIDE, OUTSIDE]
    assert [alive.number("x"), alive.number("y")] == [7, 8]
    again = second_round(tmp_path, resume=True, recorded=rows)
    assert [stale.number for stale in again.requeued] == [7, 8]
    assert [again.suggest("x"), again.suggest("y")] == [INSIDE, OUTSIDE]
    with pytest.raises(ValueError, match="must stay what it was when the study began, with row t0"):
        second_round(tmp_path, resume=True, recorded=rows, first_number=8)


@pytest.mark.parametrize("num_imported", [0, 1, 3])
def test_a_driver_that_died_while_it_began_a_study_begins_it_to_the_end(
    tmp_path: Path, num_imported: int
) -> None:
    study = open_study(open_storage(tmp_path / "journal.log"), "round-1", SECOND, resume=False)
    import_rows(study, SECOND, EARLIER[:num_imported])
    points = [INSIDE, INSIDE | {"meta.inner_lr": 0.9}]
    second_round(tmp_path, resume=True, initial_points=[PlannedPoint(points[0])])
    search = second_round(
        tmp_path, resume=True, initial_points=[PlannedPoint(point) for point in points]
    )
    trials = reopened(tmp_path).trials
    assert [trial.user_attrs.get("imported") for trial in trials] == [
        *("t0000", "t0002", "t0003", "t0005", None, None)
    ]
    assert [search.suggest("x"), search.suggest("y")] == points
    assert [search.number("x"), search.number("y")] == [7, 8]


def test_a_planned_point_survives_a_death_in_the_middle_of_its_suggestion(tmp_path: Path) -> None:
    search = second_round(tmp_path, initial_points=[PlannedPoint(SECOND.default_point())])
    trial = search.study.ask()  # begun, and not one of its knobs suggested
    assert trial.params == {}
    alive = second_round(tmp_path, resume=True, recorded=EARLIER)
    assert [stale.knobs for stale in alive.requeued] == [SECOND.default_point()]
    assert alive.suggest("x") == SECOND.default_point()


def test_a_study_in_memory_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    search = second_round(None)
    assert search.suggest("x") == INSIDE
    search.on_trial_complete("x", result(1.0))
    assert search.study.trials[-1].value == 1.0
    assert list(tmp_path.iterdir()) == []


def test_numbers_begin_at_zero_or_later() -> None:
    with pytest.raises(ValueError, match="`first_number` must be at least 0, but got -1"):
        second_round(None, first_number=-1)
