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
from tuning.sweep import app as sweep_app
from tuning.trial_log import TrialLog

CURVE = ((100, -5.0, -3.0), (200, -5.5, -2.0))


def trial(name: str, **last: Any) -> Any:
    config = {"meta.inner_lr": 0.1, "seed": 3}
    return SimpleNamespace(trial_id=name, config=config, last_result=last)


def result(num_judged: int) -> dict[str, Any]:
    received = {"meta.inner_lr": 0.1, "env.task": "point"}
    curve = CURVE[:num_judged]
    return {"received": received, "all_env_steps": 400, "iterations": 4, "curve": curve}


@pytest.fixture
def log(tmp_path: Path) -> TrialLog:
    return TrialLog(LogKind.tensorboard, tmp_path, Mock(number={"a": 0, "b": 1}.__getitem__))


def test_evaluations_are_over_env_steps_and_settings_beside_the_score(
    log: TrialLog, tmp_path: Path
) -> None:
    a = trial("a", score=-2.0)
    for num_judged in (0, 1, 1, 2):
        log.on_trial_result(1, [], a, result(num_judged))
    log.on_trial_complete(1, [], a)
    told = scalars(tmp_path / "tensorboard" / "t0000")
    assert told["held_out/return"] == [(100, -3.0), (200, -2.0)]
    assert told["held_out/return_without_adaptation"] == [(100, -5.0), (200, -5.5)]
    assert scalars(tmp_path / "tensorboard" / "t0000" / "hparams")["score"] == [(0, -2.0)]
    settings = str(events(tmp_path / "tensorboard" / "t0000" / "hparams"))
    assert "meta.inner_lr" in settings
    assert "seed" not in settings, "it is no setting that was searched"


def test_trials_have_logs_of_their_own_and_one_that_fails_has_no_score(
    log: TrialLog, tmp_path: Path
) -> None:
    a, b = trial("a", score=-2.0), trial("b", score=-2.0, diverged=True)
    log.on_trial_result(1, [], a, result(1))
    log.on_trial_result(1, [], b, result(2))
    log.on_trial_error(1, [], a)
    log.on_trial_complete(1, [], b)
    log.close()
    folder = tmp_path / "tensorboard"
    assert scalars(folder / "t0000")["held_out/return"] == [(100, -3.0)]
    assert scalars(folder / "t0001")["held_out/return"] == [(100, -3.0), (200, -2.0)]
    assert {path.name for path in folder.rglob("*") if path.is_dir()} == {"t0000", "t0001"}


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
