"""A trial that is too large is refused with the sum; after two losses the like are not drawn."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from ssmrl.config import KnobValue, TrainConfig
from tuning.driver import Memory
from tuning.plan import SweepPlan
from tuning.search.searcher import MAX_DRAWS, StudySearcher
from tuning.spaces.space import Choice, Float, Int, SearchSpace
from tuning.table.trial import Trial, TrialState
from tuning.training import MetaTraining
from tuning.trial_memory import Avoided, asked_of_ray, largest_need, too_large, trial_need

BASE = TrainConfig.for_task("point", "promp")
WIDTH = "policy.hidden_dim"
SPACE = SearchSpace({WIDTH: Int(16, 1024, log=True), "meta.inner_lr": Float(0.01, 1.0)}, BASE)


def row(number: int, width: int, state: TrialState) -> Trial:
    score = 1.0 if state is TrialState.COMPLETE else None
    knobs: dict[str, KnobValue] = {WIDTH: width, "meta.inner_lr": 0.1}
    reason = "" if state is TrialState.COMPLETE else "told so"
    return Trial(f"t{number:04d}", number, state, score, knobs, seeds=(0,), reason=reason)


def test_a_trial_that_does_not_fit_is_a_row_with_the_sum_and_never_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuning.training.SeedsTraining", pytest.fail)
    settings: dict[str, Any] = {
        "sweep": "a",
        "base": BASE,
        "num_seeds": 2,
        "max_env_steps": 100,
        "folder": tmp_path,
    }
    trial = tune.with_parameters(MetaTraining, **settings)({WIDTH: 200_000})
    result = trial.train()
    assert result["out_of_memory"]
    assert result["done"]
    assert result["reason"].startswith("not begun: 2 x (")
    assert "GB of parameters + " in result["reason"]
    assert "GB of memory are available" in result["reason"]
    assert not list(tmp_path.iterdir())
    trial.stop()


def test_what_fits_exactly_begins() -> None:
    need = trial_need(BASE, {}, 3)
    assert too_large(BASE, 3, need) == too_large(BASE, 3, None) == ""
    assert too_large(BASE, 3, need - 1)


@pytest.mark.parametrize(
    ("base", "point"),
    [
        (BASE, {WIDTH: 10**10}),  # more numbers than torch can count
        (BASE, {WIDTH: 0}),  # no configuration
        (TrainConfig.for_task("point"), {"meta.batch_size": 10**7}),  # more than the replay holds
    ],
)
def test_what_cannot_be_made_is_left_to_the_trial(
    base: TrainConfig, point: dict[str, KnobValue]
) -> None:
    """Ray and the searcher ask in the driver, where an error would end all trials."""
    assert trial_need(base, point) == 0
    assert asked_of_ray(0, None) == 0
    with pytest.raises((ValueError, RuntimeError)):
        too_large(base.with_knobs(point), 1, 10**12)


def test_a_wider_network_a_longer_batch_and_more_experience_need_more() -> None:
    memory = TrainConfig.for_task("point")
    for config, knob in (
        (BASE, WIDTH),
        (BASE, "meta.num_episodes"),
        (BASE, "meta.num_inner_steps"),
        (memory, WIDTH),
        (memory, "meta.critic_hidden_dim"),
        (memory, "meta.batch_size"),
        (memory, "meta.replay_env_steps"),
        (memory, "meta.inference_batch"),
    ):
        larger = {knob: 4 * int(config.knobs()[knob])}
        assert trial_need(config, larger) > trial_need(config, {}), knob


@pytest.mark.parametrize("need", [1, 7, 1000, 1025, 3 * 2**30 + 1])
def test_ray_is_asked_for_a_little_more_and_never_for_what_no_machine_has(need: int) -> None:
    assert need <= asked_of_ray(need, None) < 1.5 * need + 1
    assert asked_of_ray(need, 5) == min(asked_of_ray(need, None), 5)
    assert len({asked_of_ray(size, None) for size in range(1000, 2000)}) <= 4, "shared requests"


def test_the_largest_point_of_a_space_is_that_of_its_upper_ends() -> None:
    """Whatever it needs, no other point of the space needs more."""
    base = TrainConfig.for_task("point", "promp")
    ranges = {
        "policy.method": Choice(("ssm", "mlp")),
        "policy.hidden_dim": Int(16, 256, step=16),
        "meta.inner_lr": Float(0.01, 1.0, log=True),
    }
    space = SearchSpace(ranges, base)
    largest = largest_need(space, num_seeds=2)
    for method in ("ssm", "mlp"):
        for width in (16, 128, 256):
            point = {"policy.method": method, "policy.hidden_dim": width, "meta.inner_lr": 0.1}
            assert 0 < trial_need(base, point, 2) <= largest
    many = {f"policy.{name}": Choice((1, 2, 3, 4, 5)) for name in ("num_layers", "num_heads")}
    many |= {f"meta.{name}": Choice((1, 2, 3, 4, 5)) for name in ("num_tasks", "num_epochs")}
    assert largest_need(SearchSpace(many, base)) == 0, "too many corners to look at"


@pytest.mark.parametrize(
    ("nodes", "at_once", "is_shared", "is_short"),
    [
        ([10.0], 10, True, False),
        ([10.0], 11, False, True),
        ([1.5, 1.5, 1.5], 3, True, False),
        ([1.5, 1.5, 1.5], 4, False, True),  # 4.5 in all, but no machine holds two
        ([0.0], 3, False, False),  # not known
    ],
)
def test_the_largest_trials_share_a_request_where_machines_hold_them_side_by_side(
    monkeypatch: pytest.MonkeyPatch,
    nodes: list[float],
    at_once: int,
    is_shared: bool,
    is_short: bool,
) -> None:
    plan = SweepPlan("point", algorithm="promp", max_concurrent=at_once)
    one = asked_of_ray(largest_need(plan.space()), None)
    sizes = [{"Resources": {"memory": size * one}} for size in nodes]
    monkeypatch.setattr("tuning.driver.ray.nodes", lambda: sizes)
    memory = Memory.of(plan.space(), plan)
    assert (bool(memory.for_all), memory.is_short) == (is_shared, is_short)


def test_where_the_largest_point_is_not_known_nothing_is_said_to_be_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = SweepPlan("point", algorithm="promp")
    monkeypatch.setattr("tuning.driver.ray.nodes", lambda: [{"Resources": {"memory": 1e9}}])
    monkeypatch.setattr("tuning.driver.largest_need", lambda *_: 0)
    assert Memory.of(plan.space(), plan) == Memory(0, 10**9)


def test_two_losses_make_a_region_and_what_fitted_elsewhere_counts_for_nothing() -> None:
    rows: list[Trial] = []
    said: list[str] = []

    def need_of(point: Mapping[str, KnobValue]) -> int:
        return int(point[WIDTH]) * 10**9

    avoided = Avoided(need_of, lambda: rows, said.append)

    def bound() -> int | None:
        widths = [width for width in range(16, 200) if avoided({WIDTH: width})]
        return min(widths, default=None)

    rows.append(row(0, 100, TrialState.OOM))
    assert bound() is None, "one may have been chance"
    rows.append(row(1, 90, TrialState.FAILED))
    assert bound() is None, "it failed by something else"
    rows.append(row(2, 140, TrialState.OOM))
    assert bound() == 100
    assert said == [
        "t0000, t0002 ran out of memory: points that need 100 GB or more by their sizes are no "
        "longer tried"
    ]
    rows.append(row(3, 110, TrialState.COMPLETE))
    assert bound() is None, "t0000 had room: something else took its memory"
    rows.append(row(4, 150, TrialState.OOM))
    assert bound() == 140
    assert len(said) == 2
    pickle.dumps(avoided)  # Tune pickles what the searcher holds


@pytest.mark.parametrize("name", ["tpe", "cmaes", "qmc"])
def test_no_searcher_draws_there_and_rows_are_numbered_without_gaps(
    name: str, tmp_path: Path
) -> None:
    def too_wide(point: Mapping[str, KnobValue]) -> bool:
        return int(point[WIDTH]) >= 128

    def searcher(resume: bool, recorded: list[Trial]) -> StudySearcher:
        return StudySearcher(
            SPACE,
            name=name,
            storage_path=tmp_path / "journal",
            study_name="s",
            is_avoided=too_wide,
            resume=resume,
            recorded=recorded,
        )

    first, rows = searcher(resume=False, recorded=[]), []
    for number in range(8):
        if number == 6:
            first = searcher(resume=True, recorded=rows)
        point = first.suggest(f"id{number}")
        assert int(point[WIDTH]) < 128
        assert first.number(f"id{number}") == number
        assert first.suggest(f"id{number}") == point
        first.on_trial_result(f"id{number}", {"score": 0.5, "judged_at": 10})
        result = {"score": 1.0, "finished": True}
        first.on_trial_complete(f"id{number}", result)
        done = Trial(f"t{number:04d}", number, TrialState.COMPLETE, 1.0, point, seeds=(0,))
        rows.append(done)
    states = [trial.state.name for trial in first.study.trials]
    assert states.count("COMPLETE") == 8
    assert set(states) == {"COMPLETE", "FAIL"}, "the avoided ones are told as failed"


def test_where_all_is_avoided_a_point_is_tried_all_the_same() -> None:
    searcher = StudySearcher(
        SPACE, name="random", storage_path=None, study_name="s", is_avoided=lambda point: True
    )
    assert SPACE.contains(searcher.suggest("a"))
    assert searcher.number("a") == 0
    assert len(searcher.study.trials) == MAX_DRAWS
