"""What a sweep refuses before anything starts, and what it remembers."""

from pathlib import Path

import pytest

from tuning.plan import SweepPlan, sweep_folder


def test_the_plan_survives_its_file() -> None:
    plan = SweepPlan("ant-vel", method="mlp", num_samples=7, seed=3)
    assert SweepPlan.from_json(plan.to_json()) == plan


def test_a_plan_of_other_defaults_is_refused() -> None:
    """Trials of two spaces in one table would not compare."""
    text = SweepPlan("point").to_json().replace('"meta.num_tasks": 10', '"meta.num_tasks": 11')
    with pytest.raises(ValueError, match="other defaults"):
        SweepPlan.from_json(text)


def test_the_base_is_the_first_point_and_keeps_the_familys_defaults() -> None:
    plan = SweepPlan("ant-vel", seed=5)
    base = plan.base()
    assert (base.env.action_scale, base.env.horizon, base.seed) == (10.0, 100, 5)
    assert plan.space().configure(plan.space().default_point()) == base


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "lstn"}, "ssm, lstm, gru, transformer, mlp"),
        ({"num_samples": 0}, "num_samples"),
        ({"max_env_steps": 0}, "max_env_steps"),
        ({"time_budget_s": 0.0}, "time_budget_s"),
        ({"time_budget_s": float("nan")}, "time_budget_s"),
        ({"num_env_runners": -1}, "num_env_runners"),
        ({"searcher": "tpo"}, "tpe, gp, cmaes, qmc, random"),
        ({"scheduler": "ash"}, "asha, none"),
    ],
)
def test_bad_settings_name_themselves(settings: dict[str, object], message: str) -> None:
    with pytest.raises((KeyError, ValueError), match=message):
        SweepPlan("point", **settings)


def test_unknown_task_lists_the_known_ones() -> None:
    with pytest.raises(KeyError, match="halfcheetah-vel"):
        SweepPlan("cheetah")


def test_cpu_arithmetic() -> None:
    plan = SweepPlan("point", max_concurrent=4, num_env_runners=1)
    plan.check_cpus(8)
    with pytest.raises(ValueError, match=r"4` trials x \(1 \+ 1 env runners\) need 8 CPUs"):
        plan.check_cpus(7)


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "..", ".hidden", "a\nb", "x" * 200])
def test_names_cannot_leave_the_storage_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--name"):
        sweep_folder(tmp_path, name)
