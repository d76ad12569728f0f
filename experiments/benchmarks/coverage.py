"""How often printed intervals contain the true value, in draws whose true value is known."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import fmean
from typing import TypeAlias

import numpy as np

from experiments.benchmarks.harness import Measured, Row, Settings
from experiments.statistics import crossed_interval, median, stratified_interval
from ssmrl.student import LEVEL, student_interval
from tuning.comparison import LATER_LEVEL, compare
from tuning.table.ranking import ranking
from tuning.table.trial import Trial, TrialState

NUM_DRAWS, NUM_QUICK_DRAWS = 4000, 100
MIN_COVERAGE, MAX_COVERAGE = 0.93, 0.97
MAX_FALSE_ALARMS = 0.07
SPREADS = ((1.0, 1.0, 1.0), (1.0, 3.0, 1.0), (1.0, 0.3, 0.3), (0.3, 3.0, 1.0), (0.0, 1.0, 1.0))
"""Standard deviations of seeds, tasks and the rest; the coverage must hold in each case."""
PROBLEMS = np.linspace(-1.0, 1.0, 10)
"""Medians of the logarithms of the regrets of ten problems."""
NUM_RANKED = 12
LOOKS = (3, 6, 12, 24)
"""Numbers of seeds at the first verdict, and after each time that `--confirm` doubles them."""

Interval: TypeAlias = tuple[float, float] | None


def measure(settings: Settings) -> Measured:
    """Coverage of nominal 95 % intervals, which must be neither too short nor too wide."""
    num_draws = NUM_QUICK_DRAWS if settings.quick else NUM_DRAWS
    note = f"{num_draws:,} draws"
    rows = []
    for what, cases in _subjects():
        found = [_coverage(case, num_draws) for case in cases]
        one = len(cases) == 1
        least = what if one else f"{what}, least of {len(cases)} cases"
        most = f"{what}, too wide" if one else f"{what}, most of {len(cases)} cases"
        rows += [
            Row(least, min(found), "coverage", target=MIN_COVERAGE, note=note),
            Row(most, max(found), "coverage", target=MAX_COVERAGE, at_most=True, note=note),
        ]
    return Measured([*rows, *_power(num_draws), _false_alarms(num_draws)])


def _subjects() -> Iterator[tuple[str, list[Callable[[np.random.Generator], Interval]]]]:
    """Each printed interval by name, and draws of it whose true value is 0."""
    for num_tasks in (5, 20, 100):
        yield f"a return over {num_tasks} tasks", [partial(_of_tasks, num_tasks=num_tasks)]
    for num_seeds in (3, 6):
        yield f"the winner of a sweep, {num_seeds} seeds", [partial(_winner, num_seeds=num_seeds)]
        yield (
            f"its difference from the default, {num_seeds} seeds each",
            [partial(_difference, num_seeds=num_seeds, spread=spread) for spread in (1.0, 3.0)],
        )
    for num_runs in (2, 3, 5):
        what = f"the best of {NUM_RANKED} configurations, {num_runs} runs each"
        yield what, [partial(_best_of, num_runs=num_runs)]
    for shape in ((1, 20), (3, 20), (3, 40), (5, 40), (10, 40)):
        for trim, name in ((0.0, "mean"), (0.25, "interquartile mean")):
            yield (
                f"{name} of {shape[0]} {'seed' if shape[0] == 1 else 'seeds'} on {shape[1]} tasks",
                [partial(_crossed, shape=shape, spreads=each, trim=trim) for each in SPREADS],
            )
    for num_seeds in (40, 160):
        what = f"median regret of {num_seeds} seeds on {len(PROBLEMS)} problems"
        yield what, [partial(_of_regrets, num_seeds=num_seeds)]


def _coverage(draw: Callable[[np.random.Generator], Interval], num_draws: int) -> float:
    rng = np.random.default_rng(0)
    found = [draw(rng) or (math.nan, math.nan) for _ in range(num_draws)]
    return sum(low <= 0.0 <= high for low, high in found) / num_draws


def _of_tasks(rng: np.random.Generator, num_tasks: int) -> Interval:
    return student_interval(rng.normal(size=num_tasks))


def _winner(rng: np.random.Generator, num_seeds: int) -> Interval:
    found = compare(rng.normal(size=num_seeds).tolist(), None, num_tasks=100)
    return _known(found.best_low, found.best_high)


def _difference(rng: np.random.Generator, num_seeds: int, spread: float) -> Interval:
    """Interval of winner minus default, equal but for the ``spread`` of the default's seeds."""
    best, default = rng.normal(size=num_seeds), spread * rng.normal(size=num_seeds)
    found = compare(best.tolist(), default.tolist(), num_tasks=100)
    return _known(found.low, found.high)


def _best_of(rng: np.random.Generator, num_runs: int) -> Interval:
    """Interval of the best in a table of equal configurations."""
    runs = rng.normal(size=(NUM_RANKED, num_runs)).tolist()
    rows = [
        Trial(
            trial_id=f"t{number:04d}",
            number=number,
            state=TrialState.COMPLETE,
            score=fmean(scores),
            knobs={"meta.outer_lr": 1.0 + number},
            seeds=tuple(range(num_runs)),
            seed_scores=tuple(scores),
        )
        for number, scores in enumerate(runs)
    ]
    return ranking(rows)[0].interval


def _known(low: float | None, high: float | None) -> Interval:
    return None if low is None or high is None else (low, high)


def _crossed(
    rng: np.random.Generator, shape: tuple[int, int], spreads: Sequence[float], trim: float
) -> Interval:
    """Interval over seeds and tasks; a single seed has no deviation of its own."""
    of_seeds, of_tasks, rest = spreads
    seeds = rng.normal(size=(shape[0], 1)) * (of_seeds if shape[0] > 1 else 0.0)
    scores = seeds + of_tasks * rng.normal(size=(1, shape[1])) + rest * rng.normal(size=shape)
    return crossed_interval(scores, trim=trim)


def _of_regrets(rng: np.random.Generator, num_seeds: int) -> Interval:
    """Interval of the median log regret over problems and seeds, whose true value is 0."""
    regrets = PROBLEMS + rng.normal(size=(num_seeds, len(PROBLEMS)))
    return stratified_interval(regrets, rng, statistic=median)


def _power(num_draws: int) -> list[Row]:
    """Share of sweeps that find a difference of two standard deviations."""
    rows = []
    for num_seeds, target in ((3, None), (6, 0.8)):
        rng = np.random.default_rng(1)
        found = 0
        for _ in range(num_draws):
            best, default = rng.normal(2.0, 1.0, num_seeds), rng.normal(size=num_seeds)
            verdict = compare(best.tolist(), default.tolist(), num_tasks=100)
            found += verdict.low is not None and verdict.low > 0.0
        what = f"better by two standard deviations, and found so, {num_seeds} seeds each"
        rows.append(Row(what, found / num_draws, "share", target=target))
    return rows


def _false_alarms(num_draws: int) -> Row:
    """Share of sweeps that tell equal configurations apart in one of several looks."""
    rng, found = np.random.default_rng(2), 0
    for _ in range(num_draws):
        best, default = rng.normal(size=(2, LOOKS[-1])).tolist()
        found += any(
            compare(best[:size], default[:size], num_tasks=100, level=level).is_shown
            for size, level in zip(LOOKS, (LEVEL, *[LATER_LEVEL] * len(LOOKS)), strict=False)
        )
    what = f"equal configurations told apart, {len(LOOKS)} looks at up to {LOOKS[-1]} seeds each"
    return Row(what, found / num_draws, "share", target=MAX_FALSE_ALARMS, at_most=True)
