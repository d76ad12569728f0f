"""A study whose trials cost nothing: rows follow from their points, and nothing is trained."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import agents.study as study_module
from agents.board import Board
from agents.brain import Brain, Say, say_nothing
from agents.budget import Budget
from agents.crew import Consultation
from agents.findings import Author, Change, Decision, Direction, Expectation, Finding
from agents.ledger import EventKind, Ledger
from agents.study import Study
from tests.tuning.handmade import draw_point
from tuning.box.trust_box import propose
from tuning.engine import Sweep
from tuning.plan import SweepPlan
from tuning.planned_points import planned_points
from tuning.rounds import first_number
from tuning.search.searcher import row_name
from tuning.table.round_log import Round
from tuning.table.trial import Trial, TrialState

RATE = "meta.inner_lr"
Asked = Callable[[Board, int], tuple[Decision, int]]


def make_study(
    plan: SweepPlan,
    folder: Path,
    *,
    say: Say = say_nothing,
    brain_of: Callable[[Ledger], Brain] = lambda ledger: Brain(),
    **limits: Any,
) -> Study:
    """The study in a folder, as a process finds it when it starts."""
    budget = Budget(trials=plan.num_samples, **limits)
    ledger = Ledger(folder / "ledger.jsonl", budget)
    return Study(plan, folder, ledger=ledger, brain=brain_of(ledger), say=say)


@dataclass
class MadeUpTrials:
    """Makes the rows of a round where Ray would.

    Attributes:
        plan: The sweep's.
        num_left: After so many rows it makes no more, as if time were up.
        seconds: How long a round takes.
        hangs: Whether it then makes no more for ever.
    """

    plan: SweepPlan
    num_left: int = 1_000_000
    seconds: float = 0.0
    hangs: bool = False

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Every sweep gets its rows from here."""
        patch.setattr(Sweep, "run_round", lambda sweep, this, **_: self.make(sweep, this))

    def make(self, sweep: Sweep, this: Round) -> None:
        """The rows of the round that are missing; the better the larger the inner rate."""
        time.sleep(self.seconds)
        before = [row for row in sweep.table.rows if row.round < this.number]
        points = planned_points(self.plan, this, before)
        first = first_number(before, this)
        for index in range(len(sweep.table.rows) - len(before), this.num_trials):
            if self.num_left == 0:
                while self.hangs:
                    time.sleep(1.0)
                return
            self.num_left -= 1
            rng = np.random.default_rng([this.number, index])
            knobs = points[index].knobs if index < len(points) else draw_point(this.space, rng)
            seed = points[index].seed if index < len(points) else None
            if (this.number, index) == (0, 1):  # the best of the round, at the end of its range
                knobs = dict(knobs) | {RATE: this.space.ranges[RATE].high}
            score = math.log10(float(knobs[RATE])) + 0.01 * rng.normal()
            sweep.table.append(
                Trial(
                    row_name(first + index),
                    first + index,
                    TrialState.COMPLETE,
                    score,
                    knobs,
                    round=this.number,
                    seeds=(self.plan.seed if seed is None else seed,),
                    seed_scores=(score,),
                )
            )


def install_consult(patch: pytest.MonkeyPatch, asked: Asked) -> list[Board]:
    """The three agents without a crew: they want what the trust box wants.

    Returns:
        The boards on which they looked, which grow with the conversations.
    """
    boards: list[Board] = []

    def consult(
        board: Board, *, brain: Brain, round_trials: int, earlier: Any, say: Say
    ) -> Consultation:
        boards.append(board)
        proposal = propose(board.space, first=board.first, limits=board.limits, rows=board.rows)
        changes = tuple(Change(move.knob, move.new) for move in proposal.moves)
        decision, num_trials = asked(board, round_trials)
        findings = tuple(
            Finding(
                author=author,
                hypothesis=f"Round {board.round}: larger rates are better.",
                expected_effect="They score better.",
                expectation=Expectation(RATE, "high", Direction.BETTER),
                changes=changes if author is not Author.STATE_MODELING else (),
                trial_ids=(board.rows[0].trial_id,),
                decision=decision if author is Author.COORDINATOR else None,
                num_trials=num_trials if author is Author.COORDINATOR else None,
            )
            for author in Author
        )
        for finding in findings:
            data = {"brain": "offline", "finding": json.loads(finding.to_json())}
            say(EventKind.SAID, "raw", who=finding.author.value)
            say(EventKind.FOUND, finding.hypothesis, who=finding.author.value, data=data)
        space = json.loads(proposal.space.to_json())
        say(EventKind.DECIDED, decision.value, data={"space": space, "num_trials": num_trials})
        spoken = dict.fromkeys(Author, "offline")
        return Consultation(proposal.space, findings, decision, num_trials, (), spoken)

    patch.setattr(study_module, "consult", consult)
    return boards


def as_a_rule(board: Board, round_trials: int) -> tuple[Decision, int]:
    """Goes on with as many trials as usual while there are any."""
    num_trials = min(round_trials, board.budget_trials_left)
    return (Decision.GO_ON if num_trials else Decision.STOP), num_trials


def end_of(study: Study) -> dict[str, Any]:
    """What a study came to, without times."""
    return {
        "rows": [row.to_json() for row in study.sweep.table.rows],
        "rounds": study.sweep.rounds,
        "said": study.said(),
        "next_space": study.next_space(),
        "is_finished": study.is_finished(),
    }
