"""A sweep is its id: wherever its folder goes, it goes on with its own points and numbers."""

import shutil
from pathlib import Path

import pytest

from tuning.engine import Sweep
from tuning.plan import SweepPlan
from tuning.rounds import next_round
from tuning.trial import Trial, TrialState


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
