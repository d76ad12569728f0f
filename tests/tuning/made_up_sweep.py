"""A sweep that never ran, with everything that a report can show: several rounds, failures, a
verdict, and texts from outside that mean no good.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.tuning.handmade import draw_point
from tuning.comparison import Comparison, compare
from tuning.plan import SweepPlan
from tuning.report.page import write_report
from tuning.spaces.ranges import Choice, Float, Int
from tuning.spaces.space import SearchSpace
from tuning.spaces.space_file import SpaceFile
from tuning.table.move import Move
from tuning.table.round_log import Round
from tuning.table.trial import Trial, TrialState, TrialTable

HOSTILE = "t0010<img src=x onerror=alert(1)>" + "x" * 60
LONG = "meta.inference_updates_per_meta_episode"


def _plan() -> SweepPlan:
    """With a knob of a long name, and one whose values have no order."""
    plan = SweepPlan(
        "halfcheetah-vel", num_samples=24, rounds=3, num_fresh_seeds=3, max_concurrent=2
    )
    methods = Choice(("ssm", "gru", "lstm", "transformer", "mlp"))
    ranges = {**plan.space().ranges, LONG: Float(0.1, 400.0), "policy.method": methods}
    space = SearchSpace(ranges, plan.base())
    return replace(plan, space_file=SpaceFile(space, space), sweep_id="a")


PLAN = _plan()
BOUND = -75.0
LR, WIDTH = "meta.outer_lr", "policy.state_dim"
_CAUSES = {
    5: (
        TrialState.DIVERGED,
        "the loss was not finite after 18,400 env steps: meta.outer_lr=0.0098",
    ),
    8: (TrialState.FAILED, "<script>alert('reason')</script> " + "/a/very/long/path" * 12),
    11: (TrialState.OOM, "not begun: 1 x (3.1 GB of replay) = 3.1 GB, but 2.2 GB are available"),
    14: (TrialState.HUNG, "no env step and no update for 61 s"),
}


def rounds() -> tuple[Round, ...]:
    """Three that searched, and the verdict."""
    first = PLAN.space()
    wider = Float(0.0003, 0.03, log=True)
    moves = (
        Move(LR, first.ranges[LR], wider, "expand", "4 of 5 <b>best</b> lie at it", ("t0002",)),
    )
    second = first.replace_ranges({LR: wider})
    narrower = Int(40, 128, step=8)
    cut = Move(
        WIDTH, first.ranges[WIDTH], narrower, "narrow", "worse by 31 [12, 50]", ("t0003", HOSTILE)
    )
    third = second.replace_ranges({WIDTH: narrower})
    return (
        Round(0, "the task's defaults", first, (), 6),
        Round(1, "trust box", second, moves, 6),
        Round(2, "trust box", third, (cut,), 6),
        Round(4, "verdict", third, (), 6),
    )


def trials(num_searched: int = 18) -> list[Trial]:
    """Twelve of them complete at least, then three fresh seeds of the winner and the default."""
    rng, made = np.random.default_rng(3), rounds()
    default = PLAN.space().default_point()
    points = [default]
    while len(points) < num_searched:
        points.append(draw_point(made[min(2, len(points) // 6)].space, rng))
    rows = []
    for number, point in enumerate(points):
        rate, width = float(point[LR]), int(point[WIDTH])
        off = 30.0 * abs(math.log10(rate / 0.004)) + 0.3 * abs(width - 80)
        score = -26.0 - off + rng.normal(0.0, 3.0)
        rows.append(_trial(number, point, score, min(2, number // 6)))
    best = max((row for row in rows if row.state is TrialState.COMPLETE), key=_score)
    assert best.number, "the default is to lose"
    for point in (dict(best.knobs), default):
        for _ in range(3):
            base = _score(best) if point == best.knobs else -58.0
            score = base - 5.0 + rng.normal(0.0, 3.0)
            rows.append(_trial(len(rows), point, score, 4))
    return rows


def _score(row: Trial) -> float:
    return -math.inf if row.score is None else row.score


def _trial(number: int, point: dict[str, Any], score: float, in_round: int) -> Trial:
    state, reason = _CAUSES.get(number, (TrialState.COMPLETE, ""))
    if number % 7 == 3 and in_round < 3:
        state, reason = TrialState.PRUNED, "stopped early at 26,000 env steps"
    has_score = state in (TrialState.COMPLETE, TrialState.PRUNED)
    steps = 52_000 if state is TrialState.COMPLETE else 26_000
    curve = tuple(
        (at, -118.0 + 6.0 * math.sin(at / 9e3), score - (score + 120.0) * math.exp(-at / 14e3))
        for at in range(6_500, steps + 1, 6_500)
    )
    return Trial(
        HOSTILE if number == 10 else f"t{number:04d}",
        number,
        state,
        score if has_score else None,
        point,
        env_steps=steps,
        seconds=150.0 + 7.0 * (number % 5),
        curve=curve if has_score else (),
        interval=(score - 5.0, score + 5.0) if has_score else None,
        reason=reason,
        round=in_round,
        peak_bytes=0 if state is TrialState.OOM else 910_000_000 + 9_000_000 * number,
    )


def verdict(rows: list[Trial]) -> Comparison:
    """As the fresh seeds have it."""
    fresh = [row.score or 0.0 for row in rows if row.round == 4]
    off = [-98.0, -101.0, -93.5]
    return compare(fresh[:3], fresh[3:], num_tasks=100, blind_return=-71.5, switched_off=off)


def write_made_up_report(folder: Path, **changes: Any) -> Path:
    """The page of the sweep, in ``folder``."""
    rows, table = trials(), TrialTable(folder / "trials.jsonl", "a")
    for row in rows:
        table.append(row)
    best = next(row for row in rows if row.round == 4)
    arguments: dict[str, Any] = {
        "title": f"halfcheetah-vel, ssm: {len(rows)} trials",
        "plan": PLAN,
        "table": table,
        "best": best,
        "space": rounds()[-1].space,
        "bound": BOUND,
        "comparison": verdict(rows),
        "command": "python -m tuning.sweep --task halfcheetah-vel --name 'a<b>' " + "--flag " * 20,
        "rounds": rounds(),
        "going_on": [("Evaluate the winner on held-out tasks", "ssmrl evaluate runs/mine/best")],
        "made_with": {
            "device": "cpu",
            "made_with": {
                "ssmrl": "0.1.0",
                "commit": "0123456789abcdef0123456789abcdef01234567",
                "python": "3.12.11",
                "packages": {"torch": "2.13.0", "mujoco": "4.0.0", "ray": "2.60.0"},
                "system": "Linux-6.1-x86_64",
                "processor": "a processor <of> some kind",
                "cores": 2,
            },
        },
    }
    write_report(folder / "report.html", **(arguments | changes))
    return folder / "report.html"
