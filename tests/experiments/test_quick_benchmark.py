"""The quick benchmark, tiny: what its tasks are, what it compares with, and what it prints."""

import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from experiments.quick_benchmark import (
    PHYSICS,
    Result,
    Scale,
    Settings,
    Windows,
    app,
    benchmark,
    collect,
    describe,
    draw_physics,
)

ROOT = Path(__file__).resolve().parents[2]
TINY = Settings(
    num_epochs=6,
    state_dim=4,
    hidden_dim=16,
    num_train_tasks=16,
    num_test_tasks=6,
    num_windows=4,
    meta_batch=8,
)
every_env = pytest.mark.parametrize("env_name", PHYSICS)


@pytest.fixture(autouse=True, scope="module")
def _one_torch_thread() -> Iterator[None]:
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(usual)


def physics_step(
    env_name: str, task: dict[str, float], observation: np.ndarray, action: np.ndarray
) -> np.ndarray:
    """One step from an observation, in a Gymnasium environment of one's own with this physics."""
    env = gymnasium.make(env_name).unwrapped
    env.reset(seed=0)
    for name, value in task.items():
        setattr(env, name, value)
    if env_name == "CartPole-v1":
        env.total_mass, env.polemass_length = (
            1.0 + task["masspole"],
            task["masspole"] * task["length"],
        )
        env.state = tuple(float(value) for value in observation)
        return np.asarray(env.step(int(action.argmax()))[0])
    env.state = np.array([math.atan2(observation[1], observation[0]), observation[2]])
    return np.asarray(env.step(action)[0])


@every_env
def test_windows_are_transitions_of_their_own_tasks_physics(env_name: str) -> None:
    """The twin plays each transition again; a reset inside a window, or another task's lane,
    would show."""
    rng = np.random.default_rng(0)
    tasks = draw_physics(env_name, 3, rng)
    windows = collect(env_name, tasks, 6, 5, rng)
    assert windows.observation.shape[:3] == (3, 6, 6)
    assert windows.action.shape[:3] == (3, 6, 5)
    errors = np.zeros((3, 3))
    for n, b, t in np.ndindex(3, 6, 5):
        before, after = windows.observation[n, b, t], windows.observation[n, b, t + 1]
        for other in range(3):
            again = physics_step(env_name, tasks[other], before, windows.action[n, b, t])
            errors[n, other] = max(errors[n, other], np.abs(again - after).max())
    assert errors.diagonal().max() < 1e-4
    assert errors[~np.eye(3, dtype=np.bool_)].min() > 1e-2


@every_env
def test_the_standard_physics_lies_inside_the_ranges(env_name: str) -> None:
    env = gymnasium.make(env_name).unwrapped
    for name, (low, high) in PHYSICS[env_name].items():
        assert low < getattr(env, name) < high
    tasks = draw_physics(env_name, 20, np.random.default_rng(0))
    assert len({tuple(task.values()) for task in tasks}) == 20


@pytest.mark.parametrize(("env_name", "known"), [("CartPole-v1", 0.031), ("Pendulum-v1", 0.105)])
def test_next_equals_current_scores_what_is_known_of_the_standard_physics(
    env_name: str, known: float
) -> None:
    rng = np.random.default_rng(0)
    windows = collect(env_name, [{}] * 10, 10, 8, rng)
    assert np.square(windows.change()).mean() == pytest.approx(known, rel=0.15)


def test_errors_are_in_the_units_of_the_observation() -> None:
    """Changes of 2 and 30 with spreads of 1 and 10, missed by one spread each: (1 + 100) / 2."""
    change = np.array([[1.0, 20.0], [3.0, 40.0]])
    observation = np.concatenate([np.zeros((1, 2)), change.cumsum(axis=0)])[None, None]
    windows = Windows(observation, np.zeros((1, 1, 2, 1)))
    scale = Scale(windows)
    _, y = scale.pairs(windows)
    assert scale.error(y, y) == 0.0
    assert scale.error(y + 1.0, y) == pytest.approx(50.5, rel=1e-5)


@every_env
def test_it_learns_adapts_and_says_what_it_compares_with(env_name: str) -> None:
    result = benchmark(env_name, TINY)
    assert result.loss_after < result.loss_before
    reduction = 100.0 * (1.0 - result.loss_after / result.loss_before)
    assert result.loss_reduction_percent == pytest.approx(reduction)
    beats = result.loss_after < result.loss_of_next_equals_current
    assert result.beats_next_equals_current == beats
    assert result == benchmark(env_name, TINY), "one seed, one result"
    assert result != benchmark(env_name, dataclasses.replace(TINY, seed=1))


def test_training_and_adapting_are_what_lowers_the_loss() -> None:
    untrained = benchmark("CartPole-v1", dataclasses.replace(TINY, num_epochs=0))
    unadapted = benchmark("CartPole-v1", dataclasses.replace(TINY, num_adapt_steps=0))
    trained = benchmark("CartPole-v1", dataclasses.replace(TINY, num_epochs=12))
    assert unadapted.loss_after == unadapted.loss_before
    assert trained.loss_after < 0.5 * untrained.loss_after
    assert trained.loss_of_next_equals_current == untrained.loss_of_next_equals_current


def test_the_text_says_plainly_whether_copying_was_beaten() -> None:
    better = Result("CartPole-v1", 0.2, 0.1, 50.0, 0.15, 0.03, True, 1)
    text = describe(better, TINY)
    assert 'The adapted model beats "next = current"' in text
    for number in ("0.20000", "0.10000", "0.15000", "0.030", "50.0 %", "1 tasks rolled back"):
        assert number in text
    worse = dataclasses.replace(better, loss_after=0.16, beats_next_equals_current=False)
    assert 'does not beat "next = current": it has learnt nothing' in describe(worse, TINY)


@pytest.mark.parametrize("separator", ["-", "_"])
def test_flags_with_dashes_or_underscores_reach_the_benchmark(separator: str) -> None:
    """Provenance: what is asked for is what is used."""
    flags = {
        "num-epochs": 1,
        "state-dim": 6,
        "hidden-dim": 7,
        "inner-lr": 0.02,
        "outer-lr": 0.03,
        "adapt-lr": 0.04,
        "num-adapt-steps": 2,
        "num-train-tasks": 3,
        "num-test-tasks": 2,
        "seed": 5,
    }
    arguments = ["--env-name", "Pendulum-v1", "--json"]
    for name, value in flags.items():
        arguments += [f"--{name}", str(value)]
    arguments = [
        "--" + each[2:].replace("-", separator) if each.startswith("--") else each
        for each in arguments
    ]
    finished = CliRunner().invoke(app, arguments)
    assert finished.exit_code == 0, finished.output
    printed = json.loads(finished.stdout)
    assert {k: printed["settings"][k.replace("-", "_")] for k in flags} == flags
    settings = Settings(**printed["settings"])
    wanted = dataclasses.asdict(benchmark("Pendulum-v1", settings))
    assert printed["results"] == [wanted]
    assert "epoch 1/1" in finished.stderr


def test_the_command_line_has_the_defaults_of_the_settings() -> None:
    finished = CliRunner().invoke(app, ["--help"])
    assert finished.exit_code == 0
    for name in ("state_dim", "inner_lr", "adapt_lr", "num_adapt_steps", "num_train_tasks"):
        flag = f"--{name.replace('_', '-')}"
        assert flag in finished.output
        assert f"default: {getattr(Settings(), name)}" in finished.output.split(flag)[1]


def test_an_environment_of_unknown_physics_is_refused() -> None:
    finished = CliRunner().invoke(app, ["--env-name", "Acrobot-v1"])
    assert finished.exit_code == 2
    assert "CartPole-v1, Pendulum-v1" in finished.stderr
    with pytest.raises(KeyError, match="known are: CartPole-v1"):
        benchmark("Acrobot-v1", TINY)


def test_the_file_runs_from_anywhere_without_shadowing_the_standard_library(
    tmp_path: Path,
) -> None:
    """Its folder may hold names of the standard library, ``statistics`` among them."""
    code = (
        "import runpy, sys; sys.argv = ['quick_benchmark.py', '--help']; "
        "sys.path[0] = {folder!r}; runpy.run_path({file!r}, run_name='__main__')"
    ).format(
        folder=str(ROOT / "experiments"), file=str(ROOT / "experiments" / "quick_benchmark.py")
    )
    finished = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    assert "--num-adapt-steps" in finished.stdout
