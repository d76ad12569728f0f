"""The command as a user runs it: processes, files and exit codes."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import optuna
import pandas as pd
import pytest
from typer.testing import CliRunner

from ssmrl.__main__ import app as ssmrl_app
from ssmrl.config import TrainConfig
from tuning.plan import SweepPlan
from tuning.ranking import ranking
from tuning.rounds import winner
from tuning.search import open_storage
from tuning.study import ROW, own_trials
from tuning.trial import Trial, TrialState, TrialTable

# Four trials of search, and two that train the best of them again.
PLAN = SweepPlan("point", algorithm="promp", num_samples=6, max_env_steps=20000)
SIZE = [
    "--task",
    "point",
    "--algorithm",
    "promp",
    "--num-samples",
    "6",
    "--max-env-steps",
    "20000",
    "--json",
]


def command(storage: Path, name: str, *more: str) -> list[str]:
    place = ["--storage", str(storage), "--name", name]
    return [sys.executable, "-m", "tuning.sweep", *SIZE, *place, *more]


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
    name = f"{folder.name}-r{round}" if round else folder.name
    return optuna.load_study(study_name=name, storage=storage)


def wait_for_lines(
    path: Path, num_lines: int, process: subprocess.Popen[str], containing: str = ""
) -> None:
    deadline = time.monotonic() + 120.0
    while not path.exists() or path.read_text().count(containing or "\n") < num_lines:
        assert process.poll() is None, "the sweep ended early"
        assert time.monotonic() < deadline, "the sweep did not come that far"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    """A whole sweep in a folder named relatively, and the last line that it printed."""
    place = tmp_path_factory.mktemp("place")
    done = subprocess.run(
        command(Path("runs"), "a"),
        cwd=place,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return place / "runs" / "a", json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_line_table_report_and_journal_agree(finished: tuple[Path, dict[str, object]]) -> None:
    folder, line = finished
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
    finished: tuple[Path, dict[str, object]],
) -> None:
    folder, _ = finished
    for round in (0, 1):
        trials = {trial.user_attrs[ROW]: trial for trial in own_trials(study_of(folder, round))}
        own = {row.trial_id: row for row in rows(folder) if row.round == round}
        assert trials.keys() == own.keys()
        for trial_id, row in own.items():
            assert trials[trial_id].state.name == row.state
            assert trials[trial_id].value == row.score
            assert trials[trial_id].params == row.knobs
    searched = [row for row in rows(folder) if row.round == 0]
    best = ranking(searched)[0]
    assert study_of(folder).best_value == best.mean
    assert study_of(folder).best_params == best.knobs


@pytest.mark.slow
def test_training_received_what_the_sweep_suggested(
    finished: tuple[Path, dict[str, object]],
) -> None:
    """Provenance: the row's configuration is the one in the trial's own checkpoint."""
    folder, _ = finished
    base = PLAN.base()
    for row in rows(folder):
        received = TrainConfig.of_knobs(row.config)
        assert received == base.with_knobs({**row.knobs, "seed": row.seeds[0]})
        # Searched with the sweep's own seed, trained again with the one after it.
        assert row.seeds == (base.seed + row.round,)
    assert rows(folder)[0].number in (0, 1)
    default = next(row for row in rows(folder) if row.number == 0)
    assert TrainConfig.of_knobs(default.config) == base


@pytest.mark.slow
def test_best_can_be_evaluated(finished: tuple[Path, dict[str, object]]) -> None:
    folder, line = finished
    result = CliRunner().invoke(ssmrl_app, ["evaluate", str(folder / "best"), "--json"])
    assert result.exit_code == 0, result.output
    returns = json.loads(result.output)["returns"]
    best = best_of(folder)
    assert returns == pytest.approx({k: best.returns[k] for k in ("0", "1", "3")})
    assert line["no_adaptation_bound"] == -20.0


@pytest.mark.slow
def test_a_finished_sweep_is_refused_and_resuming_it_repeats_its_result(
    finished: tuple[Path, dict[str, object]],
) -> None:
    folder, line = finished
    table = (folder / "trials.jsonl").read_bytes()
    again, place = command(Path("runs"), "a"), folder.parent.parent
    refused = subprocess.run(
        again, cwd=place, capture_output=True, text=True, check=False, timeout=100
    )
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    resumed = subprocess.run(
        [*again, "--resume"],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout.splitlines()[-1]) == line
    assert (folder / "trials.jsonl").read_bytes() == table


@pytest.mark.slow
def test_killed_sweep_resumes_without_rerunning_what_was_finished(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(tmp_path, "b"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    path = tmp_path / "b" / "trials.jsonl"
    wait_for_lines(path, 2, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = path.read_bytes()
    done = subprocess.run(
        command(tmp_path, "b", "--resume"),
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert path.read_bytes().startswith(before)
    table = rows(tmp_path / "b")
    searched, confirmed = (
        {json.dumps(row.knobs, sort_keys=True) for row in table if row.round == round}
        for round in (0, 1)
    )
    assert (len(searched), len(confirmed)) == (4, num_to_confirm(tmp_path / "b"))
    assert len(table) == len(searched) + len(confirmed)
    assert confirmed < searched
    for round in (0, 1):
        states = {trial.state.name for trial in study_of(tmp_path / "b", round).trials}
        assert "RUNNING" not in states


@pytest.mark.slow
def test_ctrl_c_stops_within_five_seconds_and_says_how_to_go_on(tmp_path: Path) -> None:
    log = tmp_path / "stderr"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [*command(tmp_path, "c"), "--max-env-steps", "2000000"],
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            text=True,
        )
    try:
        wait_for_lines(log, 1, process, containing="t0000 started")
        time.sleep(5.0)  # into training
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
    arguments = [*SIZE, "--storage", str(tmp_path), "--name", "d", "--num-samples", "2"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1, result.output
    assert [row.state for row in rows(tmp_path / "d")] == [TrialState.DIVERGED] * 2
    assert [trial.state.name for trial in study_of(tmp_path / "d").trials] == ["FAIL"] * 2
    assert json.loads(result.stdout.splitlines()[-1])["best_trial"] is None


def test_an_unreachable_cluster_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    from tuning.sweep import app

    place = ["--storage", str(tmp_path), "--name", "e", "--address", "127.0.0.1:1"]
    result = CliRunner().invoke(app, ["--task", "point", *place])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: there is no Ray cluster at '127.0.0.1:1'")


def test_a_folder_that_nodes_do_not_see_is_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked of a cluster that is joined, and of no other, before any trial."""
    import tuning.engine as engine_module
    from cluster.shared_folder import NotSharedError
    from tuning.sweep import app

    asked = []

    def check_shared(folder: Path) -> None:
        asked.append(folder)
        raise NotSharedError("every node must see the folder")

    monkeypatch.setattr(engine_module, "session", lambda *_, **__: nullcontext(4))
    monkeypatch.setattr(engine_module, "check_shared", check_shared)
    place = ["--storage", str(tmp_path), "--name", "e", "--address", "auto"]
    result = CliRunner().invoke(app, ["--task", "point", *place])
    assert result.exit_code == 2
    assert result.stderr == "error: every node must see the folder\n"
    assert asked == [tmp_path / "e"]
    assert not rows(tmp_path / "e")


def test_an_empty_token_file_is_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuning.sweep import app

    (tmp_path / "token").touch()
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    place = ["--storage", str(tmp_path), "--name", "e"]
    result = CliRunner().invoke(app, ["--task", "point", *place])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: the token file must hold a token")
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "ant-velocity"], "the tasks are: ant-vel"),
        (
            ["--task", "point", "--method", "lstn"],
            "the methods are: ssm, lstm, gru, transformer, mlp",
        ),
        (
            ["--task", "point", "--searcher", "tpo"],
            "the searchers are: tpe, gp, cmaes, qmc, random",
        ),
        (["--task", "point", "--scheduler", "ash"], "the schedulers are: asha, none"),
        (["--task", "point", "--max-concurrent", "4096"], "need 4096 CPUs, but there are"),
        (["--task", "point", "--name", "../x"], "`--name` must be"),
        (["--task", "point", "--rounds", "0"], "`rounds` must be at least 1"),
        (["--task", "point", "--rounds", "9"], "each of the 9 rounds must have a trial"),
        (["--task", "point", "--num-confirmed", "12"], "lower `--rounds` or `--num-confirmed`"),
        (["--task", "point", "--num-fresh-seeds", "6"], "or `--num-fresh-seeds`"),
        (["--task", "point", "--trial-seconds", "0"], "`trial_seconds` must be positive"),
        (["--task", "point", "--trial-seconds", "-2"], "`trial_seconds` must be positive"),
        (
            ["--task", "point", "--trial-seconds", "9", "--max-env-steps", "9"],
            "both set the budget; give one",
        ),
        (["--task", "point", "--seeds-per-trial", "0"], "`seeds_per_trial` must be at least 1"),
        (["--task", "point", "--space", "none.yaml"], "none.yaml"),
        (["--task", "point", "--resume"], "needs `--name`"),
        (["--task", "point", "--resume", "--name", "nothing"], "no sweep in"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuning.sweep import app

    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir()), "a refused sweep leaves nothing behind"


@pytest.mark.parametrize("name", ["trials.jsonl", "rounds.jsonl", "optuna.journal", "config.json"])
def test_a_damaged_file_is_one_line_and_exit_code_2(name: str, tmp_path: Path) -> None:
    from tuning.sweep import app

    folder = tmp_path / "g"
    folder.mkdir()
    (folder / "config.json").write_text(PLAN.to_json())
    (folder / name).write_text('{"damaged":\n{}\n')
    place = ["--storage", str(tmp_path), "--name", "g", "--resume"]
    result = CliRunner().invoke(app, ["--task", "point", *place])
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_storage_that_is_no_folder_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    from tuning.sweep import app

    (tmp_path / "file").touch()
    result = CliRunner().invoke(app, ["--task", "point", "--storage", str(tmp_path / "file")])
    assert result.exit_code == 2
    assert "file" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_trial_can_sample_on_remote_runners(tmp_path: Path) -> None:
    """The trial's placement has room for its runners, and the row is like any other."""
    few = ["--num-samples", "1", "--max-env-steps", "3000", "--num-env-runners", "1"]
    done = subprocess.run(
        command(tmp_path, "f", *few), capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr
    (row,) = rows(tmp_path / "f")
    assert row.state is TrialState.COMPLETE
    assert row.env_steps >= 3000
