"""A sweep is its id and its rows: wherever its folder goes, whatever becomes of its journal."""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from tuning.engine import Sweep
from tuning.plan import SweepPlan
from tuning.rounds import next_round
from tuning.search.planned_point import PlannedPoint
from tuning.search.searcher import StudySearcher
from tuning.table.trial import Trial, TrialState


@pytest.mark.parametrize("how", ["copied", "renamed", "linked", "stays"])
def test_an_unfinished_sweep_goes_on_wherever_its_folder_is(how: str, tmp_path: Path) -> None:
    plan = SweepPlan("point", algorithm="promp").begun()
    folder, other = tmp_path / "a", tmp_path / "b"
    folder.mkdir()
    sweep = Sweep(plan, folder, say=lambda line: None)
    this = sweep.begin_round(next_round)
    assert this is not None
    search = sweep.searcher(this)
    points = [search.suggest(name) for name in "abc"]
    search.on_trial_complete("a", {"score": 1.0, "finished": True})
    sweep.table.append(Trial("t0000", 0, TrialState.COMPLETE, 1.0, points[0]))
    if how == "copied":
        shutil.copytree(folder, other)
    elif how == "renamed":
        folder.rename(other)
    elif how == "linked":
        other.symlink_to(folder)
    alive = Sweep(plan, folder if how == "stays" else other, say=lambda line: None)
    assert alive.begin_round(next_round) == this
    search = alive.searcher(this)
    assert [(stale.number, stale.knobs) for stale in search.requeued] == [
        (1, points[1]),
        (2, points[2]),
    ]
    assert [search.suggest(name) for name in "xy"] == points[1:]
    assert [search.number(name) for name in "xy"] == [1, 2]
    assert search.number("y") != search.number("x")
    new = search.suggest("z")
    assert (search.number("z"), new in points) == (3, False)


LOST: dict[str, Callable[[Path], object]] = {
    "deleted": lambda path: path.unlink(),
    "emptied": lambda path: path.write_bytes(b""),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "broken": lambda path: path.write_bytes(path.read_bytes().replace(b'"op_code"', b"op_code", 1)),
    "cut off at the head": lambda path: path.write_bytes(path.read_bytes()[100:]),
}


@pytest.mark.parametrize("how", LOST)
def test_a_journal_that_is_lost_is_made_anew_of_the_rows(how: str, tmp_path: Path) -> None:
    """No row is made twice, no number is left out, and what was planned is still made."""
    plan = SweepPlan("point", algorithm="promp").begun()
    sweep = Sweep(plan, tmp_path, say=lambda line: None)
    this = sweep.begin_round(next_round)
    assert this is not None
    search = sweep.searcher(this)
    points = [search.suggest(name) for name in "abc"]
    rows = [
        Trial("t0002", 2, TrialState.DIVERGED, None, points[2], reason="why"),
        Trial("t0000", 0, TrialState.COMPLETE, 1.0, points[0]),
    ]
    for row in rows:
        sweep.table.append(row)
    LOST[how](tmp_path / "optuna.journal")
    said: list[str] = []
    with warnings.catch_warnings():  # of a line that a killed process did not write to its end
        warnings.simplefilter("ignore")
        alive = Sweep(plan, tmp_path, say=said.append)
    search = alive.searcher(this)
    assert [trial.state.name for trial in search.study.trials] == [
        *("COMPLETE", "FAIL", "WAITING")
    ], "the trial that was at work"
    assert search.study.best_params == points[0]
    new = [search.suggest(name) for name in "xy"]
    assert [search.number(name) for name in "xy"] == [1, 3]
    assert not any(point in (points[0], points[2]) for point in new)
    is_damaged = how in {"broken", "cut off at the head"}
    assert (tmp_path / "optuna.journal.damaged-1").exists() is is_damaged
    assert len(said) == is_damaged
    again = Sweep(plan, tmp_path, say=said.append).searcher(this)
    assert [stale.number for stale in again.requeued] == [1, 3]


def test_planned_points_that_were_still_to_come_are_not_lost_with_the_journal(
    tmp_path: Path,
) -> None:
    space = SweepPlan("point", algorithm="promp").space()
    default = space.default_point()
    planned = [PlannedPoint(default, seed=seed, outside=True) for seed in (1, 2, 3)]
    row = Trial("t0007", 7, TrialState.COMPLETE, 1.0, default, seeds=(2,), seed_scores=(1.0,))
    search = StudySearcher(
        space,
        storage_path=tmp_path / "journal",
        study_name="a",
        initial_points=planned,
        first_number=7,
        resume=True,
        recorded=[row],
    )
    suggested = [search.suggest(name) for name in "xy"]
    assert suggested == [default | {"seed": 1}, default | {"seed": 3}]
    assert [search.number(name) for name in "xy"] == [8, 9]
