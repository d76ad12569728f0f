"""What a study leaves behind: each number in the text is one of the table or of the ledger."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import agents.study_report as report_module
from agents.budget import Budget
from agents.earlier import earlier_findings
from agents.ledger import EventKind, Ledger
from agents.study import Study
from agents.study_report import conclude_study
from ssmrl.checkpoint import Checkpoint
from ssmrl.config import TrainConfig
from tests.agents.made_up_study import RATE, MadeUpTrials, as_a_rule, install_consult, make_study
from tuning.placement import Placement
from tuning.plan import SweepPlan
from tuning.rounds import winner

PLAN = SweepPlan("point", algorithm="promp", rounds=2, num_samples=7, num_confirmed=2)
COMMAND = "python -m agents.research --task point"
COMPARISON = {
    "best_mean": -8.5,
    "default_mean": -9.25,
    "difference": 0.75,
    "low": 0.5,
    "high": 1.0,
    "num_tasks": 100,
    "verdict": "The winner is better than the default.",
    "best_low": -9.0,
    "best_high": -8.0,
    "blind_return": -20.0,
    "switched_off_mean": -20.5,
    "num_seeds": 3,
}


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A finished study in ``tmp_path/own``, of which only the comparison is made up."""
    folder = tmp_path / "own"
    folder.mkdir()
    MadeUpTrials(PLAN).install(monkeypatch)
    install_consult(monkeypatch, as_a_rule)
    made = make_study(PLAN, folder)
    made.run(num_cpus=1, placement=Placement(), quiet=True)

    def conclude(plan: SweepPlan, folder: Path, table: Any, *_: Any, **__: Any) -> dict[str, Any]:
        best = winner(table.rows, plan)
        if best is not None:
            config = plan.base().with_knobs(best.knobs)
            saved = Checkpoint(config, {"weight": torch.ones(2)}, {})
            saved.save(folder / "best" / "checkpoint.safetensors")
        return {
            "best_trial": best and best.trial_id,
            "score": best and best.score,
            "held_out_score": best and -8.5,
            "knobs": best and dict(best.knobs),
            "comparison": best and COMPARISON,
            "no_adaptation_bound": -20.0,
        }

    monkeypatch.setattr(report_module, "conclude", conclude)
    return made


def concluded(study: Study, folder: Path) -> tuple[dict[str, Any], str]:
    ledger = Ledger(folder / "ledger.jsonl", Budget(trials=PLAN.num_samples))
    ledger.record(EventKind.REFUSED, "no JSON", who="coordinator", round=1)
    summary = conclude_study(
        PLAN, folder, study, ledger, num_earlier=3, command=COMMAND, say=lambda *_, **__: None
    )
    return summary, (folder / "research.md").read_text()


def test_the_summary_counts_what_the_ledger_and_the_log_say(study: Study, tmp_path: Path) -> None:
    summary, _ = concluded(study, tmp_path / "own")
    assert json.loads(json.dumps(summary)) == summary
    assert (summary["rounds"], summary["brains"]) == (2, ["offline"])
    assert summary["spent"] == {"trials": 7, "minutes": 0, "tokens": 0, "calls": 0}
    assert (summary["num_refused"], summary["num_earlier"]) == (1, 3)
    assert [entry["round"] for entry in summary["findings"]] == [1, 1, 1, 2, 2, 2]
    assert summary["first_space"] == json.loads(PLAN.space().to_json())
    assert summary["last_space"] == json.loads(study.next_space().to_json())
    assert summary["first_space"] != summary["last_space"]


def test_the_text_tells_each_round_with_its_findings_moves_and_what_is_open(
    study: Study, tmp_path: Path
) -> None:
    summary, text = concluded(study, tmp_path / "own")
    best, rounds = text.split("## Best model")[1].split("## Rounds")
    rounds, rest = rounds.split("## Open questions")
    assert f"Trial {summary['best_trial']}" in best
    assert f"{summary['score']:.4g}" in best
    assert "-8.5 [-9, -8], without adaptation -20.5, best blind return -20, the default" in best
    assert "-9.25, difference +0.75 [+0.5, +1]" in best
    parts = rounds.split("### Round ")[1:]
    assert [part.split(":")[0] for part in parts] == ["0", "1", "2"]
    assert [part.count("Expected: ") for part in parts] == [0, 3, 0]
    assert f"- box: `{RATE}` [0.01, 1] to [0.01, " in parts[1]
    assert "Afterwards: " in parts[1]
    # The last findings had no round to be judged by, so they are open.
    assert rest.count("Round 2: larger rates are better.") == 3
    assert "Afterwards" not in rest
    assert f"`{RATE}` [" in rest.split("where the next round would search")[1]
    assert text.endswith(f"## Command\n\n    {COMMAND}\n")
    assert "Replies refused: 1. Findings of earlier studies shown: 3." in text


def test_the_next_study_reads_the_findings_and_their_verdicts(study: Study, tmp_path: Path) -> None:
    summary, _ = concluded(study, tmp_path / "own")
    found = earlier_findings(tmp_path / "next", "point")
    assert len(found) == 6
    for entry, said in zip(found, summary["findings"], strict=True):
        for name in ("author", "hypothesis", "verdict", "trial_ids"):
            assert entry[name] == said[name]


def test_the_saved_model_says_what_it_is(study: Study, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    summary, _ = concluded(study, folder)
    saved = Checkpoint.load(folder / "saved_models" / "checkpoint.safetensors")
    config = TrainConfig.from_json((folder / "saved_models" / "config.json").read_text())
    manifest = json.loads((folder / "saved_models" / "manifest.json").read_text())
    assert saved.config == config == PLAN.base().with_knobs(summary["knobs"])
    assert (manifest["score"], manifest["held_out_score"]) == (summary["score"], -8.5)
    assert manifest["best_trial"] == summary["best_trial"]


def test_a_study_without_a_trial_says_so_and_saves_no_model(study: Study, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    empty = make_study(PLAN, tmp_path / "empty")
    summary, text = concluded(empty, tmp_path / "empty")
    assert summary["best_trial"] is None
    assert "No trial completed." in text
    assert "Answered by: nobody yet." in text
    assert not (tmp_path / "empty" / "saved_models").exists()
