"""A whole sweep of what adapts by memory: what it leaves behind, and what its last lines say."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ssmrl.checkpoint import Checkpoint
from tests.tuning.tiny_memory import ENV_STEPS, write_space
from tuning.plan import SweepPlan
from tuning.sweep import app
from tuning.table.trial import Trial, TrialTable

KEYS = {
    *("best_mean", "default_mean", "difference", "low", "high", "num_tasks", "verdict"),
    *("best_low", "best_high", "blind_return", "switched_off_mean", "num_seeds"),
    *("level", "findable", "num_best_seeds", "num_default_seeds"),
}


def place(folder: Path) -> list[str]:
    return ["--storage", str(folder), "--name", "a", "--json", "--task", "point"]


def rows(folder: Path) -> list[Trial]:
    return sorted(TrialTable(folder / "trials.jsonl").rows, key=lambda row: row.number)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """The folder of a sweep, the last line of its stdout, and what it said on the way."""
    storage = tmp_path_factory.mktemp("place")
    size = ["--num-samples", "9", "--num-fresh-seeds", "3", "--max-env-steps", str(ENV_STEPS)]
    one_process = ["--max-concurrent", "1"]  # for all trials of a round: they train for moments
    space = ["--space", str(write_space(storage))]
    done = CliRunner().invoke(app, [*place(storage), *size, *one_process, *space])
    assert done.exit_code == 0, done.stderr
    return storage / "a", json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.slow
def test_the_plan_is_told_before_the_start_and_the_verdict_at_the_end(
    finished: tuple[Path, dict[str, Any], str],
) -> None:
    _, summary, said = finished
    lines = said.splitlines()
    assert said.index("plan: 9 trials of 400 env steps") < said.index("t0000 started")
    assert "hidden variable" in said
    assert lines[-1] == summary["comparison"]["verdict"]
    assert any(line.startswith("return on 100 fresh tasks: ") for line in lines[-7:])
    assert any(line.startswith("best blind return") for line in lines[-7:])
    assert any("memory switched off" in line for line in lines[-7:])


@pytest.mark.slow
def test_winner_and_default_are_judged_by_seeds_that_searched_nothing(
    finished: tuple[Path, dict[str, Any], str],
) -> None:
    folder, summary, _ = finished
    plan = SweepPlan.from_json((folder / "config.json").read_text())
    searched = [row for row in rows(folder) if row.round == 0]
    fresh = [row for row in rows(folder) if row.round == 2]
    is_default = summary["knobs"] == plan.space().default_point()
    assert (len(searched), len(fresh)) == (3, 3 if is_default else 6)
    assert all(row.seeds == (plan.seed,) for row in searched)
    assert all(plan.seed not in row.seeds for row in fresh)
    comparison = summary["comparison"]
    assert comparison.keys() == KEYS
    assert comparison["num_seeds"] == 3
    assert comparison["blind_return"] is not None
    assert comparison["best_low"] < comparison["best_mean"] < comparison["best_high"]
    assert (comparison["difference"] is None) == is_default


@pytest.mark.slow
def test_every_trial_is_scored_after_the_same_experience(
    finished: tuple[Path, dict[str, Any], str],
) -> None:
    folder, _, _ = finished
    assert {(row.judged_at, row.env_steps) for row in rows(folder)} == {(ENV_STEPS, ENV_STEPS)}


@pytest.mark.slow
def test_best_holds_what_acting_needs_and_no_more(
    finished: tuple[Path, dict[str, Any], str],
) -> None:
    folder, summary, _ = finished
    kept = Checkpoint.load(folder / "best" / "checkpoint.safetensors")
    row = Trial.from_json((folder / "best" / "trial.json").read_text())
    assert row.trial_id == summary["best_trial"]
    assert kept.config.knobs() == row.config
    names = set(kept.tensors)
    assert {name.split(".")[1] for name in names} == {
        "actor",
        "average",
        "inference",
        "center",
        "inverse_scale",
    }
    assert all(name.startswith("networks.") for name in names)


@pytest.mark.slow
def test_the_seconds_of_a_trial_become_env_steps_once(tmp_path: Path) -> None:
    space = ["--space", str(write_space(tmp_path)), "--num-samples", "1"]
    done = CliRunner().invoke(app, [*place(tmp_path), *space, "--trial-seconds", "2"])
    assert done.exit_code == 0, done.output
    plan = json.loads((tmp_path / "a" / "config.json").read_text())
    assert plan["trial_seconds"] == 2.0
    assert plan["max_env_steps"] % 80 == 0
    assert f"1 trials of {plan['max_env_steps']:,} env steps" in done.stderr
    (row,) = rows(tmp_path / "a")
    assert row.env_steps == plan["max_env_steps"]
    again = CliRunner().invoke(app, [*place(tmp_path), "--resume"])
    assert again.exit_code == 0, again.output
    assert json.loads((tmp_path / "a" / "config.json").read_text()) == plan
    assert "0 seeds: no verdict" in again.stderr
