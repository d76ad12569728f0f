"""What is said of a plan before it starts, and how a machine's speed becomes a budget."""

import dataclasses
from pathlib import Path

import pytest
import torch

from tests.tuning.tiny_memory import write_space
from tuning import experience_memory
from tuning.experience_memory import available_bytes, replay_need
from tuning.forecast import costliest, expected_seconds, forecast
from tuning.plan import SweepPlan
from tuning.probe import Rate, probe

RATE = Rate(env_steps_per_second=200.0, judge_seconds=8.0, env_steps_per_iteration=1600)


def test_a_time_becomes_whole_iterations_and_a_budget_becomes_a_time() -> None:
    assert RATE.env_steps(128.0) == 24_000
    assert RATE.env_steps(127.0) == 22_400
    assert RATE.env_steps(0.5) == 1600, "at least one iteration"
    assert RATE.seconds(24_000) == 128.0
    assert RATE.seconds(23_000) == 128.0, "training ends with a whole iteration"


def test_the_plan_is_summed_up_as_it_will_be_made() -> None:
    plan = SweepPlan("ant-vel", max_concurrent=2, max_env_steps=24_000)
    assert expected_seconds(plan, RATE) == 4 * 128.0  # a pair of trials, and 3 of fresh seeds
    text = "\n".join(forecast(plan, RATE, RATE))
    assert "8 trials of 24,000 env steps each, 2 at once" in text
    assert "searching: 2 trials, 25% of the env steps, of which 50% go to other points" in text
    assert "3 fresh seeds of the winner and, if that is another point, 3 of the default" in text
    assert "verdict: 3 seeds each find a difference of 3.5 standard deviations" in text
    assert "128 s a trial by this machine's measured 200 env steps/s" in text
    assert "512 s in all" in text
    assert f"{2 * replay_need(plan.base()) / 1e9:.2f} GB in all" in text
    assert "sees the hidden variable" in text
    assert "--time-budget-s" not in text


def test_what_is_unusual_is_said_in_a_line() -> None:
    control = "\n".join(forecast(SweepPlan("point", method="mlp", max_concurrent=1), RATE, RATE))
    assert "mlp is the control" in control
    assert "`--time-budget-s 840` will end it before" in control
    gradient = "\n".join(forecast(SweepPlan("point", algorithm="promp"), RATE, RATE))
    assert "hidden variable" not in gradient
    assert "verdict: none with fewer than 3 fresh seeds" in gradient
    assert "replay" not in gradient


def test_a_measurement_takes_its_limit_and_leaves_torch_as_it_was(tmp_path: Path) -> None:
    plan = SweepPlan("point").within(write_space(tmp_path))
    before = torch.get_num_threads()
    (rate,) = probe([plan.base()], limit_s=0.1)
    assert torch.get_num_threads() == before
    assert rate.env_steps_per_iteration == 80
    assert rate.env_steps_per_second > 0.0
    assert rate.judge_seconds > 0.0


def test_gradient_steps_that_the_search_may_ask_for_are_reckoned_with() -> None:
    plan = SweepPlan("ant-vel", max_concurrent=2, max_env_steps=24_000)
    assert plan.base().meta.num_inner_steps == 0
    assert costliest(plan).meta.num_inner_steps > 0
    text = "\n".join(forecast(plan, RATE, dataclasses.replace(RATE, env_steps_per_second=100.0)))
    assert "512 s in all; 248 s with the most gradient steps" in text
    assert "`--time-budget-s 840` may end it before" in text
    gradient = SweepPlan("point", algorithm="promp")
    assert costliest(gradient) == gradient.base(), "each of its trials has them"


@pytest.mark.slow
def test_what_runs_at_once_is_measured_at_once(tmp_path: Path) -> None:
    plan = SweepPlan("point").within(write_space(tmp_path))
    configs = [plan.base(), costliest(plan)]
    rates = probe(configs, at_once=2, limit_s=0.1)
    assert len(rates) == 2
    assert all(rate.env_steps_per_iteration == 80 for rate in rates)
    assert all(rate.env_steps_per_second > 0.0 for rate in rates)


def test_memory_that_a_container_may_not_use_is_not_available(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9000 kB\nMemAvailable:    4000 kB\n")
    monkeypatch.setattr(experience_memory, "_MEMINFO", meminfo)
    monkeypatch.setattr(experience_memory, "_CGROUP", tmp_path)
    assert available_bytes() == 4000 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("3000000\n")
    (tmp_path / "memory.stat").write_text("anon 1\nfile 1000000\nfile_mapped 7\n")
    assert available_bytes() == 4000 * 1024
    (tmp_path / "memory.max").write_text("4000000\n")
    assert available_bytes() == 2_000_000
    meminfo.unlink()
    (tmp_path / "memory.max").unlink()
    assert available_bytes() is None


def test_a_plan_keeps_the_budget_that_was_made_of_a_time() -> None:
    plan = dataclasses.replace(SweepPlan("point", trial_seconds=128.0), max_env_steps=24_000)
    assert SweepPlan.from_json(plan.to_json()) == plan
    assert "--trial-seconds" not in plan.flags(), "another machine would make other env steps of it"
