"""Rows and spaces made by hand, for the tests of what moves a space."""

from collections.abc import Mapping, Sequence

import numpy as np

from ssmrl.config import KnobValue, TrainConfig
from tuning.box.trust_box import propose
from tuning.spaces.space import Choice, Float, Range, SearchSpace
from tuning.table.trial import Trial, TrialState

BASE = TrainConfig(algorithm="promp")
CLIP = "meta.clip"
CLIPS = Float(1.0, 2.0)
CLIP_LIMITS = Float(0.2, 4.0)


def space_of(knob: str, a_range: Range) -> SearchSpace:
    return SearchSpace({knob: a_range}, BASE)


def rows_of(knob: str, scores: Mapping[KnobValue, float | None]) -> list[Trial]:
    """A row for each value, failed where there is no score."""
    return [row(number, {knob: v}, score) for number, (v, score) in enumerate(scores.items())]


def row(
    number: int,
    knobs: Mapping[str, KnobValue],
    score: float | None,
    failure: TrialState = TrialState.DIVERGED,
) -> Trial:
    state, reason = (failure, "not finite") if score is None else (TrialState.COMPLETE, "")
    return Trial(f"t{number:04d}", number, state, score, knobs, reason=reason)


def moved(
    a_range: Range, limit: Range, scores: Mapping[KnobValue, float | None], knob: str = CLIP
) -> tuple[Range, list[str]]:
    """The next range, and the kinds of the moves to it."""
    space = space_of(knob, a_range)
    rows = rows_of(knob, scores)
    proposal = propose(space, first=space, limits=space_of(knob, limit), rows=rows)
    return proposal.space.ranges[knob], [move.kind for move in proposal.moves]


METHOD = "policy.method"
METHODS = Choice(("ssm", "gru", "mlp"))


def level_rows(scores: Mapping[str, Sequence[float]], *, reruns: Sequence[float]) -> list[Trial]:
    """Rows of several configurations of each level; the first of ``ssm`` is run again."""
    rows: list[Trial] = []
    for level, values in scores.items():
        for i, score in enumerate(values):
            rows.append(row(len(rows), {METHOD: level, CLIP: 1.4 + i / 100}, score))
    rows += [
        row(len(rows) + i, {METHOD: "ssm", CLIP: 1.4}, score) for i, score in enumerate(reruns)
    ]
    return rows


GOOD = {"ssm": [10.0, 9.0, 9.5], "gru": [8.0, 9.2, 7.0, 8.5, 9.0]}
POOR = {"mlp": [1.0, 1.5, 0.5, 1.2, 0.8]}


def draw_point(space: SearchSpace, rng: np.random.Generator) -> dict[str, KnobValue]:
    point: dict[str, KnobValue] = {}
    while missing := [knob for knob in space.active_knobs(point) if knob not in point]:
        for knob in missing:
            a_range = space.ranges[knob]
            if isinstance(a_range, Choice):
                point[knob] = a_range.options[rng.integers(len(a_range.options))]
            else:
                point[knob] = a_range.from_unit(rng.random())
    return point
