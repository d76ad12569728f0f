"""The analyses: every number can be counted by hand, and every trial is counted once."""

import json
import math
from collections.abc import Mapping
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from ssmrl.config import KnobValue, TrainConfig
from tuning.analysis import (
    Cost,
    EdgeHits,
    FailureCell,
    StateCost,
    analyse,
    cost,
    edge_hits,
    failure_map,
)
from tuning.spaces.ranges import Choice, Float, Int, Range
from tuning.spaces.space import Condition, SearchSpace
from tuning.table.trial import Trial, TrialState

LR, STEPS, METHOD, DIM = (
    "meta.inner_lr",
    "meta.num_epochs",
    "policy.method",
    "policy.state_dim",
)


def ended(number: int, knobs: Mapping[str, KnobValue], score: float | None, **more: Any) -> Trial:
    arguments: dict[str, Any] = {
        "trial_id": f"t{number:04d}",
        "number": number,
        "state": TrialState.COMPLETE if score is not None else TrialState.DIVERGED,
        "score": score,
        "knobs": dict(knobs),
        "reason": "" if score is not None else "a number was not finite",
    }
    return Trial(**(arguments | more))


def space_of(**ranges: Range) -> SearchSpace:
    names = {"lr": LR, "steps": STEPS, "method": METHOD, "dim": DIM}
    return SearchSpace(
        {names[k]: a_range for k, a_range in ranges.items()}, TrainConfig(algorithm="promp")
    )


def hits_of(results: tuple[EdgeHits, ...], knob: str, side: str) -> EdgeHits:
    (found,) = (hits for hits in results if (hits.knob, hits.side) == (knob, side))
    return found


def test_edge_hits_are_those_of_the_elite_within_a_twentieth() -> None:
    # On the logarithmic scale from 0.01 to 1, a twentieth of the width reaches to 0.0126.
    values = [0.0125, 0.0127, 0.5, 0.79, 0.8, 0.2, 0.2001, 0.2002]
    rows = [ended(i, {LR: lr}, -float(i)) for i, lr in enumerate(values)]
    results = edge_hits(rows, space_of(lr=Float(0.01, 1.0, log=True)))
    low, high = hits_of(results, LR, "low"), hits_of(results, LR, "high")
    assert (low.num_hits, low.num_elite, low.share, low.trial_ids) == (1, 5, 0.2, ("t0000",))
    assert (high.num_hits, high.share, high.trial_ids) == (1, 0.2, ("t0004",))
    assert low.chance == high.chance == 0.05


def test_what_lies_beyond_a_side_is_at_it() -> None:
    values = [-1.0, 0.0, 0.005, 2.0, 0.1, 0.2, 0.3]
    rows = [ended(i, {LR: lr}, -float(i)) for i, lr in enumerate(values)]
    results = edge_hits(rows, space_of(lr=Float(0.01, 1.0, log=True)))
    assert hits_of(results, LR, "low").trial_ids == ("t0000", "t0001", "t0002")
    assert hits_of(results, LR, "high").trial_ids == ("t0003",)


@pytest.mark.parametrize("a_range", [Int(1, 3), Int(8, 128, step=8), Int(1, 64, log=True)])
def test_the_chance_of_a_hit_is_that_of_an_even_draw(a_range: Int) -> None:
    rng = np.random.default_rng(0)
    low, high, step = a_range.low, a_range.high, a_range.step
    if a_range.log:
        drawn = np.exp(rng.uniform(math.log(low - 0.5), math.log(high + 0.5), 20_000)).round()
    else:
        drawn = rng.choice(np.arange(low, high + 1, step), 20_000)
    space = SearchSpace({"policy.hidden_dim": a_range}, TrainConfig(algorithm="promp"))
    # One elite configuration each, so that the share of hits can be counted over the draws.
    at = {
        int(v): edge_hits([ended(0, {"policy.hidden_dim": int(v)}, 0.0)], space)
        for v in np.unique(drawn)
    }
    for place, side in enumerate(("low", "high")):
        share = np.mean([at[int(v)][place].num_hits for v in drawn])
        assert at[low][place].side == side
        assert at[low][place].chance == pytest.approx(share, abs=0.01)


def test_too_few_trials_have_no_share_of_hits() -> None:
    space = space_of(lr=Float(0.01, 1.0, log=True), method=Choice(("ssm", "gru")))
    results = edge_hits([ended(i, {LR: 0.01 + i / 100}, 1.0) for i in range(4)], space)
    assert {hits.knob for hits in results} == {LR}  # a Choice has no sides
    low = hits_of(results, LR, "low")
    assert (low.num_hits, low.share) == (1, None)
    assert low.reason == "too few trials: all 4 complete configurations are the elite"


def test_edge_hits_of_a_knob_that_the_elite_lacks() -> None:
    space = SearchSpace(
        {METHOD: Choice(("ssm", "gru")), DIM: Int(8, 64, step=8)},
        TrainConfig(algorithm="promp"),
        {DIM: Condition(METHOD, ("ssm",))},
    )
    rows = [ended(i, {METHOD: "gru"}, 1.0) for i in range(1)]
    rows += [ended(1 + i, {METHOD: "ssm", DIM: 8 * (i + 1)}, -float(i)) for i in range(8)]
    low = hits_of(edge_hits(rows, space), DIM, "low")
    assert (low.num_hits, low.num_elite, low.share) == (1, 4, 0.25)
    none = [ended(i, {METHOD: "gru"}, 1.0) for i in range(3)]
    low = hits_of(edge_hits(none, space), DIM, "low")
    assert (low.num_elite, low.share) == (0, None)
    assert "too few trials" in low.reason


def test_failures_are_counted_by_quarter() -> None:
    values = [0.01, 0.03, 0.0317, 0.2, 0.4, 0.5, 1.0, 0.6]
    failing = {4, 5, 6}
    rows = [ended(i, {LR: v}, None if i in failing else 0.0) for i, v in enumerate(values)]
    cells = failure_map(rows, space_of(lr=Float(0.01, 1.0, log=True)))
    assert [cell.num_trials for cell in cells] == [2, 1, 1, 4]
    assert [cell.num_failed for cell in cells] == [0, 0, 0, 3]
    assert [cell.share for cell in cells] == [None, None, None, 0.75]
    assert cells[3].trial_ids == ("t0004", "t0005", "t0006")
    assert [cell.low for cell in cells] == pytest.approx([0.01, 0.0316, 0.1, 0.316], rel=1e-2)
    assert cells[3].high == 1.0
    assert all(cell.is_inside for cell in cells)


def test_quarters_of_an_int_hold_as_many_values() -> None:
    rows = [ended(i, {DIM: 8 * (i + 1)}, None) for i in range(16)]
    cells = failure_map(rows, space_of(dim=Int(8, 128, step=8)))
    assert [(c.low, c.high) for c in cells] == [(8, 40), (40, 72), (72, 104), (104, 128)]
    assert [cell.num_trials for cell in cells] == [4, 4, 4, 4]


def test_pruned_is_not_failed() -> None:
    rows = [
        ended(0, {LR: 0.5}, None, state=TrialState.FAILED, reason="broke"),
        ended(1, {LR: 0.5}, None, state=TrialState.PRUNED, reason="time"),
        ended(2, {LR: 0.5}, 1.0, state=TrialState.PRUNED, reason="stopped"),
        ended(3, {LR: 0.5}, None),
    ]
    last = failure_map(rows, space_of(lr=Float(0.1, 0.6)))[-1]
    assert (last.num_trials, last.num_failed, last.share) == (4, 2, 0.5)


def test_levels_are_counted_one_by_one() -> None:
    rows = [
        ended(i, {METHOD: method, STEPS: steps}, None if steps == 3 else 0.0)
        for i, (method, steps) in enumerate([("ssm", 1), ("gru", 3), ("lstm", 3), ("gru", 3)])
    ]
    cells = failure_map(rows, space_of(method=Choice(("ssm", "gru")), steps=Int(1, 3)))
    assert [(c.knob, c.low, c.high, c.is_inside, c.num_trials, c.num_failed) for c in cells] == [
        (METHOD, "ssm", "ssm", True, 1, 0),
        (METHOD, "gru", "gru", True, 2, 2),
        (METHOD, "lstm", "lstm", False, 1, 1),  # a level of an earlier space
        (STEPS, 1, 1, True, 1, 0),
        (STEPS, 2, 2, True, 0, 0),
        (STEPS, 3, 3, True, 3, 3),
    ]
    assert [cell.share for cell in cells] == [None, None, None, None, None, 1.0]


def test_trials_of_earlier_boxes_get_parts_of_their_own() -> None:
    rows = [ended(i, {LR: lr}, None) for i, lr in enumerate([-0.5, 0.05, 0.15, 0.9])]
    cells = failure_map(rows, space_of(lr=Float(0.1, 0.5)))
    below, *inside, above = cells
    assert (below.low, below.high, below.is_inside, below.num_failed) == (-0.5, 0.1, False, 2)
    assert (above.low, above.high, above.is_inside, above.num_failed) == (0.5, 0.9, False, 1)
    assert [cell.num_trials for cell in inside] == [1, 0, 0, 0]


@given(
    values=st.lists(st.integers(1, 40), max_size=30),
    low=st.integers(1, 20),
    width=st.integers(1, 20),
    is_log=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_every_trial_is_in_one_part(values: list[int], low: int, width: int, is_log: bool) -> None:
    space = SearchSpace(
        {"policy.hidden_dim": Int(low, low + width, log=is_log)}, TrainConfig(algorithm="promp")
    )
    rows = [ended(i, {"policy.hidden_dim": v}, None) for i, v in enumerate(values)]
    cells = failure_map(rows, space)
    assert sum(cell.num_trials for cell in cells) == len(values)
    assert sorted(name for c in cells for name in c.trial_ids) == [r.trial_id for r in rows]
    inside = [cell for cell in cells if cell.is_inside]
    assert 2 <= len(inside) <= 4
    assert (inside[0].low, inside[-1].high) == (low, low + width)
    assert all(c.low < c.high for c in inside) or all(c.low == c.high for c in inside)


def test_cost_is_counted_by_state() -> None:
    rows = [
        ended(0, {LR: 0.1}, 1.0, env_steps=100, seconds=4.0),
        ended(1, {LR: 0.2}, 2.0, env_steps=100, seconds=6.0),
        ended(2, {LR: 0.3}, None, env_steps=30, seconds=2.0),
    ]
    assert cost(rows) == Cost(
        env_steps=230,
        seconds=12.0,
        complete_seconds=5.0,
        seconds_per_complete=6.0,
        states=(
            StateCost(TrialState.COMPLETE, 2, 200, 10.0),
            StateCost(TrialState.DIVERGED, 1, 30, 2.0),
        ),
    )
    failed = cost(rows[2:])
    assert (failed.complete_seconds, failed.seconds_per_complete) == (None, None)
    assert cost([]) == Cost(0, 0.0, None, None, ())


def test_the_whole_is_json_without_nan() -> None:
    space = space_of(lr=Float(0.01, 1.0, log=True), steps=Int(1, 3), method=Choice(("ssm", "gru")))
    for count in (0, 1, 4, 14):
        rows = [
            ended(i, {LR: 0.02 * (i + 1), STEPS: 1 + i % 3, METHOD: "ssm"}, [None, 1.0][i % 4 > 0])
            for i in range(count)
        ]
        analysis = analyse(rows, space, seed=0)
        data = json.loads(json.dumps(analysis.to_dict(), allow_nan=False))
        assert set(data) == {"ranking", "importance", "edge_hits", "failure_map", "cost"}
        assert len(data["importance"]) == 3
        assert sum(len(c["trial_ids"]) for c in data["ranking"]) == sum(
            row.state is TrialState.COMPLETE for row in rows
        )
        assert [type(cell) for cell in analysis.failure_map] == [FailureCell] * (4 + 3 + 2)
