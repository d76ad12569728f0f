"""What a plan just accepts and just refuses, and which plan a command is about."""

import inspect
import os
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tuning.kept_plan import kept_plan
from tuning.plan import SweepPlan, TooFewCpusError, usable_cpus
from tuning.sweep import sweep

TASKS = "format: 2\nknobs: {meta.num_tasks: {kind: int, low: 5, high: 20}}"
RATES = "format: 2\nknobs: {meta.inner_lr: {kind: float, low: 0.01, high: 1}}"
USUAL = SweepPlan("point")


def promp(**settings: Any) -> SweepPlan:
    return SweepPlan("point", algorithm="promp", **settings)


# ------------------------------------------------------------------------------- what is left out


def test_a_plan_from_code_is_the_one_that_the_command_line_makes() -> None:
    """What is left to the plan, or to the CPUs that there are, has no value there."""
    options = inspect.signature(sweep).parameters
    both = {field.name for field in fields(USUAL)} & options.keys()
    defaults = {name: options[name].default for name in both - {"task"}}
    told = {name: value for name, value in defaults.items() if value is not None}
    assert len(told) > 9
    assert told == {name: getattr(USUAL, name) for name in told}


def test_left_alone_a_sweep_needs_one_cpu() -> None:
    USUAL.check_cpus(1)
    assert USUAL.cpus_per_trial() * USUAL.max_concurrent == 1


# ---------------------------------------------------------------------- the least that is accepted


@pytest.mark.parametrize(
    "settings",
    [
        {"num_samples": 1, "num_confirmed": 0},
        {"num_samples": 2, "num_confirmed": 1},
        {"num_samples": 3, "num_confirmed": 0, "rounds": 3},
        {"num_samples": 9, "num_confirmed": 0, "num_fresh_seeds": 4},
        {"num_samples": 5, "num_confirmed": 0, "num_fresh_seeds": 4, "seeds_per_trial": 2},
        {"max_env_steps": 1},
        {"time_budget_s": 0.5},
        {"trial_seconds": 0.5},
        {"num_learners": 10},
        {"retries": 0},
    ],
)
def test_the_least_and_the_most_are_accepted(settings: dict[str, Any]) -> None:
    plan = promp(**settings)
    assert {name: getattr(plan, name) for name in settings} == settings
    assert all(size >= 1 for size in plan.trials_of_rounds())
    assert SweepPlan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_samples": 1, "num_confirmed": 1}, "of the 1 rounds must have a trial"),
        ({"num_samples": 3, "num_confirmed": 0, "rounds": 4}, "of the 4 rounds must have a trial"),
        ({"num_samples": 8, "num_confirmed": 0, "num_fresh_seeds": 4}, "8 are for confirming"),
        ({"max_concurrent": 0}, "`max_concurrent` must be at least 1, but got 0"),
        ({"seed": -1}, "`seed` must be at least 0, but got -1"),
        ({"retries": -1}, "`retries` must be at least 0, but got -1"),
        ({"num_learners": -1}, "`num_learners` must be at least 0, but got -1"),
    ],
)
def test_one_less_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        promp(**settings)


def test_rounds_share_evenly_and_the_earlier_ones_have_the_rest() -> None:
    sizes = [promp(num_samples=n, num_confirmed=1, rounds=3).trials_of_rounds() for n in (9, 10)]
    assert sizes == [[3, 3, 2], [3, 3, 3]]
    two_seeds = promp(num_samples=14, num_confirmed=1, num_fresh_seeds=3, seeds_per_trial=2)
    assert two_seeds.num_verdict_trials == 2, "which have a seed more than was wanted"
    assert two_seeds.trials_of_rounds() == [9]


def test_points_of_different_iterations_need_a_budget_that_holds_the_longest(
    tmp_path: Path,
) -> None:
    (tmp_path / "space.yaml").write_text(TASKS)
    base = promp().base()
    longest = 2 * base.meta.env_steps_per_iteration(base.env.horizon)  # 20 tasks instead of 10
    plan = promp(max_env_steps=longest).within(tmp_path / "space.yaml")
    assert plan.max_env_steps == longest
    with pytest.raises(ValueError, match=f"take {longest // 4} to {longest} env steps"):
        promp(max_env_steps=longest - 1).within(tmp_path / "space.yaml")
    # Where all iterations are as long, none has more experience than another.
    (tmp_path / "space.yaml").write_text(RATES)
    promp(max_env_steps=1).within(tmp_path / "space.yaml")


def test_of_two_space_files_the_later_one_counts_alone(tmp_path: Path) -> None:
    earlier, later = tmp_path / "earlier.yaml", tmp_path / "later.yaml"
    earlier.write_text(f"{RATES}\nbase: {{meta.num_tasks: 20}}")
    later.write_text(RATES)
    assert promp().within(earlier).base().meta.num_tasks == 20
    assert promp().within(earlier).within(later) == promp().within(later)


# -------------------------------------------------------------------------------------------- CPUs


def test_fewer_cpus_than_a_trial_needs_are_refused_with_the_sum() -> None:
    plan = promp(num_env_runners=2)
    with pytest.raises(TooFewCpusError, match="need 3 CPUs, but there are 2"):
        plan.sized(None, 2)
    assert plan.sized(None, 5).max_concurrent == 1
    assert plan.sized(None, 6).max_concurrent == 2
    assert plan.sized(1, 6).max_concurrent == 1
    assert plan.sized(2, None).max_concurrent == 2


@pytest.fixture
def single_cpu() -> Iterator[int]:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    yield 1
    os.sched_setaffinity(0, allowed)


def test_cores_that_this_process_may_not_use_do_not_count(single_cpu: int) -> None:
    assert usable_cpus() == single_cpu


# ---------------------------------------------------------------------------- which plan is meant


@pytest.fixture
def kept(tmp_path: Path) -> SweepPlan:
    """A plan that was written down."""
    plan = promp(num_samples=7, seed=4).begun()
    (tmp_path / "config.json").write_text(plan.to_json())
    return plan


def test_a_folder_without_a_plan_is_for_a_new_sweep(tmp_path: Path) -> None:
    assert kept_plan(promp(), tmp_path, resume=False) is None
    with pytest.raises(ValueError, match=f"^there is no study in {tmp_path} to resume"):
        kept_plan(promp(), tmp_path, resume=True, what="study")


def test_what_is_there_is_not_begun_again(kept: SweepPlan, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"^there is a sweep in {tmp_path} already.*`--resume`"):
        kept_plan(kept, tmp_path, resume=False)


def test_what_goes_on_is_the_plan_that_was_written_down(kept: SweepPlan, tmp_path: Path) -> None:
    assert kept_plan(promp(num_samples=30), tmp_path, resume=True) == kept


def test_a_sweep_of_another_task_is_not_gone_on_with(kept: SweepPlan, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is on task 'point', not 'ant-vel'"):
        kept_plan(SweepPlan("ant-vel", algorithm="promp"), tmp_path, resume=True)
