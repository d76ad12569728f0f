"""A small round whose statistics are plain: the best trials lie at the low end of one knob."""

import math

import numpy as np

from agents.board import Board
from ssmrl.config import TrainConfig
from tuning.spaces.space import SearchSpace, default_limits, default_space
from tuning.table.trial import Trial, TrialState


def space() -> SearchSpace:
    return default_space(TrainConfig.for_task("point", "promp"))


def trial(number: int, knobs: dict, score: float | None, **fields) -> Trial:
    state = TrialState.DIVERGED if score is None else TrialState.COMPLETE
    reason = "not finite" if score is None else ""
    fields = {"reason": reason, "seconds": 2.0, "env_steps": 100, **fields}
    return Trial(f"t{number:04d}", number, state, score, knobs, **fields)


def rows(*, num_rows: int = 14, seed: int = 0) -> tuple[Trial, ...]:
    """Higher scores at small states and middle rates; the last three diverged."""
    rng = np.random.default_rng(seed)
    ranges = space().ranges
    made = []
    for number in range(num_rows):
        knobs = {knob: a_range.from_unit(rng.random()) for knob, a_range in ranges.items()}
        score = -knobs["policy.state_dim"] / 8 - math.log10(knobs["meta.inner_lr"] / 0.1) ** 2
        made.append(trial(number, knobs, score if number < num_rows - 3 else None))
    middle = {knob: a_range.from_unit(0.5) for knob, a_range in ranges.items()}
    best = {**middle, "policy.state_dim": 8, "meta.inner_lr": 0.1}
    return (*made, trial(num_rows, best, 0.0))


def board(**fields) -> Board:
    base = space().base
    defaults = {"rows": rows(), "round": 1, "budget_trials_left": 10}
    return Board(space=space(), limits=default_limits(base), first=space(), **(defaults | fields))


class Notebook:
    """Keeps what was said, as a ledger would."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str, dict]] = []

    def __call__(self, kind, text="", *, who="", data=None):
        self.lines.append((str(kind), who, text, dict(data or {})))

    def texts(self, kind: str, who: str = "") -> list[str]:
        return [text for k, w, text, _ in self.lines if k == kind and who in (w, "")]
