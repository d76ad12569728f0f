"""What a sweep refuses before anything starts, and what it remembers."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.main import get_command

from ssmrl.envs.families import get_family
from ssmrl.format import FormatError
from ssmrl.meta.algorithms import ALGORITHMS
from tests.contracts.property_settings import PROPERTY
from tuning.experience_memory import TooLittleMemoryError, replay_need
from tuning.folder.run_folder import run_folder
from tuning.kept_plan import kept_plan
from tuning.plan import SweepPlan, TooFewCpusError

ANT_SPACE = Path(__file__).resolve().parents[2] / "docs" / "spaces" / "ant-vel.yaml"
KNOBS = "format: 2\nknobs: {meta.inner_lr: {kind: float, low: 0.01, high: 1}}"


def test_the_plan_survives_its_file() -> None:
    plan = SweepPlan("ant-vel", method="mlp", num_samples=7, seed=3)
    assert SweepPlan.from_json(plan.to_json()) == plan


def test_knobs_that_are_set_are_those_of_the_first_point_and_survive(tmp_path: Path) -> None:
    plan = SweepPlan("point", algorithm="promp", settings=("meta.num_tasks=4",))
    assert plan.base().knobs()["meta.num_tasks"] == 4
    assert SweepPlan.from_json(plan.to_json()) == plan
    assert plan.flags()[-2:] == ["--set", "meta.num_tasks=4"]
    file = tmp_path / "space.yaml"
    file.write_text(f"{KNOBS}\nbase: {{meta.num_episodes: 3}}")
    based = plan.within(file).base().knobs()
    assert (based["meta.num_tasks"], based["meta.num_episodes"]) == (4, 3)
    file.write_text(f"{KNOBS}\nbase: {{meta.num_tasks: 3}}")
    with pytest.raises(ValueError, match=r"`--set` and the base of .* differ in .* meta.num_tasks"):
        plan.within(file)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("meta.num_tasks", "`--set` must be KNOB=VALUE"),
        ("meta.num_task=4", "unknown knob 'meta.num_task'"),
        ("env.task=point", "`env.task` has a flag of its own; use --task point"),
        ("policy.method=mlp", "method"),
        ("seed=4", "seed"),
    ],
)
def test_a_knob_that_cannot_be_set_is_refused(setting: str, message: str) -> None:
    with pytest.raises((KeyError, ValueError), match=message):
        SweepPlan("point", algorithm="promp", settings=(setting,))


def test_a_plan_of_other_defaults_is_refused() -> None:
    """Trials of two spaces in one table would not compare."""
    text = (
        SweepPlan("point", algorithm="promp")
        .to_json()
        .replace('"meta.num_tasks": 10', '"meta.num_tasks": 11')
    )
    with pytest.raises(ValueError, match="other defaults"):
        SweepPlan.from_json(text)


def test_the_base_is_the_first_point_and_keeps_the_familys_defaults() -> None:
    plan = SweepPlan("ant-vel", algorithm="promp", seed=5)
    base = plan.base()
    assert (base.env.action_scale, base.env.horizon, base.seed) == (10.0, 100, 5)
    assert plan.space().configure(plan.space().default_point()) == base


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "lstn"}, "'ssm', 'lstm', 'gru', 'transformer', 'mlp'"),
        ({"num_samples": 0}, "num_samples"),
        ({"max_env_steps": 0}, "max_env_steps"),
        ({"time_budget_s": 0.0}, "time_budget_s"),
        ({"time_budget_s": float("nan")}, "time_budget_s"),
        ({"num_env_runners": -1}, "num_env_runners"),
        ({"algorithm": "maml"}, "'context-sac', 'promp', 'e-maml', 'maml-trpo'"),
        ({"searcher": "tpo"}, "tpe, gp, cmaes, qmc, random"),
        ({"scheduler": "ash"}, "asha, none"),
        ({"rounds": 0}, "rounds"),
        ({"seeds_per_trial": 0}, "seeds_per_trial"),
        ({"num_confirmed": -1}, "num_confirmed"),
        ({"num_fresh_seeds": -1}, "num_fresh_seeds"),
        ({"num_fresh_seeds": 6}, "lower .*`--num-fresh-seeds`"),
        ({"trial_seconds": 0.0}, "`trial_seconds` must be positive"),
        ({"trial_seconds": -3.0}, "`trial_seconds` must be positive"),
        ({"trial_seconds": float("nan")}, "`trial_seconds` must be positive"),
    ],
)
def test_bad_settings_name_themselves(settings: dict[str, object], message: str) -> None:
    with pytest.raises((KeyError, ValueError), match=message):
        SweepPlan("point", **settings)


def test_unknown_task_lists_the_known_ones() -> None:
    with pytest.raises(KeyError, match="halfcheetah-vel"):
        SweepPlan("cheetah")


def test_cpu_arithmetic() -> None:
    plan = SweepPlan(
        "point", algorithm="promp", max_concurrent=3, num_env_runners=1, num_learners=2
    )
    plan.check_cpus(12)
    needs = r"3` trials x \(1 \+ 1 env runners \+ 2 learners\) need 12 CPUs, but there are 11"
    with pytest.raises(TooFewCpusError, match=needs):
        plan.check_cpus(11)
    assert plan.sized(None, 12).max_concurrent == 3
    assert plan.sized(None, 11).max_concurrent == 2
    with pytest.raises(TooFewCpusError, match=needs):
        plan.sized(3, 11)
    # A cluster may grow: what is wanted there is not refused.
    assert plan.sized(None, None).max_concurrent == 1
    assert plan.sized(100, None).max_concurrent == 100


def test_runners_with_a_share_of_a_cpu_fit_where_whole_ones_do_not() -> None:
    whole = SweepPlan("point", num_env_runners=2)
    with pytest.raises(TooFewCpusError, match=r"2 env runners \+ 0 learners\) need 3 CPUs"):
        whole.check_cpus(2)
    shared = dataclasses.replace(whole, cpus_per_runner=0.5)
    shared.check_cpus(2)
    assert shared.cpus_per_trial() == 2.0
    with pytest.raises(TooFewCpusError, match=r"2 env runners x 0.5 \+ 0 learners\) need 2 CPUs"):
        shared.check_cpus(1)


def test_more_learners_than_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="`num_learners` must not exceed"):
        SweepPlan("point", algorithm="promp", num_learners=11)


@pytest.mark.parametrize(
    "name",
    ["../x", "a/b", "", ".", "..", ".hidden", "a\nb", "x" * 200, "CON", "nul.txt", "Com1", "a."],
)
def test_names_cannot_leave_the_storage_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--name"):
        run_folder(tmp_path, name)


def test_a_space_file_survives_the_plans_file(tmp_path: Path) -> None:
    """The resumed sweep searches what the file said when it began, whatever it says now."""
    path = tmp_path / "space.yaml"
    path.write_text(ANT_SPACE.read_text())
    plan = SweepPlan("ant-vel", algorithm="promp", seed=2).within(path)
    assert plan.space().ranges.keys() > {"policy.method", "policy.gated"}
    assert plan.limits().ranges["policy.state_dim"].high == 512
    path.write_text("knobs: {}")
    again = SweepPlan.from_json(plan.to_json())
    assert again == plan
    assert (again.space(), again.limits()) == (plan.space(), plan.limits())
    assert again.space().conditions == plan.space().conditions
    assert again.base() == plan.base()
    assert plan.flags()[-2:] == ["--space", str(path)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "format: 2\nknobs: {meta.inner_lr: {kind: float, low: 1, high: 0.1}}",
            "space.yaml.*meta.inner_lr",
        ),
        ("format: 2\nknobs: {meta.inner_lr: {kind: float, low: 0.5, high: 0.9}}", "under `base`"),
        ("format: 2\nknobs: {seed: {kind: int, low: 0, high: 9}}", "--seeds-per-trial"),
        (f"{KNOBS}\nbase: {{seed: 4}}", "`seed` must be set by `--seed` alone"),
        (f"{KNOBS}\nbase: {{policy.method: gru}}", "by `--method` alone, but is 'gru'"),
        (f"{KNOBS}\nbase: {{env.task: ant-vel}}", "by `--task` alone, but is 'ant-vel'"),
    ],
)
def test_a_space_file_that_contradicts_itself_or_a_flag_is_refused(
    content: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "space.yaml").write_text(content)
    with pytest.raises(ValueError, match=message):
        SweepPlan("point", algorithm="promp").within(tmp_path / "space.yaml")


@PROPERTY
@given(
    st.integers(1, 6),
    st.integers(1, 40),
    st.one_of(st.none(), st.integers(0, 5)),
    st.integers(1, 3),
)
def test_the_trials_of_the_rounds_and_those_that_confirm_are_the_budget(
    rounds: int, num_samples: int, num_confirmed: int | None, seeds_per_trial: int
) -> None:
    settings: dict[str, Any] = {"rounds": rounds, "num_samples": num_samples}
    settings |= {"algorithm": "promp"}
    settings |= {"num_confirmed": num_confirmed, "seeds_per_trial": seeds_per_trial}
    num_kept_back = min(3, num_samples // 3) if num_confirmed is None else num_confirmed
    if num_samples - num_kept_back < rounds:
        with pytest.raises(ValueError, match="--num-confirmed"):
            SweepPlan("point", **settings)
        return
    plan = SweepPlan("point", **settings)
    trials = plan.trials_of_rounds()
    assert plan.num_confirmed == num_kept_back
    assert (len(trials), sum(trials) + num_kept_back) == (rounds, num_samples)
    assert trials == sorted(trials, reverse=True)
    assert trials[0] - trials[-1] <= 1
    assert min(trials) >= 1
    assert SweepPlan.from_json(plan.to_json()) == plan


def test_repetitions_share_no_seed() -> None:
    plan = SweepPlan("point", seed=5, seeds_per_trial=3)
    firsts = [plan.first_seed(repetition) for repetition in range(4)]
    assert firsts == [5, 8, 11, 14]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"format": 2}',
        "7",
        SweepPlan("point").to_json().replace('"rounds"', '"turns"'),
        SweepPlan("point").to_json().replace('"num_samples": 8', '"num_samples": "ten"'),
        SweepPlan("point").to_json().replace('"limits"', '"bounds"'),
        SweepPlan("point").to_json().replace('"task": "point"', '"task": "points"'),
    ],
)
def test_what_is_no_plan_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="a plan must be as this version writes it"):
        SweepPlan.from_json(text)


def test_a_plan_of_version_0_1_is_refused_in_a_line(tmp_path: Path) -> None:
    old = Path(__file__).parents[1] / "fixtures" / "format1" / "config.json"
    (tmp_path / "config.json").write_text(old.read_text())
    wanted = f"^{tmp_path / 'config.json'} has no format: version 0.1 of the project wrote it"
    with pytest.raises(FormatError, match=wanted):
        kept_plan(SweepPlan("point"), tmp_path, resume=True)


def test_a_sweep_that_begins_has_an_id_that_its_file_keeps() -> None:
    plan = SweepPlan("point")
    one, other = plan.begun(), plan.begun()
    assert plan.sweep_id == ""
    assert one.sweep_id != other.sweep_id
    assert len(one.sweep_id) == 16
    assert SweepPlan.from_json(one.to_json()) == one
    assert one.flags() == plan.flags()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_has_a_plan_whose_space_holds_its_default(algorithm: str) -> None:
    plan = SweepPlan("ant-vel", algorithm=algorithm)
    base = plan.base()
    assert base.algorithm == algorithm
    assert plan.space().configure(plan.space().default_point()) == base
    assert plan.limits().covers(plan.space())
    assert SweepPlan.from_json(plan.to_json()) == plan
    is_gradient = ALGORITHMS[algorithm].kind == "gradient"
    assert (base.evaluation.num_episodes == 4) == is_gradient, "small batches are for gradients"


def test_the_flags_make_the_plan_again() -> None:
    from tuning.sweep import app

    plan = SweepPlan("point", num_samples=7, rounds=2, num_confirmed=1, seeds_per_trial=2)
    options = {option for parameter in get_command(app).params for option in parameter.opts}
    flags = plan.flags()
    assert set(flags[::2]) <= options
    given = dict(zip(flags[::2], flags[1::2], strict=True))
    assert given["--seeds-per-trial"] == "2"
    assert len(given) == len(flags) // 2 == 18


@PROPERTY
@given(st.integers(1, 60), st.integers(0, 4), st.integers(0, 6), st.integers(1, 3))
def test_what_confirms_and_what_judges_is_kept_back_from_the_search(
    num_samples: int, num_confirmed: int, num_fresh_seeds: int, seeds_per_trial: int
) -> None:
    settings: dict[str, Any] = {"num_confirmed": num_confirmed, "num_fresh_seeds": num_fresh_seeds}
    settings |= {"num_samples": num_samples, "seeds_per_trial": seeds_per_trial}
    kept_back = num_confirmed + 2 * -(-num_fresh_seeds // seeds_per_trial)
    if num_samples - kept_back < 1:
        with pytest.raises(ValueError, match="--num-fresh-seeds"):
            SweepPlan("point", **settings)
        return
    plan = SweepPlan("point", **settings)
    assert sum(plan.trials_of_rounds()) + kept_back == num_samples
    assert plan.num_verdict_trials * seeds_per_trial >= num_fresh_seeds


def test_the_usual_sizes_of_each_kind() -> None:
    memory, gradient = SweepPlan("ant-vel"), SweepPlan("ant-vel", algorithm="promp")
    assert memory.adapts_by_memory
    assert not gradient.adapts_by_memory
    assert (memory.num_samples, memory.num_confirmed, memory.num_fresh_seeds) == (8, 0, 3)
    assert (gradient.num_samples, gradient.num_confirmed, gradient.num_fresh_seeds) == (10, 3, 0)
    assert (memory.max_env_steps, memory.scheduler) == (52_000, "none")
    assert (gradient.max_env_steps, gradient.scheduler) == (300_000, "asha")
    searched, share = sum(memory.trials_of_rounds()), memory.max_env_steps
    assert (searched - 1) / searched >= 0.5, "most of the search is for other points"
    iteration = memory.base().meta.num_lanes * memory.base().env.horizon
    assert share % iteration == 0, "every trial ends with its budget, and not behind it"


def test_a_family_whose_tasks_a_memory_cannot_infer_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hidden_less = dataclasses.replace(get_family("point"), hidden=None)
    monkeypatch.setattr("ssmrl.context.networks.get_family", lambda name: hidden_less)
    with pytest.raises(ValueError, match=r"`env\.task` must have a hidden variable"):
        SweepPlan("point")
    SweepPlan("point", algorithm="promp")


def test_replays_that_do_not_fit_the_memory_are_refused_with_the_sum() -> None:
    plan = SweepPlan("point", max_concurrent=3, seeds_per_trial=2)
    one = replay_need(plan.base())
    assert one > 1e6
    plan.check_replays(6 * one)
    plan.check_replays(None)
    with pytest.raises(TooLittleMemoryError, match=r"3 trials x 2 seeds x .*`meta.replay_env"):
        plan.check_replays(6 * one - 1)
    SweepPlan("point", algorithm="promp").check_replays(0)


def test_a_knob_of_another_algorithm_in_a_space_file_names_who_has_it(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(
        "format: 2\nknobs: {meta.clip: {kind: float, low: 0.1, high: 1}}"
    )
    with pytest.raises(ValueError, match="algorithm 'context-sac'; promp and e-maml have it"):
        SweepPlan("point").within(tmp_path / "space.yaml")
