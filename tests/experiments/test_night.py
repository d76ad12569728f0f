"""A sweep under faults: which are drawn, that they happen, and that what came of them is told."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import ssmrl.run
from experiments.faults import fault_list as kinds
from experiments.faults.damage import damage, tear
from experiments.faults.fault_list import FaultList, Stop, TrialFault, drawn, drawn_few
from experiments.faults.injection import LIST, STRUCK, Injection
from experiments.faults.overnight import Overnight
from experiments.faults.verdicts import outcomes, verdicts
from ssmrl.config import TrainConfig
from ssmrl.envs.point import PointEnv
from ssmrl.meta.batch import MetaBatch
from ssmrl.run import TrainingRun
from tests.tuning.tiny_gradient import write_space
from tuning.table.trial import TrialState, TrialTable

SMALL = {"meta.num_tasks": 2, "meta.num_episodes": 2, "evaluation.num_tasks": 2}
SMALL |= {"evaluation.num_episodes": 2, "meta.num_epochs": 1}


def test_a_night_has_each_kind_of_fault_at_least_five_times_and_a_seed_decides_where() -> None:
    faults = drawn(3, 200)
    assert faults == drawn(3, 200) != drawn(4, 200)
    count = Counter((each.kind, each.detail) for each in faults.trials)
    of_kind = Counter(each.kind for each in faults.trials)
    assert set(of_kind) == set(kinds.EXPECTED)
    assert min(of_kind.values()) >= 5
    for kind in (kinds.OBSERVATION, kinds.REWARD, kinds.LOSS, kinds.GRADIENT):
        assert count[kind, "nan"] == count[kind, "inf"] == 5
    numbers = [each.trial for each in faults.trials]
    assert numbers == sorted(set(numbers))
    assert 1 <= numbers[0] <= numbers[-1] < 197, "the default and what confirms are spared"
    assert Counter(stop.signal for stop in faults.stops) == dict.fromkeys(
        ("KILL", "TERM", "INT", "HUP"), 5
    )
    damages = Counter(what for stop in faults.stops for what in stop.damages)
    assert damages == dict.fromkeys(("torn", "zeroed", *kinds.DAMAGES), 5)
    rows = [stop.rows for stop in faults.stops]
    assert rows == sorted(rows)
    with pytest.raises(ValueError, match="`num_trials` must be at least 116"):
        drawn(0, 115)


def test_a_list_is_read_as_it_was_written(tmp_path: Path) -> None:
    for faults in (drawn(1, 300), drawn_few(1)):
        faults.write(tmp_path / LIST)
        assert FaultList.read(tmp_path / LIST) == faults


@pytest.mark.parametrize("how", ["truncated", "flipped", "zeroed", "deleted"])
def test_what_is_damaged_is_no_longer_what_it_was(how: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content := bytes(range(1, 200)))
    damage(path, how, np.random.default_rng(0))
    assert how == "deleted" or path.read_bytes() != content
    assert path.exists() is (how != "deleted")


def test_unknown_damages_list_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(KeyError, match=r"unknown damage 'eaten'; the damages are: trunc"):
        damage(tmp_path / "file", "eaten", np.random.default_rng(0))


def test_a_torn_line_leaves_those_before_it(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b'{"a": 1}\n{"b": 22}\n')
    size = tear(path, np.random.default_rng(0))
    assert path.read_bytes() == b'{"a": 1}\n{"b": 22}\n' + b'{"b": 22}\n'[:size]
    assert 0 < size < 9


@pytest.fixture
def whole_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an injection changes is as before after the test."""
    for owner, name in ((PointEnv, "step"), (PointEnv, "reset"), (MetaBatch, "gradient")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    monkeypatch.setattr(ssmrl.run, "_SECONDS_BETWEEN_CHECKPOINTS", 10.0)


@pytest.mark.usefixtures("whole_classes")
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (TrialFault(7, kinds.OBSERVATION, "nan", step=3), "not finite"),
        (TrialFault(7, kinds.REWARD, "inf", step=39), "not finite"),
        (TrialFault(7, kinds.REWARD, "nan", step=70), "the return on held-out tasks is nan"),
        (TrialFault(7, kinds.LOSS, "nan"), "loss nan"),
        (TrialFault(7, kinds.GRADIENT, "inf"), "norm inf"),
        (TrialFault(8, kinds.GRADIENT, "inf"), ""),
    ],
)
def test_numbers_that_are_not_finite_come_where_the_list_says(
    fault: TrialFault, reason: str, tmp_path: Path
) -> None:
    FaultList(0, 9, (fault,), ()).write(tmp_path / LIST)
    injection = Injection(tmp_path)
    config = TrainConfig.for_task("point", "promp").with_knobs(SMALL)
    run = TrainingRun(config, max_env_steps=1, folder=tmp_path)
    injection.begin("t0007")
    row = run.advance()
    assert row.diverged is bool(reason)
    assert reason in row.reason
    assert (tmp_path / STRUCK / "t0007.0").exists() is bool(reason)


@pytest.mark.usefixtures("whole_classes")
def test_what_happens_once_does_not_happen_again(tmp_path: Path) -> None:
    once = TrialFault(7, kinds.RAISES, step=2, is_once=True)
    FaultList(0, 9, (once, TrialFault(8, kinds.SETUP)), ()).write(tmp_path / LIST)
    injection, env = Injection(tmp_path), PointEnv(1, 20)
    for attempt in range(2):
        injection.begin("t0007")
        for _ in range(2):
            env.step(np.zeros((1, 2)))
        if attempt:
            env.step(np.zeros((1, 2)))
        else:
            with pytest.raises(RuntimeError, match="the environment broke"):
                env.step(np.zeros((1, 2)))
    for _ in range(2):
        with pytest.raises(ValueError, match="there is no friction below 0"):
            injection.begin("t0008")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_short_night_ends_with_everything_in_its_place(tmp_path: Path) -> None:
    trials = (
        TrialFault(1, kinds.GRADIENT, "nan"),
        TrialFault(2, kinds.EXIT, step=3, is_once=True),
        TrialFault(3, kinds.NO_MEMORY, step=5),
    )
    stop = Stop(2, 0.5, "KILL", ("torn", "zeroed"), is_clock_back=True)
    faults = FaultList(0, 6, trials, (stop,))
    flags = ["--task", "point", "--algorithm", "promp", "--max-env-steps", "1600"]
    flags += ["--num-samples", "6", "--space", str(write_space(tmp_path))]
    said: list[str] = []
    night = Overnight(faults, tmp_path / "night", flags, seconds=500.0, say=said.append)
    night.run()
    rows = TrialTable(night.folder / "trials.jsonl").rows
    assert [row.number for row in sorted(rows, key=lambda row: row.number)] == list(range(6))
    for outcome in outcomes(faults, tmp_path / "night", rows):
        assert outcome.is_ok, outcome
        assert outcome.num_struck == 1
    for verdict in verdicts(faults, tmp_path / "night", night.folder):
        assert verdict.is_ok, (verdict, said)
    assert any(row.state is TrialState.OOM for row in rows)
    again = Overnight(faults, tmp_path / "night", flags, seconds=500.0, say=said.append)
    num_events = len(again.events)
    again.run()  # it has ended
    assert len(again.events) == num_events
    # A row that was acknowledged and is gone is seen.
    path = night.folder / "trials.jsonl"
    path.write_bytes(path.read_bytes().split(b"\n", 1)[1])
    with pytest.raises(ValueError, match="lines were taken out"):
        verdicts(faults, tmp_path / "night", night.folder)
