"""More seeds for a verdict that is open: which are trained, and when it is enough."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.tuning.handmade import draw_point
from tuning import conclusion
from tuning.comparison import LATER_LEVEL
from tuning.conclusion import next_until_shown
from tuning.fresh_returns import FreshReturns
from tuning.plan import SweepPlan
from tuning.planned_points import planned_points
from tuning.rounds import VERDICT, fresh_rows, further_verdict, num_verdicts, winner
from tuning.search.searcher import row_name
from tuning.table.round_log import Round
from tuning.table.trial import Trial, TrialState

HERE = Path()


class Made:
    """A sweep whose trials cost nothing: a seed's return is drawn around its point's mean."""

    def __init__(self, plan: SweepPlan, *, winner_is_default: bool = False) -> None:
        self.plan, self.rows, self.rounds = plan, list[Trial](), list[Round]()
        default = plan.space().default_point()
        better = draw_point(plan.space(), np.random.default_rng(0))
        self.points = [default, better]
        scores = (9.0, 1.0) if winner_is_default else (1.0, 9.0)
        for point, score in zip(self.points, scores, strict=True):
            self._append(point, 0, score, plan.seed)
        self.rounds.append(Round(0, "a", plan.space(), (), 2))

    def _append(
        self,
        point: dict[str, float | int | bool | str],
        number: int,
        score: float | None,
        seed: int,
    ) -> None:
        state = TrialState.DIVERGED if score is None else TrialState.COMPLETE
        place = len(self.rows)
        seeds = tuple(range(seed, seed + self.plan.seeds_per_trial))
        self.rows.append(
            Trial(
                row_name(place),
                place,
                state,
                score,
                point,
                reason="a number is not finite" if score is None else "",
                round=number,
                seeds=seeds,
            )
        )

    def play(self, this: Round, *, diverges: bool = False) -> None:
        for planned in planned_points(self.plan, this, self.rows):
            assert planned.seed is not None
            self._append(dict(planned.knobs), this.number, None if diverges else 0.0, planned.seed)
        self.rounds.append(this)

    def next(self) -> Round | None:
        return next_until_shown(HERE, self.plan, self.rounds, self.rows)


def returns_by_seed(shift: float) -> object:
    """In place of playing: the better point earns ``shift`` more, each seed has its own luck."""

    def found(
        folder: Path, trials: Sequence[Trial], *, with_switched_off: bool = False
    ) -> FreshReturns:
        seeds = [(seed, trial) for trial in trials for seed in trial.seeds]
        luck = [float(np.random.default_rng(seed).normal()) for seed, _ in seeds]
        above = [shift if trial.number and trial.knobs != DEFAULT else 0.0 for _, trial in seeds]
        return FreshReturns(tuple(map(sum, zip(luck, above, strict=True))))

    return found


PLAN = SweepPlan("point", num_samples=8, num_fresh_seeds=3)
DEFAULT = PLAN.space().default_point()


def test_seeds_are_doubled_until_the_difference_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conclusion, "fresh_returns", returns_by_seed(shift=1.5))
    sweep, sizes = Made(PLAN), []
    while (this := sweep.next()) is not None:
        assert this.author == VERDICT
        sweep.play(this)
        sizes.append(this.num_trials)
    assert sizes[:2] == [6, 6]
    assert 2 < len(sizes) < 6, sizes
    assert sizes[2:] == [12 * 2**index for index in range(len(sizes) - 2)]
    named = winner(sweep.rows, PLAN)
    assert named is not None
    for knobs in (named.knobs, DEFAULT):
        fresh = fresh_rows(sweep.rows, PLAN, knobs)
        seeds = [seed for row in fresh for seed in row.seeds]
        assert len(set(seeds)) == len(seeds) == sum(sizes) // 2
        assert PLAN.seed not in seeds, "that one has searched"
    assert num_verdicts(PLAN, sweep.rows) == len(sizes)


def test_a_later_look_must_be_surer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conclusion, "fresh_returns", returns_by_seed(shift=0.0))
    levels, compare = [], conclusion.compare

    def told(*samples: object, level: float, **more: object) -> object:
        levels.append(level)
        return compare(*samples, level=level, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(conclusion, "compare", told)
    sweep = Made(PLAN)
    for _ in range(3):
        this = sweep.next()
        assert this is not None
        sweep.play(this)
    assert sweep.next() is not None
    assert levels == [0.95, LATER_LEVEL, LATER_LEVEL]


def test_a_verdict_that_holds_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conclusion, "fresh_returns", returns_by_seed(shift=20.0))
    sweep = Made(PLAN)
    first = sweep.next()
    assert first is not None
    sweep.play(first)
    assert sweep.next() is None


def test_a_winner_that_is_the_default_has_nothing_to_be_compared_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conclusion, "fresh_returns", returns_by_seed(shift=0.0))
    sweep = Made(PLAN, winner_is_default=True)
    first = sweep.next()
    assert first is not None
    sweep.play(first)
    assert sweep.next() is None


def test_what_fails_each_time_is_not_tried_for_ever() -> None:
    sweep = Made(PLAN)
    first = further_verdict(PLAN, sweep.rounds, sweep.rows)
    assert first is not None
    sweep.play(first, diverges=True)
    assert further_verdict(PLAN, sweep.rounds, sweep.rows) is None


@pytest.mark.parametrize(("seeds_per_trial", "num_trials"), [(1, 6), (2, 4), (4, 2)])
def test_without_a_planned_verdict_three_seeds_are_the_first(
    seeds_per_trial: int, num_trials: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conclusion, "fresh_returns", returns_by_seed(shift=0.0))
    plan = SweepPlan(
        "point",
        algorithm="promp",
        num_samples=2,
        num_confirmed=0,
        num_fresh_seeds=0,
        seeds_per_trial=seeds_per_trial,
    )
    sweep = Made(plan)
    this = sweep.next()
    assert this is not None
    assert (this.number, this.num_trials) == (plan.rounds + 1, num_trials)
    sweep.play(this)
    named = winner(sweep.rows, plan)
    assert named is not None
    assert len(fresh_rows(sweep.rows, plan, named.knobs)) == num_trials // 2
    assert all(row.round == this.number for row in fresh_rows(sweep.rows, plan, named.knobs))
