"""What ``--log`` of a sweep writes, read back; one trial after another, and one that is resumed."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from typer.testing import CliRunner

from agents.research import app as research_app
from ssmrl import train_log
from ssmrl.train_log import LogKind
from tests.event_files import events, scalars
from tuning.search.searcher import row_name
from tuning.sweep import app as sweep_app
from tuning.table.trial import Trial, TrialState
from tuning.trial_log import TrialLog

CURVE = ((100, -5.0, -3.0), (200, -5.5, -2.0))


def trial(name: str) -> Any:
    return SimpleNamespace(trial_id=name)


def ended(number: int, state: TrialState, score: float | None) -> Trial:
    reason = "" if state is TrialState.COMPLETE else "it died"
    return Trial(row_name(number), number, state, score, {"meta.inner_lr": 0.1}, reason=reason)


def result(num_judged: int) -> dict[str, Any]:
    received = {"meta.inner_lr": 0.1, "env.task": "point"}
    curve = CURVE[:num_judged]
    return {"received": received, "all_env_steps": 400, "iterations": 4, "curve": curve}


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def log(tmp_path: Path, notes: list[str]) -> TrialLog:
    searcher = Mock(number={"a": 0, "b": 1}.__getitem__)
    return TrialLog(LogKind.tensorboard, tmp_path, searcher, notes.append)


def test_evaluations_are_over_env_steps_and_settings_beside_the_score(
    log: TrialLog, tmp_path: Path, notes: list[str]
) -> None:
    for num_judged in (0, 1, 1, 2):
        log.on_trial_result(1, [], trial("a"), result(num_judged))
    log.ended(ended(0, TrialState.COMPLETE, -2.0))
    told = scalars(tmp_path / "tensorboard" / "t0000")
    assert told["held_out/return"] == [(100, -3.0), (200, -2.0)]
    assert told["held_out/return_without_adaptation"] == [(100, -5.0), (200, -5.5)]
    assert scalars(tmp_path / "tensorboard" / "t0000" / "hparams")["score"] == [(0, -2.0)]
    assert "meta.inner_lr" in str(events(tmp_path / "tensorboard" / "t0000" / "hparams"))
    assert not notes


def test_trials_have_logs_of_their_own_and_one_that_is_lost_has_no_score(
    log: TrialLog, tmp_path: Path
) -> None:
    log.on_trial_result(1, [], trial("a"), result(1))
    log.on_trial_result(1, [], trial("b"), result(2))
    log.ended(ended(0, TrialState.FAILED, None))
    log.close()
    folder = tmp_path / "tensorboard"
    assert scalars(folder / "t0000")["held_out/return"] == [(100, -3.0)]
    assert scalars(folder / "t0001")["held_out/return"] == [(100, -3.0), (200, -2.0)]
    assert {path.name for path in folder.rglob("*") if path.is_dir()} == {"t0000", "t0001"}


def test_what_is_written_again_takes_the_place_of_what_was(tmp_path: Path) -> None:
    for _ in range(2):
        log = TrialLog(LogKind.tensorboard, tmp_path, Mock(number={"a": 0}.__getitem__), print)
        log.on_trial_result(1, [], trial("a"), result(2))
        log.close()
    written = events(tmp_path / "tensorboard" / "t0000")
    starts = [event.step for event in written if event.HasField("session_log")]
    assert starts == [0], "what was told before is to be forgotten"


def test_a_log_that_cannot_be_written_is_given_up_with_a_note_and_no_trial_fails(
    log: TrialLog, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    log.on_trial_result(1, [], trial("b"), result(1))
    monkeypatch.setattr("tuning.trial_log.open_log", fail)
    monkeypatch.setattr(train_log.TrainLog, "take", fail)
    for num_judged in (1, 2):
        for name in "ab":
            log.on_trial_result(1, [], trial(name), result(num_judged))
    for number in (0, 1):
        log.ended(ended(number, TrialState.COMPLETE, -2.0))
    log.close()
    assert [note.partition(":")[0] for note in notes] == [
        f"the tensorboard log of {name} is given up" for name in ("t0000", "t0001")
    ]


@pytest.mark.parametrize(("app", "name"), [(sweep_app, "sweep"), (research_app, "research")])
def test_a_log_that_cannot_be_had_is_refused_before_anything_begins(
    app: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_log, "find_spec", lambda package: None)
    for kind, complaint in (("tensorboard", "needs tensorboardX"), ("paper", "must be one of")):
        flags = ["--task", "point", "--storage", str(tmp_path), "--name", name, "--log", kind]
        refused = CliRunner().invoke(app, flags)
        assert refused.exit_code == 2
        assert complaint in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
