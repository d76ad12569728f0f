"""No searched knob buys a score: not by a longer measurement, more experience or less cost."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from ssmrl.config import TrainConfig
from ssmrl.meta.algorithms import ALGORITHMS
from ssmrl.rollout.assignment import held_out_assignment
from ssmrl.run import NUM_EVALUATIONS, LocalEngine, TrainingRun
from tests.ssmrl.unchecked_types import unchecked_types
from tests.tuning.tiny_memory import TINY_KNOBS
from tests.tuning.tiny_memory import write_space as write_memory_space
from tuning.forecast import forecast
from tuning.plan import SweepPlan
from tuning.spaces.iteration_length import iteration_lengths
from tuning.spaces.space import Choice, Int, Range, SearchSpace, default_space
from tuning.spaces.space_file import load_space_file

BUDGETS = {"promp": 2400, "context-sac": 560}
POINT = {
    "promp": TrainConfig.for_task("point", "promp").with_knobs(
        {
            "policy.method": "mlp",
            "policy.hidden_dim": 8,
            "meta.num_tasks": 3,
            "meta.num_episodes": 2,
            "evaluation.num_tasks": 3,
            "evaluation.num_episodes": 2,
        }
    ),
    "context-sac": TrainConfig.for_task("point").with_knobs(TINY_KNOBS),
}


def any_range(value: Any) -> Range:
    if isinstance(value, str):
        return Choice((value, f"{value}-other"))
    return Choice((value, type(value)(2 * value + 1)))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_knob_of_the_measurement_can_be_searched(algorithm: str) -> None:
    """What acting costs is among them: with a scale of 20, half the control is paid for it."""
    base = TrainConfig.for_task("ant-vel", algorithm)
    measuring = {
        knob: value
        for knob, value in base.knobs().items()
        if knob.startswith(("env.", "evaluation.")) or knob in ("algorithm", "seed")
    }
    assert len(measuring) == 7
    for knob, value in measuring.items():
        with pytest.raises(ValueError, match=f"`{knob}` must not be searched: "):
            SearchSpace({knob: any_range(value)}, base)


@pytest.mark.parametrize("knob", ["env.action_scale", "evaluation.num_tasks", "env.horizon"])
def test_a_space_file_that_searches_one_is_refused_in_a_line(knob: str, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    kind = "float" if knob == "env.action_scale" else "int"
    path.write_text(f"format: 2\nknobs:\n  {knob}: {{kind: {kind}, low: 1, high: 400}}\n")
    with pytest.raises(ValueError, match=f"`{knob}` must not be searched") as caught:
        load_space_file(path, TrainConfig.for_task("ant-vel", "promp"))
    assert "\n" not in str(caught.value)


def test_more_episodes_with_a_task_before_the_one_that_scores_cannot_be_searched() -> None:
    base = POINT["context-sac"]
    with pytest.raises(ValueError, match=r"`meta.episodes_per_task` must not be searched: .*buy"):
        SearchSpace({"meta.episodes_per_task": Int(1, 4)}, base)
    SearchSpace({"meta.num_lanes": Int(2, 8)}, base)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_only_adaptation_steps_that_play_no_more_episodes_can_be_searched(algorithm: str) -> None:
    """A memory adapts within the episode that scores; by gradient each step needs one before it."""
    space = {"meta.num_inner_steps": Int(1, 3)}
    base = TrainConfig.for_task("point", algorithm).with_knobs({"meta.num_inner_steps": 1})
    lengths = {
        ALGORITHMS[algorithm]
        .learner_type()(base.with_knobs({"meta.num_inner_steps": steps}))
        .num_episodes
        for steps in (1, 2)
    }
    if len(lengths) == 1:
        assert "meta.num_inner_steps" in SearchSpace(space, base).ranges
    else:
        assert "meta.num_inner_steps" not in default_space(base).ranges
        with pytest.raises(
            ValueError, match=r"`meta.num_inner_steps` must not be .*buy experience"
        ):
            SearchSpace(space, base)


@pytest.mark.parametrize(
    ("algorithm", "knob", "value"),
    [
        ("promp", "meta.num_tasks", 5),
        ("promp", "meta.num_episodes", 5),
        ("promp", "meta.num_epochs", 1),
        ("context-sac", "meta.num_lanes", 7),
        ("context-sac", "meta.random_env_steps", 160),
    ],
)
def test_the_budget_and_the_measurement_are_the_same_whatever_the_knob(
    algorithm: str, knob: str, value: Any, usual: dict[str, list[int]], tmp_path: Path
) -> None:
    changed = POINT[algorithm].with_knobs({knob: value})
    assert played_by(changed, tmp_path) == usual[algorithm]
    tasks = [held_out_assignment(config, 0) for config in (POINT[algorithm], changed)]
    assert tasks[0].tasks == tasks[1].tasks


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[int]]:
    """What is played where no knob is changed."""
    return {name: played_by(POINT[name], tmp_path_factory.mktemp(name)) for name in POINT}


@unchecked_types()
def played_by(config: TrainConfig, folder: Path) -> list[int]:
    """The env steps of each evaluation of a whole run, which keeps to its budget."""
    budget, engine = BUDGETS[config.algorithm], CountingEngine(config, num_threads=1)
    run = TrainingRun(config, max_env_steps=budget, folder=folder, engine=engine)
    while not run.row.finished:
        run.advance()
    length = engine.learner.env_steps_per_iteration
    assert budget <= run.row.env_steps < budget + length
    assert run.row.env_steps % length == 0
    assert len(run.row.curve) == NUM_EVALUATIONS
    return engine.played


class CountingEngine(LocalEngine):
    """Says what each evaluation played."""

    def judge(self, **how: Any) -> Any:
        evaluation = super().judge(**how)
        self.played = [*getattr(self, "played", []), evaluation.env_steps]
        return evaluation


@pytest.mark.parametrize("algorithm", POINT)
def test_an_iteration_is_as_long_as_its_settings_say(algorithm: str) -> None:
    config = POINT[algorithm]
    metrics = (engine := LocalEngine(config, num_threads=1)).iterate()
    own = config.meta.env_steps_per_iteration(config.env.horizon)
    assert own == metrics.env_steps == engine.learner.env_steps_per_iteration


def test_the_shortest_and_the_longest_iteration_of_a_space() -> None:
    base = POINT["promp"]
    ranges: dict[str, Range] = {
        "meta.num_tasks": Int(1, 6),
        "meta.num_episodes": Choice((4, 2, 8)),
        "meta.first_order": Choice((False, True)),
    }
    horizon = base.env.horizon
    lengths = iteration_lengths(SearchSpace(ranges, base))
    assert lengths == (1 * 2 * 2 * horizon, 6 * 8 * 2 * horizon)
    flat = SearchSpace({"policy.hidden_dim": Int(8, 16)}, base)
    assert iteration_lengths(flat) == (3 * 2 * 2 * horizon,) * 2


def test_iterations_longer_than_the_budget_are_refused_and_long_ones_told(tmp_path: Path) -> None:
    unequal = tmp_path / "unequal.yaml"
    unequal.write_text("format: 2\nknobs:\n  meta.num_tasks: {kind: int, low: 5, high: 20}\n")
    plan = SweepPlan("point", algorithm="promp", max_env_steps=4000).within(unequal)
    shortest, longest = iteration_lengths(plan.space())
    told = "\n".join(forecast(plan, None, None))
    assert f"of up to {longest:,} env steps" in told
    assert f"{longest / 4000:.0%} more than another" in told
    message = rf"`max_env_steps`.*{longest - 1}.*{shortest} to {longest}"
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(plan, max_env_steps=longest - 1)
    for algorithm in ALGORITHMS:
        by_default = SweepPlan("ant-vel", algorithm=algorithm)
        assert "experience:" not in "\n".join(forecast(by_default, None, None))
    equal = SweepPlan("point").within(write_memory_space(tmp_path))
    assert dataclasses.replace(equal, max_env_steps=10).max_env_steps == 10, "all have one"
