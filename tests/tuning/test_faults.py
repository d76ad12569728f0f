"""Real trials that go wrong, each its own way: one row each, and no other trial suffers."""

from functools import partial
from pathlib import Path

import pytest

from cluster.session import session
from ssmrl.config import KnobValue
from tests.tuning import faulty_training as faults
from tests.tuning.tiny_gradient import TINY
from tuning.ending import Ending, ending
from tuning.engine import Sweep
from tuning.placement import Placement
from tuning.plan import SweepPlan
from tuning.planned_point import PlannedPoint
from tuning.round_log import Round
from tuning.rounds import FIRST
from tuning.trial import TrialState
from tuning.watch import Watch

EXPECTED = {
    faults.FINE: (TrialState.COMPLETE, ""),
    faults.IN_SETUP: (TrialState.FAILED, "ValueError: there is no friction below 0"),
    faults.RAISES: (TrialState.FAILED, "RuntimeError: the user's environment broke"),
    faults.DIES_ONCE: (TrialState.COMPLETE, ""),
    faults.DIES: (TrialState.FAILED, "died"),
    faults.SLEEPS: (TrialState.HUNG, "it sleeps"),
    faults.SPINS: (TrialState.HUNG, "though it computes"),
    faults.NO_MEMORY: (TrialState.OOM, "out of memory: 7.28 TiB more were wanted"),
    faults.NAN: (TrialState.FAILED, "what it reported cannot be kept"),
}


@pytest.mark.slow
def test_each_fault_is_one_row_that_says_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuning.driver.MetaTraining", faults.FaultyTraining)
    monkeypatch.setattr("tuning.driver.Watch", partial(Watch, floor_s=4.0))
    space = tmp_path / "wide.yaml"
    space.write_text(TINY.replace("high: 128, step: 16", "high: 144, step: 16"))
    plan = SweepPlan(
        "point",
        algorithm="promp",
        num_samples=len(EXPECTED),
        num_confirmed=0,
        max_env_steps=12_000,
        scheduler="none",
        max_concurrent=2,
        retries=1,
    ).within(space)
    default = plan.space().default_point()

    def planned(*_: object) -> list[PlannedPoint]:
        points: list[dict[str, KnobValue]] = [default | {faults.WIDTH: width} for width in EXPECTED]
        return [PlannedPoint(point) for point in points]

    monkeypatch.setattr("tuning.engine.planned_points", planned)
    folder = tmp_path / "a"
    folder.mkdir()
    sweep = Sweep(plan, folder, say=lambda line: None)
    with session(num_cpus=2):
        this = Round(0, FIRST, plan.space(), (), len(EXPECTED))
        sweep.run_round(this, num_cpus=2, placement=Placement(), quiet=True)
    rows = {int(row.knobs[faults.WIDTH]): row for row in sweep.table.rows}
    assert len(sweep.table.rows) == len(rows) == len(EXPECTED)
    for width, (state, reason) in EXPECTED.items():
        row = rows[width]
        assert (row.state, reason in row.reason) == (state, True), row
        assert (row.score is None) is (state is not TrialState.COMPLETE)
        assert "\n" not in row.reason
        assert (row.peak_bytes > 0) is (width != faults.IN_SETUP)
    code = ending(sweep.table.rows, has_winner=True, is_confirmed=True)
    assert code is Ending.LOST
    states = {trial.state.name for trial in sweep.searcher(this).study.trials}
    assert "RUNNING" not in states
    assert not list((folder / "tune" / "pulses").iterdir())
