"""What a sweep says when it begins a round, and that it begins none without time."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tuning import engine
from tuning.engine import Sweep
from tuning.placement import Placement
from tuning.plan import SweepPlan
from tuning.rounds import next_round
from tuning.search.searcher import row_name
from tuning.table.trial import Trial, TrialState

PLAN = SweepPlan(
    "point",
    algorithm="promp",
    num_samples=8,
    num_confirmed=1,
    num_fresh_seeds=2,
    max_env_steps=8000,
    time_budget_s=100.0,
)


def fill(sweep: Sweep, this: Any) -> None:
    """Rows for all trials of a round; the second one is better than the default."""
    for _ in range(this.num_trials):
        number = len(sweep.table.rows)
        knobs = PLAN.space().default_point() | {"policy.hidden_dim": 16 * (1 + number % 3)}
        sweep.table.append(
            Trial(
                row_name(number),
                number,
                TrialState.COMPLETE,
                float(number % 3),
                knobs,
                round=this.number,
                seeds=(number,),
            )
        )


def test_only_the_round_for_the_verdict_is_called_judging(tmp_path: Path) -> None:
    said: list[str] = []
    sweep = Sweep(PLAN, tmp_path, say=said.append)
    lines: list[tuple[int, list[str]]] = []
    num_trials = 0
    while (this := sweep.begin_round(next_round)) is not None:
        lines.append((this.number, list(said)))
        said.clear()
        fill(sweep, this)
        num_trials = this.num_trials
        if this.number > PLAN.rounds:
            break
    assert [number for number, _ in lines] == [0, 1, 2]
    (_, search), (_, confirming), (_, verdict) = lines
    assert search == confirming == []
    assert verdict == [f"judging: {num_trials} trials with fresh seeds"]


def test_a_sweep_whose_time_is_up_begins_no_other_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first round is made and complete; the clock passes the budget while it is."""
    clock = itertools.count(0.0, 60.0)
    made: list[int] = []

    @contextmanager
    def no_ray(*_: Any, **__: Any) -> Iterator[int]:
        yield 1

    def made_up(sweep: Sweep, this: Any, **_: Any) -> None:
        made.append(this.number)
        next(clock)
        fill(sweep, this)

    monkeypatch.setattr(engine, "session", no_ray)
    monkeypatch.setattr(Sweep, "run_round", made_up)
    monkeypatch.setattr(engine, "conclude", lambda *_, **more: {"rounds": len(more["rounds"])})
    monkeypatch.setattr(engine, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    summary = engine.run_sweep(
        PLAN,
        tmp_path,
        address=None,
        num_cpus=1,
        placement=Placement(),
        dashboard=False,
        command="",
        say=lambda _: None,
        quiet=True,
    )
    assert made == [0]
    assert summary == {"rounds": 1}
    assert not Sweep(PLAN, tmp_path, say=print).is_finished(), "there was more to do"
