"""Real trials that go wrong, each its own way: one row each, and no other trial suffers."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from cluster.session import session
from cluster.stop import psutil
from tests.tuning import faulty_training as faults
from tests.tuning.tiny_gradient import TINY
from tuning.ending import Ending, ending
from tuning.engine import Sweep
from tuning.placement import Placement
from tuning.plan import SweepPlan
from tuning.rounds import FIRST
from tuning.search.planned_point import PlannedPoint
from tuning.table.round_log import Round
from tuning.table.trial import TrialState
from tuning.watch import Watch

EXPECTED = {
    faults.FINE: (TrialState.COMPLETE, ""),
    faults.IN_SETUP: (TrialState.FAILED, "ValueError: there is no friction below 0"),
    faults.RAISES: (TrialState.FAILED, "RuntimeError: the user's environment broke"),
    faults.DIES: (TrialState.FAILED, "died"),
    faults.SLEEPS: (TrialState.HUNG, "it sleeps"),
    faults.SPINS: (TrialState.HUNG, "though it computes"),
    faults.NO_MEMORY: (TrialState.OOM, "out of memory: 7.28 TiB more were wanted"),
    faults.NAN: (TrialState.FAILED, "its report is not valid"),
}


def made(folder: Path, widths: Sequence[int], retries: int) -> tuple[Sweep, Round]:
    """A sweep with a trial of each width."""
    space = folder / "wide.yaml"
    space.write_text(TINY.replace("high: 128, step: 16", "high: 160, step: 16"))
    settings = {"num_confirmed": 0, "scheduler": "none", "max_concurrent": 2, "retries": retries}
    plan = SweepPlan(
        "point", algorithm="promp", num_samples=len(widths), max_env_steps=12_000, **settings
    ).within(space)
    (folder / "a").mkdir()
    sweep = Sweep(plan, folder / "a", say=lambda line: None)
    return sweep, Round(0, FIRST, plan.space(), (), len(widths))


def run(sweep: Sweep, this: Round, widths: Sequence[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuning.driver.MetaTraining", faults.FaultyTraining)
    default = this.space.default_point()
    points = [PlannedPoint(default | {faults.WIDTH: width}) for width in widths]
    monkeypatch.setattr("tuning.engine.planned_points", lambda *_: points)
    with session(num_cpus=2):
        sweep.run_round(this, num_cpus=2, placement=Placement(), quiet=True)
    states = {trial.state.name for trial in sweep.searcher(this).study.trials}
    assert "RUNNING" not in states


@pytest.mark.slow
def test_each_fault_is_one_row_that_says_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuning.driver.Watch", partial(Watch, floor_s=6.0))
    sweep, this = made(tmp_path, tuple(EXPECTED), retries=0)
    run(sweep, this, tuple(EXPECTED), monkeypatch)
    rows = {int(row.knobs[faults.WIDTH]): row for row in sweep.table.rows}
    assert len(sweep.table.rows) == len(rows) == len(EXPECTED)
    for width, (state, reason) in EXPECTED.items():
        row = rows[width]
        assert (row.state, reason in row.reason) == (state, True), row
        assert (row.score is None) is (state is not TrialState.COMPLETE)
        assert "\n" not in row.reason
        assert (row.peak_bytes > 0) is (width != faults.IN_SETUP)
    assert ending(sweep.table.rows, has_winner=True, is_confirmed=True) is Ending.LOST
    assert not list((tmp_path / "a" / "tune" / "pulses").iterdir())


@pytest.mark.slow
def test_whom_rays_memory_monitor_ends_costs_its_sibling_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its threshold is set where four gigabytes more are too much: the machine is never filled."""
    memory = psutil.virtual_memory()
    if memory.available < 10 * 2**30:
        pytest.skip("needs 10 GiB of memory, with what other tests may take meanwhile")
    used = memory.percent / 100.0 + 4 * 2**30 / memory.total
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{used:.3f}")
    widths = (faults.GREEDY, faults.FINE, faults.DIES_ONCE)
    sweep, this = made(tmp_path, widths, retries=1)
    run(sweep, this, widths, monkeypatch)
    rows = {int(row.knobs[faults.WIDTH]): row for row in sweep.table.rows}
    greedy = rows.pop(faults.GREEDY)
    assert greedy.state is TrialState.OOM
    assert "running low on memory" in greedy.reason
    assert sorted(row.number for row in rows.values()) == [1, 2]
    assert {row.state for row in rows.values()} == {TrialState.COMPLETE}
