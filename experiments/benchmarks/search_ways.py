"""Ways to search a problem, with equal numbers of trials and the same default first.

All of them use the sweep's own plan, rounds and searchers, with the studies in memory.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Protocol, TypeAlias

import numpy as np

from agents.board import Board
from agents.brain import make_brain
from agents.crew import consult
from ssmrl.config import KnobValue
from tuning.box.trust_box import incumbent
from tuning.plan import SweepPlan
from tuning.planned_points import planned_points
from tuning.rounds import first_number, next_round
from tuning.search.searcher import StudySearcher, row_name
from tuning.spaces.space import SearchSpace
from tuning.spaces.space_file import SpaceFile
from tuning.table.round_log import Round
from tuning.table.trial import Trial, TrialState

Decide: TypeAlias = Callable[[SweepPlan, Sequence[Round], Sequence[Trial]], Round | None]
"""From the plan, earlier rounds and their rows to the next round; None after the last one."""


class Problem(Protocol):
    """Something to search: a space, its limits, and a noisy score for every point."""

    @property
    def name(self) -> str:
        """Name in messages."""

    @property
    def space(self) -> SearchSpace:
        """The first box: the space before any move. Every search starts at its default point."""

    @property
    def limits(self) -> SearchSpace:
        """The hard limits."""

    def evaluate(self, point: Mapping[str, KnobValue], rng: np.random.Generator) -> float | None:
        """A score, the higher the better; None if the trial diverges."""

    def regret(self, point: Mapping[str, KnobValue]) -> float:
        """How much worse than the best a point is, measured without its score."""


def crew_round(plan: SweepPlan, earlier: Sequence[Round], rows: Sequence[Trial]) -> Round | None:
    """The next round, in the space that the agents agree on; they use the offline brain.

    Its number of trials is always the plan's, so that all ways get the same.
    """
    this = next_round(plan, earlier, rows)
    if this is None or not earlier:
        return this
    board = Board(
        space=earlier[-1].space,
        limits=plan.limits(),
        first=plan.space(),
        rows=tuple(rows),
        round=this.number,
        budget_trials_left=plan.num_samples - len(rows),
        seed=plan.seed,
    )
    advice = consult(board, brain=make_brain(), round_trials=this.num_trials)
    return replace(this, author="agents", space=advice.space, moves=())


@dataclass(frozen=True)
class Way:
    """A way to search.

    Attributes:
        searcher: Name of the searcher that chooses the points, one of ``tuning.plan.SEARCHERS``.
        decide: Function that moves the space between rounds; None makes one round of all trials in
            the first box.
        what: Description in words.
    """

    searcher: str
    decide: Decide | None
    what: str


WAYS: Mapping[str, Way] = MappingProxyType(
    {
        "random": Way("random", None, "uniform draws from the first box"),
        "qmc": Way("qmc", None, "a scrambled Sobol sequence in the first box"),
        "tpe": Way("tpe", None, "TPE in the first box"),
        "trust-box": Way("tpe", next_round, "TPE, and the trust box moves the space"),
        "crew": Way("tpe", crew_round, "TPE, and the agents move the space, offline"),
    }
)


def search(
    problem: Problem, way: Way, noise: np.random.Generator, *, seed: int, rounds: int, trials: int
) -> tuple[Trial, ...]:
    """Search a problem until the trials are spent.

    Args:
        problem: Problem to search.
        way: Way to search it.
        noise: Generator of the scores' noise; equal noise and points give equal scores.
        seed: Random seed of the searcher and of the draws from the first box.
        rounds: Number of rounds that the trials are divided into if the space moves.
        trials: Number of trials, those that repeat an incumbent included.

    Returns:
        The rows, in the order of their numbers.
    """
    plan = _plan(problem, way, seed, rounds if way.decide else 1, trials)
    earlier: list[Round] = []
    rows: list[Trial] = []
    while (this := (way.decide or next_round)(plan, earlier, rows)) is not None:
        earlier.append(this)
        rows += _round_rows(plan, this, rows, problem, noise)
    return tuple(rows)


def final_regret(problem: Problem, rows: Sequence[Trial]) -> float:
    """The noiseless regret of the configuration that a search picks by its noisy scores.

    Raises:
        ValueError: If every trial diverged.
    """
    best = incumbent(rows)
    if best is None:
        raise ValueError(
            f"a search of {problem.name} must have an incumbent, but none of {len(rows)} trials "
            "completed; start with the default, which does not diverge"
        )
    return problem.regret(best.knobs)


def _plan(problem: Problem, way: Way, seed: int, rounds: int, trials: int) -> SweepPlan:
    base = problem.space.base.with_knobs({"seed": seed})
    return SweepPlan(
        base.env.task,  # not trained: the problem scores its points
        method=base.policy.method,
        algorithm=base.algorithm,
        num_samples=trials,
        searcher=way.searcher,
        scheduler="none",
        seed=seed,
        rounds=rounds,
        num_confirmed=0,
        num_fresh_seeds=0,
        space_file=SpaceFile(replace(problem.space, base=base), replace(problem.limits, base=base)),
    )


def _round_rows(
    plan: SweepPlan,
    this: Round,
    rows: Sequence[Trial],
    problem: Problem,
    noise: np.random.Generator,
) -> list[Trial]:
    searcher = StudySearcher(
        this.space,
        name=plan.searcher,
        seed=plan.seed,
        storage_path=None,
        study_name=f"round-{this.number}",
        initial_points=planned_points(plan, this, rows),
        imports=rows,
        first_number=first_number(rows, this),
    )
    return [_tried(searcher, this, str(i), problem, noise) for i in range(this.num_trials)]


def _tried(
    searcher: StudySearcher, this: Round, name: str, problem: Problem, noise: np.random.Generator
) -> Trial:
    suggested = searcher.suggest(name)
    knobs = {knob: value for knob, value in suggested.items() if knob != "seed"}
    score = problem.evaluate(knobs, noise)
    if score is None:
        searcher.on_trial_complete(name, {"diverged": True})
        state, reason = TrialState.DIVERGED, "beyond the cliff"
    else:
        searcher.on_trial_complete(name, {"score": score, "finished": True})
        state, reason = TrialState.COMPLETE, ""
    number = searcher.number(name)
    return Trial(row_name(number), number, state, score, knobs, reason=reason, round=this.number)
