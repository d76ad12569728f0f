"""A study of what adapts by memory: who owns its knobs, and that it comes to its end offline."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agents.findings import _SECTIONS
from agents.research import app
from ssmrl.config import TrainConfig
from ssmrl.meta.algorithms import ALGORITHMS
from tests.tuning.tiny_memory import ENV_STEPS, write_space
from tuning.table.trial import TrialState, TrialTable

SCORE = ("algorithm", "env.", "evaluation.", "seed")  # what defines it is not searched


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_knob_that_can_be_searched_has_one_owner(algorithm: str) -> None:
    knobs = TrainConfig(algorithm=algorithm).knobs()
    for knob in (knob for knob in knobs if not knob.startswith(SCORE)):
        owners = [author for author, sections in _SECTIONS.items() if knob.startswith(sections)]
        assert len(owners) == 1, knob


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_offline_study_runs_to_its_end(tmp_path: Path) -> None:
    size = ["--rounds", "2", "--budget-trials", "6", "--max-env-steps", str(ENV_STEPS)]
    size += ["--max-concurrent", "1"]
    place = ["--storage", str(tmp_path), "--name", "a", "--space", str(write_space(tmp_path))]
    done = CliRunner().invoke(app, ["--task", "point", *size, *place, "--json"])
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout.splitlines()[-1])
    rows = TrialTable(tmp_path / "a" / "trials.jsonl").rows
    assert all(row.state is TrialState.COMPLETE for row in rows)
    assert sum(row.round < 2 for row in rows) == 4
    assert {row.seeds[0] for row in rows if row.round >= 2}.isdisjoint({0})
    assert len(summary["findings"]) == 6, "three agents after each of two rounds"
    assert summary["comparison"]["verdict"].startswith("1 seed: no verdict")
    assert summary["comparison"]["verdict"] in (tmp_path / "a" / "research.md").read_text()
    assert (tmp_path / "a" / "saved_models" / "checkpoint.safetensors").exists()
