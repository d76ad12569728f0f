"""The loop of a study: sweep, table, agents, next sweep, until the budget ends."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from agents.board import Board
from agents.brain import Brain, Say
from agents.budget import KINDS
from agents.crew import consult
from agents.findings import Author, Finding
from agents.hypotheses import score_hypothesis
from agents.ledger import EventKind, Ledger, Reservation
from ssmrl.strict_json import json_text
from ssmrl.train_log import LogKind
from tuning.engine import Sweep
from tuning.placement import Placement
from tuning.plan import SweepPlan
from tuning.rounds import closing_round, is_confirmation, next_round, searched_rows
from tuning.spaces.ranges import Choice, Range
from tuning.spaces.space import SearchSpace
from tuning.table.move import Move
from tuning.table.round_log import Round
from tuning.table.trial import Trial

CREW = "agents"

# A resumed conversation repeats these events, so known ones are not written again. Findings and
# decisions are: of those, the last event counts.
_TOLD_ONCE = (EventKind.SAID, EventKind.REFUSED, EventKind.FELL_BACK, EventKind.NOTED)


@dataclass(frozen=True)
class Said:
    """A finding in the ledger.

    Attributes:
        round: Number of search rounds before it, from 1.
        finding: The finding.
        brain: Its source: ``offline``, a model's name, or ``trust box``.
        verdict: Outcome of its hypothesis; empty until it was tested.
        statistic: The statistic behind the verdict.
    """

    round: int
    finding: Finding
    brain: str
    verdict: str = ""
    statistic: str = ""


class Study:
    """The loop of a study over a sweep's folder; all of its state is on the disk.

    Agents advise between rounds. Their proposals must pass the checks of the trust box, and trials
    are reserved from the budget before they are made.

    Args:
        plan: The plan of the sweep; its total number of trials is the budget.
        folder: Folder of the study.
        ledger: The ledger of events and spending.
        brain: The brain that answers for the agents.
        earlier: Findings of earlier studies of the task.
        log: Additional log of the trials' evaluations; None for none.
        say: Receives progress events; it need not record them.
    """

    def __init__(
        self,
        plan: SweepPlan,
        folder: Path,
        *,
        ledger: Ledger,
        brain: Brain,
        earlier: Sequence[Mapping[str, Any]] = (),
        log: LogKind | None = None,
        say: Say,
    ) -> None:
        self._plan, self._folder, self._ledger, self._brain = plan, folder, ledger, brain
        self._earlier, self._say = tuple(earlier), say
        self._told: Counter[tuple[EventKind, str, str]] = Counter()
        self._settle_time()
        self._minutes = ledger.remaining("minutes")
        self._clock: Reservation | None = None
        self._started = time.monotonic()
        if 0.0 < self._minutes < float("inf"):
            plan = replace(plan, time_budget_s=60.0 * self._minutes)
            self._clock = ledger.reserve("minutes", self._minutes)
        self.sweep = Sweep(plan, folder, log=log, say=self._note, restore=self._restore)
        if self.sweep.rounds and self.sweep.is_complete(self.sweep.rounds[-1]):
            self._account(self.sweep.rounds[-1])  # a dead process may not have done it
        self._count_what_is_known()

    def run(self, *, num_cpus: int, placement: Placement, quiet: bool) -> None:
        """Run the remaining rounds, as far as the budget allows; Ray must be running."""
        while self._has_time() and (this := self.sweep.begin_round(self._decide)) is not None:
            if self._open_trials() is None:
                self._ledger.reserve("trials", this.num_trials)
            self.sweep.run_round(this, num_cpus=num_cpus, placement=placement, quiet=quiet)
            if not self.sweep.is_complete(this):
                break
            self._account(this)
        self.close()

    def close(self) -> None:
        """Return the unused time to the budget."""
        if self._clock is not None:
            self._ledger.settle(self._clock, (time.monotonic() - self._started) / 60.0)
            self._clock = None

    def is_finished(self) -> bool:
        """Whether no trial and no conversation is left to do."""
        rounds = self.sweep.rounds
        if not rounds or not self.sweep.is_complete(rounds[-1]):
            return False
        num_searched = sum(this.number < self._plan.rounds for this in rounds)
        decision = self._decision(num_searched)
        is_over = decision is not None and decision["num_trials"] == 0
        return is_over and closing_round(self._plan, rounds, self.sweep.table.rows) is None

    def said(self) -> list[Said]:
        """All accepted findings, in order, with the outcomes of their hypotheses."""
        found: dict[tuple[int, str], Said] = {}
        for event in self._ledger.events:
            key = event.round, event.who
            if event.kind is EventKind.FOUND:
                finding = Finding.from_json(json_text(event.data["finding"]))
                found[key] = Said(event.round, finding, str(event.data["brain"]))
            elif event.kind is EventKind.SCORED and key in found:
                verdict, statistic = event.data["verdict"], event.data["statistic"]
                found[key] = replace(found[key], verdict=verdict, statistic=statistic)
        return list(found.values())

    def next_space(self) -> SearchSpace:
        """The space that the agents would search next if the budget allowed it."""
        rounds = self.sweep.rounds
        num_searched = sum(this.number < self._plan.rounds for this in rounds)
        event = self._decision(num_searched)
        if event is None:
            return rounds[-1].space if rounds else self._plan.space()
        return SearchSpace.from_json(json_text(event["space"]), self._plan.base())

    def _decide(
        self, plan: SweepPlan, rounds: Sequence[Round], rows: Sequence[Trial]
    ) -> Round | None:
        """The next round: the planned first one, then those that the agents decide.

        The agents are asked once per round: a dead process may have asked them, and paid, before
        it wrote the round.
        """
        number = len(rounds)
        if rounds and rounds[-1].number < plan.rounds and self._decision(number) is None:
            self._consult(number, rounds, rows)
        return self._decided(plan, rounds, rows, self._trials_left())

    def _restore(
        self, plan: SweepPlan, rounds: Sequence[Round], rows: Sequence[Trial]
    ) -> Round | None:
        """The round after ``rounds`` if its record is lost; the ledger already has its trials."""
        num_made = sum(this.num_trials for this in rounds)
        num_left = plan.num_samples - plan.num_kept_back - num_made
        return self._decided(plan, rounds, rows, num_left)

    def _decided(
        self, plan: SweepPlan, rounds: Sequence[Round], rows: Sequence[Trial], num_left: int
    ) -> Round | None:
        """The next round by the decision in the ledger; None if there is none."""
        if not rounds:
            return next_round(plan, rounds, rows)
        number = len(rounds)
        if rounds[-1].number >= plan.rounds or number >= plan.rounds:
            return closing_round(plan, rounds, rows)
        if (decision := self._decision(number)) is None:
            return None
        if (num_trials := min(int(decision["num_trials"]), num_left)) < 1:
            return closing_round(plan, rounds, rows)
        space = SearchSpace.from_json(json_text(decision["space"]), plan.base())
        findings = [said.finding for said in self.said() if said.round == number]
        moves = _moves(rounds[-1].space, space, findings) if findings else ()
        return Round(number, CREW, space, moves, num_trials)

    def _consult(self, number: int, rounds: Sequence[Round], rows: Sequence[Trial]) -> None:
        is_last = number >= self._plan.rounds
        board = Board(
            space=rounds[-1].space,
            limits=self._plan.limits(),
            first=self._plan.space(),
            rows=tuple(searched_rows(self._plan, rows)),
            round=number,
            budget_trials_left=0 if is_last else self._trials_left(),
            seed=self._plan.seed,
        )
        rounds_left = max(1, self._plan.rounds - number)
        self._told = Counter(
            (event.kind, event.who, event.text)
            for event in self._ledger.events
            if event.round == number and event.kind in _TOLD_ONCE
        )
        consult(
            board,
            brain=self._brain,
            round_trials=max(1, self._trials_left() // rounds_left),
            earlier=self._earlier,
            say=partial(self._tell, number),
        )

    def _tell(
        self,
        number: int,
        kind: EventKind,
        text: str = "",
        *,
        who: str = "",
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Record an event, unless a dead process already did, and show it."""
        line = kind, self._ledger.redact(who), self._ledger.redact(text)
        if self._told[line]:
            self._told[line] -= 1
            self._say(kind, line[2], who=line[1])
            return
        event = self._ledger.record(kind, text, who=who, round=number, data=data)
        self._say(kind, event.text, who=event.who, data=event.data)

    def _note(self, text: str) -> None:
        self._say(EventKind.NOTED, text)

    def _trials_left(self) -> int:
        """Trials left for rounds of search; those for the closing rounds are kept back."""
        return max(0, int(self._ledger.remaining("trials")) - self._plan.num_kept_back)

    def _has_time(self) -> bool:
        return time.monotonic() - self._started < 60.0 * self._minutes

    def _count_what_is_known(self) -> None:
        """Count all trials that were made as spent, even if the ledger lost their records."""
        rounds = [this for this in self.sweep.rounds if self.sweep.is_complete(this)]
        made = sum(this.num_trials for this in rounds)
        missing = min(made - self._ledger.spent("trials"), self._ledger.remaining("trials"))
        if missing > 0:
            self._ledger.settle(self._ledger.reserve("trials", missing), missing)
        if self._ledger.num_lost:
            spent = (f"{kind} {self._ledger.spent(kind):g}" for kind in KINDS)
            self._note(
                f"{self._ledger.num_lost} records of the ledger are lost; the spending, including "
                f"all doubtful amounts, is: {', '.join(spent)}"
            )

    def _open_trials(self) -> Reservation | None:
        """The open reservation of trials of the current round, if any."""
        open_trials = (entry for entry in self._ledger.unsettled if entry.kind == "trials")
        return next(open_trials, None)

    def _account(self, this: Round) -> None:
        """Settle and score a round whose trials are made; steps already done are skipped."""
        if (reservation := self._open_trials()) is not None:
            self._ledger.settle(reservation, this.num_trials)
        self._score(this)

    def _score(self, this: Round) -> None:
        """Test the agents' hypotheses from before a round by its trials."""
        if is_confirmation(self._plan, this):
            return  # nothing new was tried
        rows = self.sweep.table.rows
        before = [row for row in rows if row.round < this.number]
        after = [row for row in rows if row.round <= this.number]
        for said in self.said():
            if said.round == this.number and not said.verdict:
                score = score_hypothesis(said.finding, before, after)
                self._tell(
                    said.round,
                    EventKind.SCORED,
                    f"{score.verdict}: {score.statistic}",
                    who=said.finding.author.value,
                    data={
                        "verdict": score.verdict.value,
                        "statistic": score.statistic,
                        "trial_ids": list(score.trial_ids),
                    },
                )

    def _decision(self, number: int) -> Mapping[str, Any] | None:
        """The data of the decision after ``number`` rounds of search; None if there is none."""
        for event in reversed(self._ledger.events):
            if event.kind is EventKind.DECIDED and event.round == number:
                return event.data
        return None

    def _settle_time(self) -> None:
        """Settle the time of a dead process, up to its last write."""
        kept = ("trials.jsonl", "optuna.journal", "checkpoints/*")
        written = [path.stat().st_mtime for name in kept for path in self._folder.glob(name)]
        # The ledger's mtime is left out, since this process has opened the file; its events count.
        events = [event.time for event in self._ledger.events if event.kind != EventKind.BUDGET]
        last = max(written + events, default=0.0)
        for reservation in self._ledger.unsettled:
            if reservation.kind == "minutes":
                began = self._ledger.events[reservation.number - 1].time
                spent = min(reservation.amount, max(0.0, (last - began) / 60.0))
                self._ledger.settle(reservation, spent)


def _moves(old: SearchSpace, new: SearchSpace, findings: Sequence[Finding]) -> tuple[Move, ...]:
    """The moves from the last space to the agents' space, with the findings as reasons."""
    moves = []
    for knob, a_range in new.ranges.items():
        before = old.ranges[knob]
        if a_range != before:
            finding = _reason(knob, findings)
            moves.append(
                Move(
                    knob,
                    before,
                    a_range,
                    _kind(before, a_range),
                    f"{finding.author}: {finding.hypothesis}",
                    finding.trial_ids,
                )
            )
    return tuple(moves)


def _reason(knob: str, findings: Sequence[Finding]) -> Finding:
    """The specialist's finding that changes the knob, or the coordinator's."""
    for finding in findings:
        if finding.author is not Author.COORDINATOR and any(
            change.knob == knob for change in finding.changes
        ):
            return finding
    return findings[-1]


def _kind(old: Range, new: Range) -> str:
    if new.covers(old):
        return "expand"
    return "drop" if isinstance(new, Choice) else "narrow"
