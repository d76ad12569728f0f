"""Equal configurations compared, at sizes that take a second."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from experiments.benchmarks.null_comparison import app, seed_returns, shares
from ssmrl.config import TrainConfig
from tests.tuning.tiny_memory import TINY_KNOBS


def test_equal_groups_are_seldom_called_different_and_worse_ones_are_found() -> None:
    returns = np.random.default_rng(0).normal(size=60).tolist()
    alarms, finds = shares(returns, 6, 400, np.random.default_rng(1))
    assert alarms <= 0.09
    assert finds >= 0.7


def test_of_two_kinds_of_seeds_pairs_of_one_kind_each_are_called_different() -> None:
    """A comparison that could not find anything would pass the other test's first half."""
    returns = [0.0, 0.1, 0.2, 100.0, 100.1, 100.2]
    alarms, _ = shares(returns, 3, 400, np.random.default_rng(0))
    assert alarms == pytest.approx(2 / 20, abs=0.05), "3 of 6 seeds, of which 2 of 20 ways sort"


def test_seeds_that_are_there_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "returns.csv"
    path.write_text("seed,env_steps,return\n0,400,-3.5\n")
    config = TrainConfig.for_task("point").with_knobs(TINY_KNOBS)
    found = seed_returns(path, config, 2, 400)
    assert found[0] == -3.5
    assert np.isfinite(found[1])
    lines = path.read_text().splitlines()
    assert lines[:2] == ["seed,env_steps,return", "0,400,-3.5"]
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("seed,env_steps,return\n0,300,-3.5\n", "trainings of [300] env steps"),
        ("seed,return\n0,-3.5\n", "no table of seeds and returns"),
        ("seed,env_steps,return\nfirst,400,-3.5\n", "no table of seeds and returns"),
    ],
)
def test_another_table_is_refused_in_one_line_and_kept(
    content: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "returns.csv"
    path.write_text(content)
    refused = CliRunner().invoke(app, ["--output", str(path), "--env-steps", "400"])
    assert refused.exit_code == 2
    assert message in refused.output
    assert len(refused.output.splitlines()) == 1
    assert path.read_text() == content
