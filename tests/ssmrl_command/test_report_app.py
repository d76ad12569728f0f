"""``ssmrl report``: a page of the records as they are, of a sweep that nobody works on."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ssmrl_command.app import app
from tests.tuning.test_conclusion import PLAN, Folder
from tuning import conclusion
from tuning.conclusion import conclude
from tuning.folder.interruption import exclusive
from tuning.table.round_log import RoundLog
from tuning.table.trial import Trial, TrialState, TrialTable

BEGUN = replace(PLAN, sweep_id="a")


def report(folder: Path) -> Result:
    return CliRunner().invoke(app, ["report", str(folder)])


def files(folder: Path) -> dict[str, bytes]:
    """What is kept; neither the lock nor what is written anew."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (".lock", "report.html", "trials.csv")
    }


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """One that has begun, with no trial yet."""
    made = Folder(tmp_path, BEGUN)
    made.table = TrialTable(tmp_path / "trials.jsonl", "a")
    (tmp_path / "config.json").write_text(BEGUN.to_json())
    monkeypatch.setattr(conclusion, "fresh_returns", made.returns)
    monkeypatch.setattr(conclusion, "blind_return", lambda config: -17.25)
    return made


def log_rounds(sweep: Folder) -> None:
    log = RoundLog(sweep.path / "rounds.jsonl", BEGUN.base(), "a", plan=BEGUN.to_json())
    for this in sweep.rounds:
        log.append(this)


def test_the_page_is_the_one_that_the_sweep_left(sweep: Folder) -> None:
    sweep.searched_and_judged()
    log_rounds(sweep)
    left: dict[str, Any] = conclude(
        BEGUN,
        sweep.path,
        sweep.table,
        rounds=sweep.rounds,
        command="python -m tuning.sweep",
        say=sweep.said.append,
    )
    before, page = files(sweep.path), (sweep.path / "report.html").read_text()
    table = (sweep.path / "trials.csv").read_text()
    for name in ("report.html", "trials.csv"):
        (sweep.path / name).unlink()
    result = report(sweep.path)
    assert result.exit_code == 0, result.output
    where = f"table {sweep.path / 'trials.csv'}, report {sweep.path / 'report.html'}\n"
    assert result.stdout == where
    anew = (sweep.path / "report.html").read_text()
    assert left["comparison"]["verdict"] in anew
    assert anew.partition("Repeat this sweep")[0] == page.partition("Repeat this sweep")[0]
    assert (sweep.path / "trials.csv").read_text() == table
    assert files(sweep.path) == before


def test_an_unfinished_sweep_has_a_page_too(sweep: Folder) -> None:
    assert report(sweep.path).exit_code == 0
    assert "No trial completed" in (sweep.path / "report.html").read_text()
    sweep.add(PLAN.space().default_point(), 1.5, 0, 0)
    sweep.table.append(Trial("t1", 1, TrialState.FAILED, None, {}, reason="it <failed>"))
    assert report(sweep.path).exit_code == 0
    page = (sweep.path / "report.html").read_text()
    assert "0 seeds: no verdict" in page
    assert "it &lt;failed&gt;" in page
    assert f"--name {sweep.path.name} --resume</pre>" in page


def test_a_checkpoint_that_is_gone_is_told_and_the_page_is_there(
    sweep: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep.searched_and_judged()
    log_rounds(sweep)
    monkeypatch.undo()
    for path in (sweep.path / "checkpoints").rglob("*.safetensors"):
        path.unlink()
    result = report(sweep.path)
    assert result.exit_code == 3
    assert result.stderr.startswith("error: t0002 cannot be evaluated any more, so there is no ver")
    assert result.stderr.count("\n") == 1
    page = (sweep.path / "report.html").read_text()
    assert "were not compared on fresh tasks. t0002 cannot be evaluated any more" in page


def refused(folder: Path) -> str:
    """What is said to a folder of which nothing may change."""
    before = files(folder)
    result = report(folder)
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1
    assert files(folder) == before
    assert not (folder / "report.html").exists()
    return result.stderr


def test_what_is_no_sweep_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "none") == f"error: there is no sweep in {tmp_path / 'none'}\n"
    assert refused(tmp_path) == f"error: there is no sweep in {tmp_path}\n"
    (tmp_path / "config.json").write_text(PLAN.base().to_json())  # as `ssmrl train` leaves it
    assert refused(tmp_path) == f"error: there is no sweep in {tmp_path}\n"
    (tmp_path / "config.json").unlink()
    (tmp_path / "trials.jsonl").write_text("")
    assert "config.json is gone" in refused(tmp_path)


def test_a_sweep_at_work_is_refused(sweep: Folder) -> None:
    with exclusive(sweep.path):
        said = refused(sweep.path)
    assert f"another process is working on the sweep in {sweep.path}: process {os.getpid()}" in said


def test_damaged_records_are_refused_and_the_doctor_is_named(sweep: Folder) -> None:
    sweep.add(PLAN.space().default_point(), 1.5, 0, 0)
    path = sweep.path / "trials.jsonl"
    path.write_text(path.read_text().replace('"score": 1.5', '"score": 2.5'))
    said = refused(sweep.path)
    assert "line 1" in said
    assert f"`ssmrl doctor {sweep.path}`" in said
