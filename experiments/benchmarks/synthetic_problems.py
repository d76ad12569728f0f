"""Synthetic problems of known optimum, to compare searchers in milliseconds without training.

The knobs are real ones, because a search space accepts no others; here they are mere coordinates. A
problem measures a point by its *regret*: the squared distance to the optimum, averaged over the
numeric knobs of the space, in widths of the first box. So a tenth of a range in every knob costs
0.01. The optimum lies inside the limits, and its regret is 0. Every landscape exists twice: with
the optimum inside the first box, and with a third of its coordinates 0.2 to 0.6 widths outside. The
limits go about 1 width beyond the first box.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float64

from ssmrl.config import KnobValue, TrainConfig
from tuning.spaces.space import Choice, Condition, Float, Int, Range, SearchSpace

NOISE_STD = 0.01
"""Standard deviation of a score, in units of regret."""

INSIDE = (0.1, 0.9)  # place of an inside optimum in its range
OUTSIDE = (0.2, 0.6)  # widths beyond an end of the range for an outside one
CONDITION_NUMBER = 100.0
CLIFF_DISTANCE = 0.1  # from the optimum to the plane [widths]
PENALTIES = (0.05, 0.2)  # of a wrong level [regret]

Landscape: TypeAlias = Callable[[Mapping[str, KnobValue]], float]
"""The regret of a point, infinite where the trial diverges."""


@dataclass(frozen=True)
class Problem:
    """Something to search: a space, its limits, and a score for every point.

    Attributes:
        name: Its landscape and where the optimum lies, such as ``cliff-outside``.
        space: The first box: the space before any move. Every search starts at its default point.
        limits: The hard limits.
        optimum_inside: Whether the first box holds the optimum.
        optimum: The point of no regret.
        landscape: Function from a point to its regret.
    """

    name: str
    space: SearchSpace
    limits: SearchSpace
    optimum_inside: bool
    optimum: Mapping[str, KnobValue]
    landscape: Landscape

    def evaluate(self, point: Mapping[str, KnobValue], rng: np.random.Generator) -> float | None:
        """A noisy score, the higher the better; None if the trial diverges.

        It is minus the regret, plus normal noise of standard deviation ``NOISE_STD``.

        Raises:
            ValueError: If the point lies outside of the limits.
        """
        # The noise is drawn in any case: how much randomness is used must not depend on the point.
        noise = NOISE_STD * rng.standard_normal()
        regret = self.regret(point)
        return None if math.isinf(regret) else float(noise - regret)

    def regret(self, point: Mapping[str, KnobValue]) -> float:
        """How much worse than the optimum a point is, without noise; infinite if it diverges.

        Raises:
            ValueError: If the point lies outside of the limits.
        """
        if not self.limits.contains(point):
            self.limits.configure(point)  # raises, and says what is wrong
        return self.landscape(point)


def make_problems(seed: int) -> tuple[Problem, ...]:
    """The suite: four landscapes, each with the optimum inside and outside of the first box.

    - ``quadratic``: a bowl over six knobs.
    - ``valley``: a bowl over five knobs that is ten times as steep along one axis as along another,
      and whose axes are not the knobs.
    - ``cliff``: a bowl over five knobs; beyond a plane beside the optimum, trials diverge.
    - ``mixed``: a bowl over four knobs and, under two of the three levels of a categorical knob,
      over that level's own fifth knob. This and a second categorical knob have one right level
      each; a wrong level adds 0.05 to 0.2 of regret.

    All start from the same default configuration, which never diverges.

    Args:
        seed: Random seed of the optima, the axes, the plane and the right levels.
    """
    makers = {"quadratic": _quadratic, "valley": _valley, "cliff": _cliff, "mixed": _mixed}
    cases = [(name, inside) for name in makers for inside in (True, False)]
    streams = np.random.SeedSequence(seed).spawn(len(cases))
    return tuple(
        makers[name](inside, np.random.default_rng(stream))
        for (name, inside), stream in zip(cases, streams, strict=True)
    )


# Each knob's range in the first box, and its limits.
_RANGES: dict[str, tuple[Range, Range]] = {
    "meta.inner_lr": (Float(0.01, 1.0, log=True), Float(1e-4, 100.0, log=True)),
    "meta.outer_lr": (Float(3e-4, 1e-2, log=True), Float(1e-5, 0.3, log=True)),
    "policy.init_std": (Float(0.3, 3.0, log=True), Float(0.03, 30.0, log=True)),
    "meta.clip": (Float(0.2, 0.4), Float(0.02, 0.6)),
    "meta.inner_kl": (Float(1e-4, 1e-2, log=True), Float(1e-6, 1.0, log=True)),
    "policy.hidden_dim": (Int(32, 128, log=True), Int(8, 512, log=True)),
    "policy.state_dim": (Int(24, 56, step=4), Int(4, 88, step=4)),
    "policy.window": (Int(16, 64, log=True), Int(4, 256, log=True)),
}
_SIX = tuple(_RANGES)[:6]
_METHODS = Choice(("ssm", "transformer", "mlp"))
_RESETS = Choice(("episode", "trial"))
_CONDITIONS = {
    "policy.state_dim": Condition("policy.method", ("ssm",)),
    "policy.window": Condition("policy.method", ("transformer",)),
}


def _quadratic(inside: bool, rng: np.random.Generator) -> Problem:
    space, limits = _spaces(_SIX)
    optimum = _draw_optimum(_SIX, inside, rng)
    bowl = _bowl(_SIX, optimum, np.eye(len(_SIX)))
    return Problem(_name("quadratic", inside), space, limits, inside, optimum, bowl)


def _valley(inside: bool, rng: np.random.Generator) -> Problem:
    knobs = _SIX[:5]
    space, limits = _spaces(knobs)
    optimum = _draw_optimum(knobs, inside, rng)
    axes, _ = np.linalg.qr(rng.standard_normal((len(knobs), len(knobs))))
    steepness = np.geomspace(1.0, CONDITION_NUMBER, len(knobs))
    # Mean steepness 1: a distance in a random direction costs as much as in the other bowls.
    metric = (axes * (steepness / steepness.mean())) @ axes.T
    bowl = _bowl(knobs, optimum, metric)
    return Problem(_name("valley", inside), space, limits, inside, optimum, bowl)


def _cliff(inside: bool, rng: np.random.Generator) -> Problem:
    knobs = _SIX[:5]
    space, limits = _spaces(knobs)
    optimum = _draw_optimum(knobs, inside, rng)
    bowl = _bowl(knobs, optimum, np.eye(len(knobs)))
    # The plane runs beside the way from the default to the optimum, so that it cuts the first box
    # wherever the optimum is.
    way = _offsets(knobs, space.default_point(), optimum)
    normal = rng.standard_normal(len(knobs))
    normal -= (normal @ way) / (way @ way) * way
    normal /= np.linalg.norm(normal)

    def landscape(point: Mapping[str, KnobValue]) -> float:
        is_beyond = normal @ _offsets(knobs, point, optimum) > CLIFF_DISTANCE
        return math.inf if is_beyond else bowl(point)

    return Problem(_name("cliff", inside), space, limits, inside, optimum, landscape)


def _mixed(inside: bool, rng: np.random.Generator) -> Problem:
    choices = {"policy.method": _METHODS, "policy.memory_reset": _RESETS}
    numeric = (*_SIX[:4], *_CONDITIONS)
    space, limits = _spaces(numeric, choices, _CONDITIONS)
    levels: dict[str, KnobValue] = {
        knob: a_choice.options[rng.integers(len(a_choice.options))]
        for knob, a_choice in choices.items()
    }
    penalties = {
        (knob, level): 0.0 if level == levels[knob] else rng.uniform(*PENALTIES)
        for knob, a_choice in choices.items()
        for level in a_choice.options
    }
    active = [knob for knob in space.active_knobs(levels) if knob not in choices]
    optimum = {**levels, **_draw_optimum(active, inside, rng)}
    # A knob that exists only under a wrong level has a best value, too.
    centre = {**_draw_optimum(numeric, True, rng), **optimum}
    bowl = _bowl(numeric, centre, np.eye(len(numeric)))

    def landscape(point: Mapping[str, KnobValue]) -> float:
        return bowl(point) + sum(penalties[knob, point[knob]] for knob in choices)

    return Problem(_name("mixed", inside), space, limits, inside, optimum, landscape)


def _name(landscape: str, inside: bool) -> str:
    return f"{landscape}-{'inside' if inside else 'outside'}"


def _spaces(
    knobs: Sequence[str],
    choices: Mapping[str, Choice] | None = None,
    conditions: Mapping[str, Condition] | None = None,
) -> tuple[SearchSpace, SearchSpace]:
    """The first box and the limits."""
    base = TrainConfig(algorithm="promp")
    first, limits = (
        {**(choices or {}), **{knob: _RANGES[knob][index] for knob in knobs}} for index in (0, 1)
    )
    return SearchSpace(first, base, conditions or {}), SearchSpace(limits, base, conditions or {})


def _draw_optimum(
    knobs: Sequence[str], inside: bool, rng: np.random.Generator
) -> dict[str, KnobValue]:
    """Values inside of the first box, or a third of them outside."""
    places = rng.uniform(*INSIDE, size=len(knobs))
    if not inside:
        for index in rng.permutation(len(knobs))[: math.ceil(len(knobs) / 3)]:
            beyond = rng.uniform(*OUTSIDE)
            places[index] = -beyond if rng.random() < 0.5 else 1.0 + beyond
    return {knob: _value(knob, float(at)) for knob, at in zip(knobs, places, strict=True)}


def _value(knob: str, place: float) -> KnobValue:
    """The value at a place on the scale of the first box, which need not be inside of it."""
    first, limits = _RANGES[knob]
    assert not isinstance(first, Choice)
    assert not isinstance(limits, Choice)
    low, high = limits.to_unit(first.low), limits.to_unit(first.high)
    return limits.from_unit(low + place * (high - low))


def _offsets(
    knobs: Sequence[str], point: Mapping[str, KnobValue], centre: Mapping[str, KnobValue]
) -> Float64[np.ndarray, "P"]:
    """Offsets of a point from the centre in widths of the first box; 0 in knobs it lacks."""
    offsets = np.zeros(len(knobs))
    for index, knob in enumerate(knobs):
        first = _RANGES[knob][0]
        assert not isinstance(first, Choice)
        if knob in point:
            offsets[index] = first.to_unit(float(point[knob])) - first.to_unit(float(centre[knob]))
    return offsets


def _bowl(
    knobs: Sequence[str], centre: Mapping[str, KnobValue], metric: Float64[np.ndarray, "P P"]
) -> Landscape:
    """The squared distance to the centre, averaged over the knobs."""

    def landscape(point: Mapping[str, KnobValue]) -> float:
        offsets = _offsets(knobs, point, centre)
        return float(offsets @ metric @ offsets) / len(knobs)

    return landscape
