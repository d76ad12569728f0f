"""The command as a user runs it: processes, files and exit codes."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import optuna
import pandas as pd
import pytest
from typer.testing import CliRunner

from ssmrl.__main__ import app as ssmrl_app
from ssmrl.config import TrainConfig
from tests.tuning.tiny_gradient import write_space
from tuning.plan import SweepPlan
from tuning.rounds import winner
from tuning.search.searcher import open_storage
from tuning.search.study import ROW, own_trials
from tuning.table.ranking import ranking
from tuning.table.trial import Trial, TrialState, TrialTable

# Four trials of search, and two that train the best of them again.
PLAN = SweepPlan("point", algorithm="promp", num_samples=6, max_env_steps=8000)
SIZE = [
    "--task",
    "point",
    "--algorithm",
    "promp",
    "--num-samples",
    "6",
    "--max-env-steps",
    "8000",
    "--json",
]


# Of one trial: another process starts meanwhile, which takes the time in which this one trains.
ENDLESS = ["--max-env-steps", "2000000", "--max-concurrent", "1"]


def flags(storage: Path, name: str, *more: str, space: Path | None = None) -> list[str]:
    place = ["--storage", str(storage), "--name", name]
    place += ["--space", str(space)] if space is not None else []
    return [*SIZE, *place, *more]


def command(storage: Path, name: str, *more: str, space: Path | None = None) -> list[str]:
    return [sys.executable, "-m", "tuning.sweep", *flags(storage, name, *more, space=space)]


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of trials whose iterations are small, so that they have several before they are stopped."""
    return write_space(tmp_path_factory.mktemp("space"))


def rows(folder: Path) -> tuple[Trial, ...]:
    return TrialTable(folder / "trials.jsonl").rows


def best_of(folder: Path) -> Trial:
    best = winner(rows(folder), PLAN)
    assert best is not None
    return best


def num_to_confirm(folder: Path) -> int:
    """The scheduler may have left fewer than were to be trained again, but never none."""
    complete = [r for r in rows(folder) if (r.round, r.state) == (0, TrialState.COMPLETE)]
    assert complete
    return min(2, len(complete))


def study_of(folder: Path, round: int = 0) -> optuna.Study:
    storage = open_storage(folder / "optuna.journal")
    sweep = json.loads((folder / "config.json").read_text())["sweep_id"]
    return optuna.load_study(study_name=f"{sweep}-r{round}", storage=storage)


def wait_for_lines(
    path: Path, num_lines: int, process: subprocess.Popen[str], containing: str = ""
) -> None:
    deadline = time.monotonic() + 120.0
    while not path.exists() or path.read_text().count(containing or "\n") < num_lines:
        assert process.poll() is None, "the sweep ended early"
        assert time.monotonic() < deadline, "the sweep did not come that far"
        time.sleep(0.1)


class Finished(NamedTuple):
    """A whole sweep that was killed once on the way.

    Attributes:
        folder: Its own, in a storage folder that was named relatively.
        line: The last line that it printed.
        kept: What its table held when it was killed.
    """

    folder: Path
    line: dict[str, object]
    kept: bytes


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, space: Path) -> Finished:
    """Killed after two of its trials with all that it started, and gone on with."""
    place = tmp_path_factory.mktemp("place")
    again, folder = command(Path("runs"), "a", space=space), place / "runs" / "a"
    process = subprocess.Popen(
        again,
        cwd=place,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        wait_for_lines(folder / "trials.jsonl", 2, process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    kept = (folder / "trials.jsonl").read_bytes()
    done = subprocess.run(
        [*again, "--resume"], cwd=place, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr
    return Finished(folder, json.loads(done.stdout.splitlines()[-1]), kept)


@pytest.mark.slow
@pytest.mark.timeout(600)  # with the sweep itself
def test_line_table_report_and_journal_agree(finished: Finished) -> None:
    folder, line, _ = finished
    best = best_of(folder)
    assert [row.round for row in rows(folder)] == [0] * 4 + [1] * num_to_confirm(folder)
    assert best.round == 1  # no score that was chosen for being high is reported
    assert (line["best_trial"], line["score"], line["knobs"]) == (
        best.trial_id,
        best.score,
        best.knobs,
    )
    frame = pd.read_csv(folder / "trials.csv").set_index("trial_id")
    assert frame.loc[best.trial_id, "score"] == best.score
    for knob, value in best.knobs.items():
        assert frame.loc[best.trial_id, knob] == value
    page = (folder / "report.html").read_text()
    assert best.trial_id in page
    assert f'value="{best.score!r}"' in page
    assert not re.search(r'(src|href)\s*=\s*"https?:', page)


@pytest.mark.slow
def test_journal_and_table_agree_on_every_trial(
    finished: Finished,
) -> None:
    folder = finished.folder
    for round in (0, 1):
        known = own_trials(study_of(folder, round))
        attempts = [trial for trial in known if ROW in trial.user_attrs]
        # At most one was being chosen when the sweep was killed; its number went to the next.
        unnamed = [trial.state.name for trial in known if ROW not in trial.user_attrs]
        assert unnamed in ([], ["FAIL"])
        trials = {trial.user_attrs[ROW]: trial for trial in attempts}
        own = {row.trial_id: row for row in rows(folder) if row.round == round}
        assert own.keys() == trials.keys()
        # At most two were at work when the sweep was killed: they failed, and are there once more,
        # under the same number.
        interrupted = [each for each in attempts if each is not trials[each.user_attrs[ROW]]]
        assert len(interrupted) <= (2 if round == 0 else 0)
        for trial in interrupted:
            assert trial.state.name == "FAIL"
            assert trial.params == own[trial.user_attrs[ROW]].knobs
        for trial_id, row in own.items():
            assert trials[trial_id].state.name == row.state
            assert trials[trial_id].value == row.score
            assert trials[trial_id].params == row.knobs
    searched = [row for row in rows(folder) if row.round == 0]
    best = ranking(searched)[0]
    assert study_of(folder).best_value == best.mean
    assert study_of(folder).best_params == best.knobs


@pytest.mark.slow
def test_training_received_what_the_sweep_suggested(finished: Finished, space: Path) -> None:
    """Provenance: the row's configuration is the one in the trial's own checkpoint."""
    folder = finished.folder
    base = PLAN.within(space).base()
    for row in rows(folder):
        received = TrainConfig.of_knobs(row.config)
        assert received == base.with_knobs({**row.knobs, "seed": row.seeds[0]})
        # Searched with the sweep's own seed, trained again with the one after it.
        assert row.seeds == (base.seed + row.round,)
    assert rows(folder)[0].number in (0, 1)
    default = next(row for row in rows(folder) if row.number == 0)
    assert TrainConfig.of_knobs(default.config) == base


@pytest.mark.slow
def test_best_can_be_evaluated(finished: Finished) -> None:
    folder, line, _ = finished
    result = CliRunner().invoke(ssmrl_app, ["evaluate", str(folder / "best"), "--json"])
    assert result.exit_code == 0, result.output
    returns = json.loads(result.output)["returns"]
    best = best_of(folder)
    assert returns == pytest.approx({k: best.returns[k] for k in ("0", "1", "3")})
    assert line["no_adaptation_bound"] == -20.0


@pytest.mark.slow
def test_a_finished_sweep_is_refused_and_resuming_it_repeats_its_result(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuning.sweep import app

    folder, line, _ = finished
    table = (folder / "trials.jsonl").read_bytes()
    monkeypatch.chdir(folder.parent.parent)
    refused = CliRunner().invoke(app, flags(Path("runs"), "a"))
    assert refused.exit_code == 2
    assert "--resume" in refused.stderr
    resumed = CliRunner().invoke(app, flags(Path("runs"), "a", "--resume"))
    assert resumed.exit_code == 0, resumed.stderr
    assert json.loads(resumed.stdout.splitlines()[-1]) == line
    assert (folder / "trials.jsonl").read_bytes() == table


@pytest.mark.slow
def test_killed_sweep_resumes_without_rerunning_what_was_finished(finished: Finished) -> None:
    folder = finished.folder
    assert finished.kept.count(b"\n") >= 2
    assert (folder / "trials.jsonl").read_bytes().startswith(finished.kept)
    table = rows(folder)
    searched, confirmed = (
        {json.dumps(row.knobs, sort_keys=True) for row in table if row.round == round}
        for round in (0, 1)
    )
    assert (len(searched), len(confirmed)) == (4, num_to_confirm(folder))
    assert len(table) == len(searched) + len(confirmed)
    assert confirmed < searched
    for round in (0, 1):
        states = {trial.state.name for trial in study_of(folder, round).trials}
        assert "RUNNING" not in states


@pytest.mark.slow
def test_ctrl_c_stops_within_five_seconds_and_says_how_to_go_on(
    tmp_path: Path, space: Path
) -> None:
    log = tmp_path / "stderr"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [*command(tmp_path, "c", space=space), *ENDLESS],
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            text=True,
        )
    try:
        wait_for_lines(log, 1, process, containing="t0000 started")
        time.sleep(1.0)  # into training
        pressed = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        assert time.monotonic() - pressed < 5.0
    finally:
        process.kill()
    said = log.read_text()
    assert "--name c" in said
    assert "--resume" in said


@pytest.mark.slow
def test_a_trial_that_diverges_is_never_best_and_never_left_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A spread that underflows to zero makes the first likelihood ratio NaN."""
    import tuning.plan as plan_module
    from tuning.sweep import app

    gradient = plan_module.BY_KIND["gradient"]
    base = {**gradient.base, "policy.init_std": 1e-42}
    changed = dataclasses.replace(gradient, base=base)
    monkeypatch.setattr(plan_module, "BY_KIND", {"gradient": changed})
    few = ["--num-samples", "2", "--max-concurrent", "1"]
    arguments = [*SIZE, "--storage", str(tmp_path), "--name", "d", *few]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1, result.output
    assert [row.state for row in rows(tmp_path / "d")] == [TrialState.DIVERGED] * 2
    assert [trial.state.name for trial in study_of(tmp_path / "d").trials] == ["FAIL"] * 2
    assert json.loads(result.stdout.splitlines()[-1])["best_trial"] is None


@pytest.mark.slow
def test_a_trial_can_sample_on_remote_runners(tmp_path: Path) -> None:
    """The trial's placement has room for its runners, and the row is like any other."""
    from tuning.sweep import app

    few = ["--num-samples", "1", "--max-env-steps", "3200", "--num-env-runners", "1"]
    result = CliRunner().invoke(app, [*SIZE, "--storage", str(tmp_path), "--name", "f", *few])
    assert result.exit_code == 0, result.output
    (row,) = rows(tmp_path / "f")
    assert row.state is TrialState.COMPLETE
    assert row.env_steps >= 3200
