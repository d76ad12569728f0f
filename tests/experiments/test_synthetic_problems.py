"""The synthetic suite: where its optima lie, what its landscapes cost, and that seeds differ."""

import itertools
import math

import numpy as np
import pytest

from experiments.benchmarks.synthetic_problems import (
    CONDITION_NUMBER,
    NOISE_STD,
    Problem,
    make_problems,
)
from ssmrl.config import KnobValue
from tests.tuning.handmade import draw_point
from tuning.spaces.space import Choice

NAMES = [
    f"{landscape}-{where}"
    for landscape in ("quadratic", "valley", "cliff", "mixed")
    for where in ("inside", "outside")
]
SEEDS = range(6)


@pytest.fixture(scope="module")
def suites() -> list[dict[str, Problem]]:
    return [{problem.name: problem for problem in make_problems(seed)} for seed in SEEDS]


def beyond(problem: Problem) -> list[float]:
    """How far each coordinate of the optimum lies outside of the first box, in its widths."""
    places = [
        a_range.to_unit(float(problem.optimum[knob]))
        for knob, a_range in problem.space.ranges.items()
        if knob in problem.optimum and not isinstance(a_range, Choice)
    ]
    return [max(-place, place - 1.0) for place in places]


def test_the_suite_is_the_same_eight_problems_under_every_seed(
    suites: list[dict[str, Problem]],
) -> None:
    for suite in suites:
        assert list(suite) == NAMES
        assert all(p.optimum_inside == name.endswith("-inside") for name, p in suite.items())


@pytest.mark.parametrize("name", NAMES)
def test_the_optimum_has_no_regret_and_every_other_point_has(
    name: str, suites: list[dict[str, Problem]]
) -> None:
    rng = np.random.default_rng(0)
    for suite in suites:
        problem = suite[name]
        assert problem.regret(problem.optimum) == 0.0
        assert all(problem.regret(draw_point(problem.limits, rng)) > 0.0 for _ in range(100))


@pytest.mark.parametrize("name", NAMES)
def test_the_first_box_holds_the_optimum_or_misses_it_by_a_fifth_of_its_width(
    name: str, suites: list[dict[str, Problem]]
) -> None:
    for suite in suites:
        problem = suite[name]
        assert problem.limits.contains(problem.optimum)
        assert problem.limits.covers(problem.space)
        outside = [distance for distance in beyond(problem) if distance > 0.0]
        if problem.optimum_inside:
            assert problem.space.contains(problem.optimum)
        else:
            assert len(outside) == 2
            # An Int's optimum is moved to its nearest step.
            assert all(0.18 <= distance <= 0.64 for distance in outside)


def test_all_problems_start_from_the_same_default_which_never_diverges(
    suites: list[dict[str, Problem]],
) -> None:
    (base,) = {problem.space.base for suite in suites for problem in suite.values()}
    for suite in suites:
        for problem in suite.values():
            point = problem.space.default_point()
            assert math.isfinite(problem.regret(point))
            assert all(base.knobs()[knob] == value for knob, value in point.items())


def test_a_tenth_of_a_range_in_every_knob_costs_a_hundredth(
    suites: list[dict[str, Problem]],
) -> None:
    problem = suites[0]["quadratic-inside"]
    floats = [knob for knob in problem.optimum if knob != "policy.hidden_dim"]
    moved = dict(problem.optimum)
    for knob in floats:
        a_range = problem.space.ranges[knob]
        assert not isinstance(a_range, Choice)
        place = a_range.to_unit(float(moved[knob]))
        moved[knob] = a_range.from_unit(place + (0.1 if place < 0.5 else -0.1))
    assert problem.regret(moved) == pytest.approx(0.01 * len(floats) / 6)


def test_the_valley_is_as_steep_as_it_says_along_axes_that_are_no_knobs(
    suites: list[dict[str, Problem]],
) -> None:
    """The second derivatives, from differences, have the condition number as their ratio."""
    problem = suites[0]["valley-inside"]
    ranges = [r for r in problem.space.ranges.values() if not isinstance(r, Choice)]
    knobs = list(problem.space.ranges)

    def regret(offset: np.ndarray) -> float:
        point = {
            knob: r.from_unit(r.to_unit(float(problem.optimum[knob])) + float(o))
            for knob, r, o in zip(knobs, ranges, offset, strict=True)
        }
        return problem.regret(point)

    h, axes = 0.02, np.eye(len(knobs))
    hessian = np.array(
        [
            [regret(h * (a + b)) - regret(h * a) - regret(h * b) for b in axes] for a in axes
        ]
    ) / h**2  # fmt: skip
    eigenvalues = np.linalg.eigvalsh(hessian)
    assert eigenvalues[-1] / eigenvalues[0] == pytest.approx(CONDITION_NUMBER, rel=1e-3)
    assert np.trace(hessian) == pytest.approx(2.0)  # the mean of offset**2, twice differentiated
    off_diagonal = hessian - np.diag(np.diag(hessian))
    assert np.abs(off_diagonal).max() > 0.1


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_a_cliff_cuts_the_first_box_and_the_other_landscapes_do_not(
    where: str, suites: list[dict[str, Problem]]
) -> None:
    rng = np.random.default_rng(0)
    for suite in suites:
        for name in (f"{landscape}-{where}" for landscape in ("quadratic", "cliff", "mixed")):
            problem = suite[name]
            scores = [problem.evaluate(draw_point(problem.space, rng), rng) for _ in range(200)]
            share = sum(score is None for score in scores) / len(scores)
            assert 0.1 < share < 0.6 if name.startswith("cliff") else share == 0.0


def test_a_cliff_is_one_plane(suites: list[dict[str, Problem]]) -> None:
    """Between two points that work no point fails, and between two that fail none works."""
    rng = np.random.default_rng(0)
    problem = suites[0]["cliff-inside"]
    ranges = {k: r for k, r in problem.space.ranges.items() if not isinstance(r, Choice)}
    points = [draw_point(problem.space, rng) for _ in range(60)]
    num_checked = 0
    for a, b in itertools.pairwise(points):
        middle: dict[str, KnobValue] = {
            k: r.from_unit((r.to_unit(float(a[k])) + r.to_unit(float(b[k]))) / 2)
            for k, r in ranges.items()
        }
        fails = [math.isinf(problem.regret(point)) for point in (a, b, middle)]
        if fails[0] == fails[1]:
            assert fails[2] == fails[0]
            num_checked += 1
    assert num_checked > 20


def test_one_level_of_each_categorical_knob_is_right(suites: list[dict[str, Problem]]) -> None:
    best_methods = set()
    for suite in suites:
        for problem in (suite["mixed-inside"], suite["mixed-outside"]):
            best_methods.add(problem.optimum["policy.method"])
            other = "trial" if problem.optimum["policy.memory_reset"] == "episode" else "episode"
            wrong = {**problem.optimum, "policy.memory_reset": other}
            assert 0.05 <= problem.regret(wrong) <= 0.2
    assert len(best_methods) > 1


def test_a_conditional_knob_counts_where_it_exists(suites: list[dict[str, Problem]]) -> None:
    for suite in suites:
        problem = suite["mixed-inside"]
        rest = {
            knob: value
            for knob, value in problem.optimum.items()
            if knob not in ("policy.method", "policy.state_dim", "policy.window")
        }
        regrets = {
            problem.regret({**rest, "policy.method": "ssm", "policy.state_dim": state_dim})
            for state_dim in (24, 40, 56)
        }
        assert len(regrets) > 1  # the optimum may lie in the middle of two, but not of three
        with pytest.raises(ValueError, match=r"extra=\['policy.state_dim'\]"):
            problem.regret({**rest, "policy.method": "mlp", "policy.state_dim": 24})


def test_a_score_is_the_regret_with_noise_of_the_generator(
    suites: list[dict[str, Problem]],
) -> None:
    problem = suites[0]["quadratic-outside"]
    point = problem.space.default_point()
    scores = [problem.evaluate(point, np.random.default_rng(seed)) for seed in range(400)]
    values = np.array(scores, dtype=float)
    assert values.mean() == pytest.approx(-problem.regret(point), abs=4 * NOISE_STD / 20)
    assert values.std() == pytest.approx(NOISE_STD, rel=0.15)
    assert scores[3] == problem.evaluate(point, np.random.default_rng(3))


def test_a_seed_gives_its_suite_again_and_another_seed_another(
    suites: list[dict[str, Problem]],
) -> None:
    rng = np.random.default_rng(0)
    for problem in make_problems(0):
        same, other = suites[0][problem.name], suites[1][problem.name]
        points = [draw_point(problem.space, rng) for _ in range(20)]
        assert [problem.regret(p) for p in points] == [same.regret(p) for p in points]
        assert [problem.regret(p) for p in points] != [other.regret(p) for p in points]


def test_a_point_outside_of_the_limits_is_refused(suites: list[dict[str, Problem]]) -> None:
    problem = suites[0]["quadratic-inside"]
    point = problem.space.default_point() | {"meta.clip": 0.7}
    with pytest.raises(ValueError, match=r"must lie inside.*'meta.clip': 0.7"):
        problem.evaluate(point, np.random.default_rng(0))
