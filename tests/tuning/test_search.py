"""The searcher, driven by hand as Tune drives it: what is suggested, told, and taken up again."""

import pickle
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState as StudyState

from ssmrl.config import KnobValue, TrainConfig
from tuning.search.planned_point import PlannedPoint
from tuning.search.searcher import (
    SEARCHERS,
    StudySearcher,
    open_storage,
    repair_journal,
    row_name,
)
from tuning.spaces.space import Choice, Float, Int, SearchSpace
from tuning.table.trial import Trial, TrialState, TrialTable

NAN = float("nan")
SPACE = SearchSpace(
    {
        "policy.state_dim": Int(8, 128, step=8),
        "meta.inner_lr": Float(0.01, 1.0, log=True),
        "meta.first_order": Choice((False, True)),
    },
    TrainConfig(algorithm="promp"),
)
OTHER_POINT = {"policy.state_dim": 16, "meta.inner_lr": 0.5, "meta.first_order": True}


def searcher(folder: Path, **changes: Any) -> StudySearcher:
    arguments: dict[str, Any] = {
        "storage_path": folder / "journal.log",
        "study_name": "s",
        "initial_points": [PlannedPoint(SPACE.default_point())],
    }
    return StudySearcher(SPACE, **(arguments | changes))


def result(score: float, step: int = 1, **more: Any) -> dict[str, Any]:
    return {"score": score, "judged_at": step, **more}


def reopened(folder: Path, journal: str = "journal.log") -> optuna.Study:
    return optuna.load_study(study_name="s", storage=open_storage(folder / journal))


def row(number: int, state: TrialState, score: float | None, knobs: dict[str, KnobValue]) -> Trial:
    reason = "" if state is TrialState.COMPLETE else "told so"
    return Trial(row_name(number), number, state, score, knobs, iterations=2, reason=reason)


@pytest.mark.parametrize("name", SEARCHERS)
def test_every_searcher_starts_with_the_initial_points(tmp_path: Path, name: str) -> None:
    first = [SPACE.default_point(), OTHER_POINT]
    search = searcher(tmp_path, name=name, initial_points=[PlannedPoint(point) for point in first])
    points = []
    for i in range(6):
        points.append(search.suggest(f"x{i}"))
        assert search.number(f"x{i}") == i
        search.on_trial_complete(f"x{i}", result(float(i), finished=True))
    assert points[:2] == first
    assert all(type(point["policy.state_dim"]) is int for point in points)
    assert len({str(point) for point in points}) == 6


@pytest.mark.parametrize("name", SEARCHERS)
def test_one_seed_gives_one_sequence_and_a_resumed_one_goes_on(tmp_path: Path, name: str) -> None:
    def draw(search: StudySearcher, num_points: int, prefix: str) -> list[str]:
        drawn = []
        for i in range(num_points):
            drawn.append(str(search.suggest(f"{prefix}{i}")))
            search.on_trial_complete(f"{prefix}{i}", result(float(i), finished=True))
        return drawn

    a = {"name": name, "storage_path": tmp_path / "a"}
    first = draw(searcher(tmp_path, **a), 5, "x")
    again = draw(searcher(tmp_path, name=name, storage_path=tmp_path / "b"), 5, "x")
    other = draw(searcher(tmp_path, name=name, storage_path=tmp_path / "c", seed=1), 5, "x")
    assert first == again
    assert first[1:] != other[1:]
    trials = reopened(tmp_path, "a").trials
    rows = [row(t.number, TrialState.COMPLETE, float(t.number), t.params) for t in trials]
    later = draw(searcher(tmp_path, **a, resume=True, recorded=rows), 4, "y")
    assert not set(first) & set(later), "a resumed searcher drew the same points again"


@pytest.mark.parametrize("name", SEARCHERS)
def test_a_sweep_whose_driver_dies_over_every_trial_tries_the_same_points(
    tmp_path: Path, name: str
) -> None:
    def drawn(folder: Path, *, dies: bool) -> list[tuple[int, str]]:
        folder.mkdir()
        search, rows, told = searcher(folder, name=name), list[Trial](), list[tuple[int, str]]()
        for i in range(8):
            point = search.suggest(f"a{i}")
            if dies:
                search = searcher(folder, name=name, resume=True, recorded=rows)
                assert search.suggest(f"b{i}") == point
            trial = f"b{i}" if dies else f"a{i}"
            score = -float(point["meta.inner_lr"])
            search.on_trial_complete(trial, result(score, finished=True))
            rows.append(row(search.number(trial), TrialState.COMPLETE, score, point))
            told.append((search.number(trial), str(point)))
        return told

    assert drawn(tmp_path / "dies", dies=True) == drawn(tmp_path / "lives", dies=False)


def test_a_driver_that_dies_while_it_chooses_leaves_no_gap_in_the_numbers(tmp_path: Path) -> None:
    dead = searcher(tmp_path)
    point = dead.suggest("a")
    dead.on_trial_complete("a", result(1.0, finished=True))
    dead.study.ask()  # which has no knob yet, and no name
    alive = searcher(tmp_path, resume=True, recorded=[row(0, TrialState.COMPLETE, 1.0, point)])
    (tmp_path / "undisturbed").mkdir()
    other = searcher(tmp_path / "undisturbed")
    other.suggest("a")
    other.on_trial_complete("a", result(1.0, finished=True))
    assert [alive.suggest(name) for name in "bc"] == [other.suggest(name) for name in "bc"]
    assert [alive.number(name) for name in "bc"] == [1, 2]


def test_journal_and_table_agree(tmp_path: Path) -> None:
    search, table = searcher(tmp_path), TrialTable(tmp_path / "trials.jsonl")
    points = {name: search.suggest(name) for name in "abcdef"}
    # COMPLETE, with the last metric and not a better one before it.
    search.on_trial_result("a", result(9.5, 1))
    search.on_trial_complete("a", result(3.25, 2, finished=True))
    # Stopped at a result that Tune did not pass to on_trial_result.
    search.on_trial_result("b", result(1.0, 1))
    search.on_trial_complete("b", result(2.0, 2, finished=False))
    search.on_trial_complete("c", error=True)
    search.on_trial_result("d", result(50.0, 1))
    search.on_trial_result("d", result(NAN, 2))
    search.on_trial_complete("d", result(NAN, 2, finished=True))
    search.on_trial_complete("e", result(99.0, 1, finished=True, diverged=True))
    search.on_trial_complete("f")  # was pending when the sweep stopped
    states = ["COMPLETE", "PRUNED", "FAILED", "DIVERGED", "DIVERGED", "FAILED"]
    scores = [3.25, 2.0, None, None, None, None]
    for name, state, score in zip("abcdef", states, scores, strict=True):
        table.append(row(search.number(name), TrialState(state), score, points[name]))
    trials = reopened(tmp_path).trials
    failed = {"FAILED", "DIVERGED"}
    for trial, kept in zip(trials, table.rows, strict=True):
        assert trial.state.name == ("FAIL" if kept.state in failed else kept.state)
        assert trial.value == kept.score
        assert trial.params == kept.knobs
        assert trial.user_attrs["trial_id"] == kept.trial_id
    assert trials[3].intermediate_values == {1: 50.0}
    assert reopened(tmp_path).best_trial.number == 0
    assert table.best() == table.rows[0]


def test_iterations_that_a_restarted_trial_repeats_are_not_reported_twice(tmp_path: Path) -> None:
    search = searcher(tmp_path)
    search.suggest("a")
    for step, score in [(1, 1.0), (2, 2.0), (2, 7.0), (3, 3.0)]:
        search.on_trial_result("a", result(score, step))
    search.on_trial_complete("a", result(3.0, 3))
    (trial,) = reopened(tmp_path).trials
    assert trial.intermediate_values == {1: 1.0, 2: 2.0, 3: 3.0}


def test_resume_keeps_what_ended_and_repeats_what_was_left(tmp_path: Path) -> None:
    dead = searcher(
        tmp_path, initial_points=[PlannedPoint(SPACE.default_point()), PlannedPoint(OTHER_POINT)]
    )
    points = [dead.suggest(name) for name in "abcde"]
    dead.on_trial_complete("a", result(1.0, finished=True))
    dead.on_trial_complete("c", result(2.0, finished=True))  # killed before its row was written
    rows = [
        row(0, TrialState.COMPLETE, 1.0, points[0]),
        row(3, TrialState.COMPLETE, 4.0, points[3]),  # killed before the study was told
        row(4, TrialState.PRUNED, 5.0, points[4]),
    ]
    alive = searcher(tmp_path, resume=True, recorded=rows)
    assert [stale.number for stale in alive.requeued] == [1, 2]
    trials = reopened(tmp_path).trials
    assert [trial.state.name for trial in trials[:5]] == [
        *("COMPLETE", "FAIL", "COMPLETE", "COMPLETE", "PRUNED")
    ]
    assert [trial.value for trial in trials[:5]] == [1.0, None, 2.0, 4.0, 5.0]
    assert [alive.suggest("x"), alive.suggest("y")] == [OTHER_POINT, points[2]]
    new = alive.suggest("z")
    assert new not in points
    assert [alive.number(name) for name in "xyz"] == [1, 2, 5], "what is repeated keeps its number"
    # Killed again before anything ended: only the repeats are repeated, not what they repeat.
    last = searcher(tmp_path, resume=True, recorded=rows)
    assert [stale.number for stale in last.requeued] == [1, 2, 5]
    assert [last.suggest(name) for name in "xyz"] == [OTHER_POINT, points[2], new]


def test_a_point_that_waited_when_the_driver_died_is_tried_once(tmp_path: Path) -> None:
    searcher(
        tmp_path, initial_points=[PlannedPoint(SPACE.default_point()), PlannedPoint(OTHER_POINT)]
    )
    alive = searcher(
        tmp_path,
        initial_points=[PlannedPoint(SPACE.default_point()), PlannedPoint(OTHER_POINT)],
        resume=True,
    )
    assert alive.requeued == ()
    points = [alive.suggest(name) for name in "abc"]
    assert points[:2] == [SPACE.default_point(), OTHER_POINT]
    assert points[2] not in points[:2]


def test_killed_driver_leaves_a_torn_journal_and_a_lock(tmp_path: Path) -> None:
    search = searcher(tmp_path)
    search.suggest("a")
    search.on_trial_complete("a", result(1.5, finished=True))
    journal = tmp_path / "journal.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":4,"wor')
    (tmp_path / "journal.log.lock").symlink_to(journal)
    start = time.monotonic()
    with pytest.warns(UserWarning, match="torn"):
        search = searcher(tmp_path, resume=True)
    search.suggest("b")
    assert time.monotonic() - start < 10, "waited for the lock of a dead driver"
    assert [trial.value for trial in reopened(tmp_path).trials] == [1.5, None]
    assert (tmp_path / "journal.log.torn").read_bytes() == b'{"op_code":4,"wor\n'


def test_damage_inside_of_the_journal_is_named(tmp_path: Path) -> None:
    journal = tmp_path / "journal.log"
    journal.write_bytes(b'{"a":1}\n{"a":\xff}\n{"a":3}\n')
    with pytest.raises(ValueError, match=r"line 2 is b'\{\"a\":"):
        repair_journal(journal)
    assert journal.read_bytes().count(b"\n") == 3


def test_two_sweeps_do_not_merge(tmp_path: Path) -> None:
    searcher(tmp_path)
    with pytest.raises(ValueError, match="must be new, but the journal has a study 's'"):
        searcher(tmp_path)
    narrower = SearchSpace({"meta.inner_lr": Float(0.1, 0.2)}, TrainConfig(algorithm="promp"))
    with pytest.raises(ValueError, match="another search space"):
        StudySearcher(narrower, storage_path=tmp_path / "journal.log", study_name="s", resume=True)


def test_unknown_names_list_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="'bohb'; the searchers are: tpe, gp, cmaes, qmc, random"):
        searcher(tmp_path, name="bohb")
    with pytest.raises(ValueError, match="must lie inside of the search space"):
        searcher(tmp_path, initial_points=[PlannedPoint(OTHER_POINT | {"policy.state_dim": 9})])
    assert not (tmp_path / "journal.log").exists(), "bad input must not leave a journal"


def test_a_write_that_optuna_search_swallows_is_not_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = searcher(tmp_path)
    search.suggest("a")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(optuna.Study, "tell", refuse)
    with pytest.raises(RuntimeError, match="still RUNNING"):
        search.on_trial_complete("a", result(1.0, finished=True))


def test_searcher_survives_what_tune_does_to_it(tmp_path: Path) -> None:
    search = searcher(tmp_path)
    point = search.suggest("a")
    assert search.suggest("a") == point, "the same id must get the same point"
    search.save_to_dir(str(tmp_path), "session")
    assert [path.name for path in tmp_path.iterdir()] == ["journal.log"]
    copy = pickle.loads(pickle.dumps(search))  # Tune pickles its configuration
    copy.on_trial_complete("a", result(1.0, finished=True))
    assert reopened(tmp_path).trials[0].state is StudyState.COMPLETE


@pytest.mark.parametrize("name", ["tpe", "random"])
def test_of_trials_stopped_at_equal_env_steps_the_worse_never_ranks_above(
    tmp_path: Path, name: str
) -> None:
    """Iterations differ in length, and Optuna's samplers rank by the step before the score."""
    search = searcher(tmp_path, name=name)
    short_iterations = {"training_iteration": 40, "env_steps": 5000}
    long_iterations = {"training_iteration": 3, "env_steps": 5600}
    for trial_id, score, more in [("a", 1.0, short_iterations), ("b", 2.0, long_iterations)]:
        search.suggest(trial_id)
        search.on_trial_result(trial_id, result(score, 5000, **more))
        search.on_trial_complete(trial_id, result(score, 5000, **more, finished=False))
    worse, better = reopened(tmp_path).trials
    assert worse.state == better.state == StudyState.PRUNED
    assert worse.last_step == better.last_step == 5000  # so the score decides
    assert worse.value < better.value
    order = sorted([worse, better], key=lambda t: (-t.last_step, -t.value))
    assert order == [better, worse]


def test_a_later_round_learns_the_same_order(tmp_path: Path) -> None:
    """Rows of an earlier round enter the study at the env steps that their scores stand for."""
    points = [SPACE.default_point(), OTHER_POINT]
    earlier = [
        Trial(
            row_name(number),
            number,
            TrialState.PRUNED,
            score,
            points[number],
            iterations=iterations,
            reason="stopped by the scheduler",
            judged_at=5000,
        )
        for number, (score, iterations) in enumerate([(1.0, 40), (2.0, 3)])
    ]
    search = searcher(tmp_path, imports=earlier, first_number=2)
    assert [t.intermediate_values for t in search.study.trials[:2]] == [{5000: 1.0}, {5000: 2.0}]


@pytest.mark.parametrize("name", ["random", "qmc"])
def test_a_draw_that_learns_nothing_does_not_depend_on_who_ends_first(name: str) -> None:
    """So a sweep of these, whose trials nobody stops, is the same with any number at once."""

    def points(at_once: int) -> list[dict[str, KnobValue]]:
        search = StudySearcher(SPACE, name=name, storage_path=None, study_name="s")
        found, running = [], []
        for number in range(6):
            found.append(search.suggest(f"id{number}"))
            running.append(f"id{number}")
            if len(running) == at_once:
                search.on_trial_complete(running.pop(), result(1.0, finished=True))
        return found

    assert points(1) == points(2) == points(6)
