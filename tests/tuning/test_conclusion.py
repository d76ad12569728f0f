"""What a sweep says at its end: the winner that is kept, and the comparison that is told."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ssmrl.checkpoint import Checkpoint
from ssmrl.config import KnobValue
from ssmrl.meta.algorithms import ALGORITHMS
from ssmrl.run import checkpoint_path
from tests.tuning.handmade import draw_point
from tuning import conclusion
from tuning.conclusion import conclude
from tuning.fresh_returns import FreshReturns
from tuning.plan import SweepPlan
from tuning.table.round_log import Round
from tuning.table.trial import Trial, TrialState, TrialTable

PLAN = SweepPlan("point", algorithm="promp", num_samples=9, num_confirmed=0, num_fresh_seeds=3)
DEFAULT = PLAN.space().default_point()
BETTER = draw_point(PLAN.space(), np.random.default_rng(0))
USED = {"better": (10.0, 11.0, 13.0), "default": (1.0, 2.0, 4.0)}
OFF = (-5.0, -6.0, -7.0)


class Folder:
    """A sweep's folder with the checkpoint of each trial, and a table of them."""

    def __init__(self, path: Path, plan: SweepPlan = PLAN) -> None:
        self.path, self.plan = path, plan
        self.table = TrialTable(path / "trials.jsonl")
        self.rounds = [Round(0, "a", plan.space(), (), 2)]
        self.asked: list[tuple[list[str], bool]] = []
        self.said: list[str] = []

    def add(self, point: dict[str, KnobValue], score: float, round: int, seed: int) -> Trial:
        config = self.plan.base().with_knobs({**point, "seed": seed})
        number = len(self.table.rows)
        row = Trial(
            f"t{number:04d}",
            number,
            TrialState.COMPLETE,
            score,
            point,
            config.knobs(),
            round=round,
            seeds=(seed,),
            seed_scores=(score,),
        )
        self.table.append(row)
        learner = ALGORITHMS[config.algorithm].learner_type()(config)
        path = checkpoint_path(self.path / "checkpoints", config)
        tensors = learner.tensors() | {"optimizer.step": torch.ones(1)}
        Checkpoint(config, tensors, {"env_steps": number}).save(path)
        return row

    def searched_and_judged(self, *, winner_is_default: bool = False) -> None:
        """Two trials that searched, then three fresh seeds of each."""
        scores = (9.0, 1.0) if winner_is_default else (1.0, 9.0)
        for point, score in zip((DEFAULT, BETTER), scores, strict=True):
            self.add(point, score, 0, 0)
        self.rounds.append(Round(2, "verdict", self.plan.space(), (), 6))
        for point in (DEFAULT,) if winner_is_default else (BETTER, DEFAULT):
            for seed in (1, 2, 3):
                self.add(point, 0.5 * seed, 2, seed)

    def returns(
        self, folder: Path, trials: Sequence[Trial], *, with_switched_off: bool = False
    ) -> FreshReturns:
        """In place of playing."""
        assert folder == self.path
        self.asked.append(([row.trial_id for row in trials], with_switched_off))
        name = "default" if trials and trials[0].knobs == DEFAULT else "better"
        used = USED[name][: len(trials)]
        return FreshReturns(used, OFF[: len(trials)] if with_switched_off else ())

    def conclude(self) -> dict[str, Any]:
        return conclude(
            self.plan,
            self.path,
            self.table,
            rounds=self.rounds,
            command="python -m tuning.sweep --resume",
            say=self.said.append,
        )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    made = Folder(tmp_path)
    monkeypatch.setattr(conclusion, "fresh_returns", made.returns)
    monkeypatch.setattr(conclusion, "blind_return", lambda config: -17.25)
    monkeypatch.setattr(conclusion, "write_report", lambda path, **told: told_to.update(told))
    told_to.clear()
    return made


told_to: dict[str, Any] = {}


def test_the_winner_is_compared_with_the_default_by_fresh_seeds_alone(folder: Folder) -> None:
    folder.searched_and_judged()
    result = folder.conclude()
    assert folder.asked == [
        (["t0002", "t0003", "t0004"], True),
        (["t0005", "t0006", "t0007"], False),
    ]
    comparison = result["comparison"]
    assert comparison["best_mean"] == result["held_out_score"] == pytest.approx(34.0 / 3.0)
    assert comparison["default_mean"] == pytest.approx(7.0 / 3.0)
    assert comparison["difference"] == pytest.approx(9.0)
    assert comparison["switched_off_mean"] == -6.0
    assert (comparison["num_seeds"], comparison["num_tasks"]) == (3, 100)
    assert (comparison["level"], comparison["blind_return"]) == (0.95, -17.25)
    assert result["best_searched"] == {"trial": "t0001", "score": 9.0}
    assert (result["best_trial"], result["score"]) == ("t0002", 0.5)
    assert result["knobs"] == BETTER
    assert result["path"] == str(folder.path)
    assert result["no_adaptation_bound"] == -20.0


def test_what_acts_and_the_row_of_the_winner_are_kept(folder: Folder) -> None:
    folder.searched_and_judged()
    folder.conclude()
    kept = Checkpoint.load(folder.path / "best" / "checkpoint.safetensors")
    config = folder.plan.base().with_knobs({**BETTER, "seed": 1})
    assert kept.config == config
    learner = ALGORITHMS[config.algorithm].learner_type()(config)
    assert kept.tensors.keys() == learner.tensors().keys(), "without the optimiser's"
    assert kept.progress == {"env_steps": 2}
    player = ALGORITHMS[config.algorithm].player_type()
    acting = player.params_of(kept.tensors)
    assert all((acting[name] == value).all() for name, value in learner.params().items())
    assert json.loads((folder.path / "best" / "trial.json").read_text())["trial_id"] == "t0002"
    assert (folder.path / "trials.csv").read_text().count("\n") == 9


def test_the_last_lines_say_what_was_found(folder: Folder) -> None:
    folder.searched_and_judged()
    folder.conclude()
    *before, blind, off, difference, verdict = folder.said
    assert before[0].endswith("report.html")
    assert before[1].startswith("winner ")
    assert before[1].endswith("(trial t0002)")
    assert all(f"{knob}=" in before[1] for knob in BETTER)
    assert before[2] == "return on 100 fresh tasks: 11.33 [7.54, 15.13], over 3 fresh seeds"
    assert blind == "best blind return, without adaptation, on these tasks: -17.25"
    assert off == "the same policy with no adaptation: -6.00"
    assert difference == "the default: 2.33, difference +9.00 [+5.54, +12.46]"
    assert verdict == "The winner is better than the default: the interval lies above 0."


def test_an_open_verdict_says_what_so_many_seeds_can_find(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(USED, "better", (1.0, 2.0, 4.5))
    folder.searched_and_judged()
    folder.conclude()
    *_, findable, verdict = folder.said
    assert findable.startswith("this many seeds find a difference of ")
    assert verdict.startswith("No difference shown")


def test_after_a_second_look_the_interval_says_that_it_is_surer(folder: Folder) -> None:
    folder.searched_and_judged()
    folder.rounds.append(Round(3, "verdict", folder.plan.space(), (), 2))
    folder.add(BETTER, 0.0, 3, 4)
    folder.add(DEFAULT, 0.0, 3, 4)
    result = folder.conclude()
    assert result["comparison"]["level"] == 0.99
    assert any(line.endswith(" at 99%, since seeds were added") for line in folder.said)


def test_a_winner_that_is_the_default_is_compared_with_nothing(folder: Folder) -> None:
    folder.searched_and_judged(winner_is_default=True)
    result = folder.conclude()
    assert folder.asked == [(["t0002", "t0003", "t0004"], True)]
    assert result["comparison"]["difference"] is None
    assert not any("difference +" in line for line in folder.said)
    assert folder.said[-1].startswith("The winner is the default configuration itself")


def test_seeds_that_chose_the_winner_are_judged_but_give_no_verdict(folder: Folder) -> None:
    folder.add(DEFAULT, 1.0, 0, 0)
    folder.add(BETTER, 9.0, 0, 0)
    result = folder.conclude()
    assert folder.asked == [(["t0001"], True), ([], False)]
    assert result["comparison"]["num_seeds"] == 0
    assert result["comparison"]["verdict"].startswith("0 seeds: no verdict")
    assert "over 0 fresh seeds" in folder.said[2]


def test_a_default_that_won_by_the_seeds_that_chose_it_has_no_fresh_ones(folder: Folder) -> None:
    folder.add(DEFAULT, 9.0, 0, 0)
    folder.add(BETTER, 1.0, 0, 0)
    comparison = folder.conclude()["comparison"]
    assert folder.asked == [(["t0000"], True)]
    assert comparison["num_seeds"] == 0
    assert comparison["verdict"].startswith("0 seeds: no verdict; the winner is the default")


def test_without_a_complete_trial_there_is_no_winner_and_the_way_on_is_told(
    folder: Folder,
) -> None:
    result = folder.conclude()
    names = ("best_searched", "best_trial", "score", "held_out_score", "knobs", "comparison")
    assert [result[name] for name in names] == [None] * 6
    assert folder.said[0].startswith("no trial completed")
    assert not (folder.path / "best").exists()


def test_by_memory_the_lines_say_what_was_switched_off_and_what_training_was_told(
    folder: Folder,
) -> None:
    plan = SweepPlan("point", num_samples=9, num_confirmed=0, num_fresh_seeds=3)
    best = Trial("t0000", 0, TrialState.COMPLETE, 1.0, {"meta.outer_lr": 0.00123456})
    found = conclusion.compare((1.0,), None, num_tasks=100, switched_off=(2.0,))
    winner, earned, blind, off, told, verdict = conclusion._verdict_lines(plan, best, found)
    assert winner == "winner meta.outer_lr=0.001235 (trial t0000)"
    assert earned == "return on 100 fresh tasks: 1.00, over 1 fresh seed"
    assert blind == "the best return without adaptation is not known for these tasks"
    assert off == "the same policy with its memory switched off: 2.00"
    assert told == "training saw the hidden variable of its tasks; these evaluations did not"
    assert verdict == found.verdict


def test_the_report_is_given_the_winner_and_the_last_space(folder: Folder) -> None:
    folder.searched_and_judged()
    folder.conclude()
    assert told_to["best"].trial_id == "t0002"
    assert told_to["title"] == "point, ssm: 8 trials"
    assert told_to["space"] == folder.rounds[-1].space
    assert told_to["plan"] == PLAN
    assert told_to["bound"] == -20.0
    assert told_to["comparison"].difference == pytest.approx(9.0)
    assert told_to["rounds"] == (), "one round needs no story"
    assert told_to["table"] is folder.table
    assert told_to["command"] == "python -m tuning.sweep --resume"
