"""Another library's learners on our ids: judged on held-out tasks, and a clear word without it."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
import pytest
from typer.testing import CliRunner

from experiments.benchmarks import stable_baselines
from experiments.benchmarks.stable_baselines import held_out_tasks, mean_return


class Still:
    """Stands in for an algorithm: it does nothing, and after training it pushes."""

    def __init__(self, policy: str, env: gymnasium.Env[Any, Any], **settings: Any) -> None:
        assert policy == "MlpPolicy"
        self.env, self.seed, self.num_timesteps = env, settings["seed"], 0
        self.push = 0.0

    def predict(self, observation: np.ndarray, deterministic: bool) -> tuple[np.ndarray, None]:
        assert deterministic
        return np.full(self.env.action_space.shape, self.push, np.float32), None

    def learn(self, env_steps: int) -> None:
        self.env.reset(seed=self.seed)
        seen = set()
        for _ in range(3):  # an episode, each on a task of its own
            self.env.reset()
            seen.add(self.env.unwrapped._trials._parameters[0])  # type: ignore[attr-defined]
        assert len(seen) == 3
        self.num_timesteps, self.push = env_steps, 0.5


def library() -> ModuleType:
    module = ModuleType("stable_baselines3")
    module.PPO = module.SAC = Still  # type: ignore[attr-defined]
    module.__version__ = "0"  # type: ignore[attr-defined]
    return module


def test_each_is_judged_on_the_same_held_out_tasks() -> None:
    tasks = held_out_tasks("halfcheetah-vel")
    assert len(set(tasks)) == 20
    assert all(0.45 - 1e-9 < task[0] / 0.3 % 1.0 < 0.55 + 1e-9 for task in tasks)
    still = Still("MlpPolicy", gymnasium.make("ssmrl/Point-v0"), seed=0)
    assert mean_return(still, "point") == pytest.approx(-20.0)


def test_from_the_ids_to_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stable_baselines3", library())
    flags = ["--ppo-env-steps", "7", "--sac-env-steps", "9", "--output", str(tmp_path / "new")]
    result = CliRunner().invoke(stable_baselines.app, flags)
    assert result.exit_code == 0, result.output
    head, *rows = (tmp_path / "new" / "stable-baselines.csv").read_text().splitlines()
    cells = [dict(zip(head.split(","), row.split(","), strict=True)) for row in rows]
    assert [(row["env"], row["algorithm"], row["env_steps"]) for row in cells] == [
        ("ssmrl/HalfCheetahVel-v0", "PPO", "7"),
        ("ssmrl/Point-v0", "PPO", "7"),
        ("ssmrl/HalfCheetahVel-v0", "SAC", "9"),
        ("ssmrl/Point-v0", "SAC", "9"),
    ]
    assert [row["bound"] for row in cells] == ["-75", "-20"] * 2
    assert all(float(row["blind"]) >= float(row["bound"]) for row in cells)
    assert cells[1]["before"] == "-20"
    assert float(cells[1]["after"]) != -20.0


def test_without_the_library_one_line_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    result = CliRunner().invoke(stable_baselines.app, ["--output", str(tmp_path / "new")])
    assert result.exit_code == 2
    (line,) = result.output.splitlines()
    assert "Stable-Baselines3 is not installed; run `pip install 'ssmrl[bench]'`" in line
    assert not (tmp_path / "new").exists()
