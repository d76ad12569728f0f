"""A table of trials on which the tests of the agents look: made up, without training."""

import math
from typing import Any

import numpy as np

from agents.board import Board
from ssmrl.config import KnobValue, TrainConfig
from tuning.spaces.space import Choice, Float, Int, Range, SearchSpace
from tuning.table.trial import Trial, TrialState

BASE = TrainConfig.for_task("point", "promp").with_knobs({"meta.num_epochs": 1})
RANGES: dict[str, Range] = {
    "policy.state_dim": Int(8, 128, step=8),
    "policy.gated": Choice((False, True)),
    "meta.inner_lr": Float(0.01, 1.0, log=True),
    "meta.num_epochs": Int(1, 3),
}
LIMITS: dict[str, Range] = {
    "policy.state_dim": Int(2, 512, step=2),
    "policy.gated": Choice((False, True)),
    "meta.inner_lr": Float(1e-4, 10.0, log=True),
    "meta.num_epochs": Int(1, 5),
}


def make_trial(number: int, score: float | None, point: dict[str, KnobValue], **more: Any) -> Trial:
    """A complete trial of this score; without one a trial that diverged."""
    arguments: dict[str, Any] = {
        "trial_id": f"t{number:04d}",
        "number": number,
        "state": TrialState.COMPLETE if score is not None else TrialState.DIVERGED,
        "score": score,
        "knobs": point,
        "env_steps": 1000,
        "seconds": 2.0,
        "reason": "" if score is not None else "a loss was not finite",
    }
    return Trial(**(arguments | more))


def make_board(num_rows: int = 12, **changes: Any) -> Board:
    """The best trial is t0000; an inner learning rate above 0.8 diverges."""
    space = SearchSpace(RANGES, BASE)
    rng = np.random.default_rng(0)
    rows = [make_trial(0, 5.0, space.default_point())]
    for number in range(1, num_rows):
        point: dict[str, KnobValue] = {
            "policy.state_dim": int(8 * rng.integers(1, 17)),
            "policy.gated": bool(rng.integers(2)),
            "meta.inner_lr": float(10.0 ** rng.uniform(-2.0, 0.0)),
            "meta.num_epochs": int(rng.integers(1, 4)),
        }
        rate = float(point["meta.inner_lr"])
        score = None if rate > 0.8 else float(-abs(math.log(rate / 0.1)))
        rows.append(make_trial(number, score, point))
    arguments: dict[str, Any] = {
        "space": space,
        "limits": SearchSpace(LIMITS, BASE),
        "first": space,
        "rows": tuple(rows),
        "round": 1,
        "budget_trials_left": 8,
    }
    return Board(**(arguments | changes))
