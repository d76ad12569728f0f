"""The command as a user runs it: a study that is killed and resumed, and what is refused."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agents.budget import Budget
from agents.ledger import Ledger
from agents.research import app
from ssmrl.__main__ import app as ssmrl_app
from tests.tuning.tiny_gradient import write_space
from tuning.plan import SweepPlan
from tuning.rounds import winner
from tuning.table.trial import Trial, TrialTable

ROOT = Path(__file__).resolve().parents[2]
PLAN = SweepPlan("point", algorithm="promp", num_samples=6, rounds=2, max_env_steps=4000)
SIZE = [
    "--task",
    "point",
    "--algorithm",
    "promp",
    "--rounds",
    "2",
    "--budget-trials",
    "6",
    "--max-env-steps",
    "4000",
]


def arguments(storage: Path, *more: str) -> list[str]:
    """One process for all trials of a round: they train for moments, and it starts for seconds."""
    place = ["--storage", str(storage), "--name", "a", "--json", "--max-concurrent", "1"]
    return [*SIZE, *place, "--space", str(write_space(storage)), *more]


def command(storage: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "agents.research", *arguments(storage, *more)]


def rows(folder: Path) -> tuple[Trial, ...]:
    return TrialTable(folder / "trials.jsonl").rows


def run(storage: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(storage, *more), cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )


def kill_in_the_second_round(storage: Path) -> bytes:
    """Start a study, and end it and all that it started; returns its table."""
    process = subprocess.Popen(
        command(storage),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    table = storage / "a" / "trials.jsonl"
    deadline = time.monotonic() + 200.0
    try:
        while not table.exists() or table.read_bytes().count(b"\n") < 3:
            assert process.poll() is None, "the study ended early"
            assert time.monotonic() < deadline, "the study did not come that far"
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return table.read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_study_resumes_to_its_end_with_its_budget_and_its_trials(tmp_path: Path) -> None:
    before = kill_in_the_second_round(tmp_path)
    folder = tmp_path / "a"
    done = run(tmp_path, "--resume")
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout.splitlines()[-1])
    assert len(done.stdout.splitlines()) == 1

    assert (folder / "trials.jsonl").read_bytes().startswith(before)
    assert [row.round for row in sorted(rows(folder), key=lambda row: row.number)] == [
        0,
        0,
        1,
        1,
        2,
        2,
    ]
    ledger = Ledger(folder / "ledger.jsonl")
    assert (ledger.budget, ledger.spent("trials")) == (Budget(trials=6), 6)
    assert not ledger.unsettled

    authors = ["state modeling", "meta-learning", "coordinator"]
    said = [(entry["round"], entry["author"], entry["brain"]) for entry in line["findings"]]
    assert said == [(round, author, "offline") for round in (1, 2) for author in authors]
    for entry in line["findings"]:
        seen = {row.trial_id for row in rows(folder) if row.round < entry["round"]}
        assert set(entry["trial_ids"]) <= seen
    best = winner(rows(folder), PLAN)
    assert best is not None
    assert (line["best_trial"], line["score"], best.round) == (best.trial_id, best.score, 2)
    check_what_is_left(folder, best)

    again = CliRunner().invoke(app, arguments(tmp_path, "--resume"))
    assert json.loads(again.stdout.splitlines()[-1]) == line
    assert len(rows(folder)) == 6


def check_what_is_left(folder: Path, best: Trial) -> None:
    assert best.trial_id in (folder / "research.md").read_text()
    assert best.trial_id in (folder / "report.html").read_text()
    result = CliRunner().invoke(ssmrl_app, ["evaluate", str(folder / "saved_models"), "--json"])
    assert result.exit_code == 0, result.output
    returns = json.loads(result.output)["returns"]
    assert returns == pytest.approx({k: best.returns[k] for k in ("0", "1", "3")})


def test_a_sweep_is_not_taken_for_a_study(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text(PLAN.to_json())
    (tmp_path / "a" / "rounds.jsonl").touch()
    place = ["--storage", str(tmp_path), "--name", "a", "--resume"]
    result = CliRunner().invoke(app, [*SIZE, *place])
    assert result.exit_code == 2
    assert "it is a sweep, not a study" in result.stderr


def test_a_dry_run_says_what_would_be_done_and_does_nothing(tmp_path: Path) -> None:
    limits = ["--budget-minutes", "30", "--budget-tokens", "2000000", "--seeds-per-trial", "2"]
    place = ["--storage", str(tmp_path / "runs"), "--dry-run"]
    result = CliRunner().invoke(app, [*SIZE, *limits, *place])
    assert result.exit_code == 0, result.output
    assert "brain: offline" in result.stdout
    assert "rounds of 2, 2 trials, then 2 trained again" in result.stdout
    assert "budget: trials 6, minutes 30, tokens 2e+06" in result.stdout
    assert "meta.inner_lr: [0.01, 1], limits [0.0001, 10]" in result.stdout
    as_json = CliRunner().invoke(app, [*SIZE, *limits, *place, "--json"])
    content = json.loads(as_json.stdout)
    assert content["budget"] == {"trials": 6, "minutes": 30, "tokens": 2_000_000}
    assert (content["trials_of_rounds"], content["num_confirmed"]) == ([2, 2], 2)
    assert content["space"]["meta.inner_lr"]["limits"] == "[0.0001, 10]"
    assert not list(tmp_path.iterdir())


def test_a_dry_run_of_a_kept_study_shows_its_own_settings(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "config.json").write_text(PLAN.to_json())
    Ledger(folder / "ledger.jsonl", Budget(trials=6, minutes=7))
    before = (folder / "ledger.jsonl").read_bytes()
    place = ["--storage", str(tmp_path), "--name", "a", "--resume", "--dry-run"]
    result = CliRunner().invoke(app, ["--task", "point", "--budget-trials", "99", *place])
    assert result.exit_code == 0, result.output
    assert "rounds of 2, 2 trials, then 2 trained again" in result.stdout
    assert "budget: trials 6, minutes 7" in result.stdout
    more = ["--budget-minutes", "20", "--budget-calls", "50"]
    result = CliRunner().invoke(app, ["--task", "point", *more, *place])
    assert "budget: trials 6, minutes 20, calls 50" in result.stdout
    assert (folder / "ledger.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "points"], "the tasks are: "),
        (["--task", "point", "--method", "lstn"], "`policy.method` must be one of"),
        (["--task", "point", "--rounds", "0"], "`rounds` must be at least 1"),
        (["--task", "point", "--seed", "-1"], "`seed` must be at least 0, but got -1"),
        (["--task", "point", "--rounds", "30"], "each of the 30 rounds must have a trial"),
        (["--task", "point", "--budget-trials", "0"], "`--budget-trials` is 0"),
        (["--task", "point", "--budget-minutes", "0"], "`time_budget_s` must be positive"),
        (["--task", "point", "--budget-minutes", "nan"], "must be positive"),
        (["--task", "point", "--budget-minutes", "inf"], "must be finite"),
        (["--task", "point", "--budget-tokens", "-1"], "the budget of tokens must be finite"),
        (["--task", "point", "--max-env-steps", "0"], "`max_env_steps` must be at least 1"),
        (["--task", "point", "--base-url", "http://127.0.0.1:1/v1"], "`--model`"),
        (["--task", "point", "--model", "m", "--base-url", "ftp://x"], "a base URL must look like"),
        (["--task", "point", "--space", "none.yaml"], "none.yaml"),
        (["--task", "point", "--name", "../x"], "`--name` must be"),
        (["--task", "point", "--resume"], "needs `--name`"),
        (["--task", "point", "--resume", "--name", "nothing"], "no study in"),
        (["--task", "point", "--storage", "/dev/null"], "/dev/null"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir()), "a refused study leaves nothing behind"


@pytest.mark.parametrize("name", ["trials.jsonl", "rounds.jsonl", "ledger.jsonl", "config.json"])
def test_a_damaged_file_is_one_line_and_exit_code_3(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "config.json").write_text(PLAN.to_json())
    Ledger(folder / "ledger.jsonl", Budget(trials=6))
    (folder / name).write_text('{"damaged":\n{}\n')
    place = ["--storage", str(tmp_path), "--name", "a", "--resume"]
    result = CliRunner().invoke(app, [*SIZE, *place])
    assert result.exit_code == 3, result.output
    assert result.stderr.startswith("error: ")
    assert name in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_study_of_this_name_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text(PLAN.to_json())
    place = ["--storage", str(tmp_path), "--name", "a"]
    result = CliRunner().invoke(app, [*SIZE, *place])
    assert result.exit_code == 2
    assert "resume it with `--resume`" in result.stderr
    assert (tmp_path / "a" / "config.json").read_text() == PLAN.to_json()
