"""The benchmark of what a memory learns in a core's seconds, at sizes that take two of them."""

import itertools
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from scipy import stats
from torch import Tensor
from typer.testing import CliRunner

from experiments.benchmarks.curves import read_curve
from experiments.benchmarks.memory_learning import COLUMNS, app, draw, over_seeds
from experiments.benchmarks.memory_returns import read_returns, returns_path, write_returns
from experiments.statistics import crossed_interval
from ssmrl.checkpoint import Checkpoint
from ssmrl.context.actor_critic_training import ActorCriticTraining
from ssmrl.context.sac import Batch
from tests.tuning.tiny_memory import TINY_KNOBS


def run(folder: Path, *more: str) -> Result:
    knobs = [flag for name, value in TINY_KNOBS.items() for flag in ("--knob", f"{name}={value}")]
    place = ["--output", str(folder / "results"), "--checkpoints", str(folder / "checkpoints")]
    return CliRunner().invoke(app, ["--task", "point", *knobs, *place, *more])


def test_a_run_that_is_asked_for_more_goes_on_where_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock of which every look takes an eighth of a second, however slow the machine is."""
    looks = itertools.count()
    monkeypatch.setattr(time, "process_time", lambda: next(looks) / 8.0)
    first = run(tmp_path, "--seconds", "0.5", "--every", "0.25")
    assert first.exit_code == 0, first.output
    curve = tmp_path / "results" / "memory-learning-point-default-seed0.csv"
    rows = read_curve(curve)
    assert len(rows) == 2
    assert rows[0].keys() == set(COLUMNS)
    assert [row["cpu_seconds"] for row in rows] == [0.25, 0.5]
    kept = read_returns(returns_path(curve.parent, "point", "default", 0))
    again = run(tmp_path, "--seconds", "0.75", "--every", "0.25")
    assert again.exit_code == 0, again.output
    assert read_curve(curve)[:2] == rows
    assert len(read_curve(curve)) == 3
    all_kept = read_returns(returns_path(curve.parent, "point", "default", 0))
    assert all((all_kept[number] == kept[number]).all() for number in kept)
    means = [float(returns.mean()) for returns in all_kept.values()]
    assert means == pytest.approx([row["used"] for row in read_curve(curve)], rel=1e-5)
    assert (tmp_path / "results" / "memory-learning-point-default.png").exists()


def test_a_blind_twin_is_told_nothing_and_judged_without_a_memory(tmp_path: Path) -> None:
    """Neither the replay nor a lane knows a task; its rewards are still those of all tasks."""
    told: list[Tensor] = []

    def listened(self: ActorCriticTraining, *drawn: Tensor) -> Batch:
        told.append(batches(self, *drawn).code)
        return batches(self, *drawn)

    batches = ActorCriticTraining.batches
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ActorCriticTraining, "batches", listened)
        assert run(tmp_path, "--seconds", "0.4", "--every", "0.4", "--blind").exit_code == 0
    assert told
    assert not torch.cat(told).any()
    (row,) = read_curve(tmp_path / "results" / "memory-learning-point-default-seed0.csv")
    assert {"off", "off_se", "fell"} <= row.keys()
    assert not {"used", "given", "other_rewards"} & row.keys()


def test_a_curve_whose_checkpoint_is_gone_is_not_overwritten(tmp_path: Path) -> None:
    curve = tmp_path / "results" / "memory-learning-point-default-seed0.csv"
    curve.parent.mkdir()
    curve.write_text("kept\n")
    refused = run(tmp_path, "--seconds", "0.4", "--every", "0.2")
    assert refused.exit_code == 2
    assert "move the curve away" in refused.output
    assert curve.read_text() == "kept\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--every", "0"], "0 < --every <= --seconds"),
        (["--every", "9", "--seconds", "3"], "0 < --every <= --seconds"),
        (["--knob", "meta.no_such=1"], "meta.no_such"),
        (["--knob", "meta.batch_size=0"], "meta.batch_size"),
    ],
)
def test_bad_input_is_one_line(flags: list[str], message: str, tmp_path: Path) -> None:
    refused = run(tmp_path, *flags)
    assert refused.exit_code == 2
    assert message in refused.output
    assert len(refused.output.splitlines()) == 1
    assert not (tmp_path / "results").exists()


def test_seeds_of_unequal_length_are_drawn_up_to_where_the_shortest_ends(tmp_path: Path) -> None:
    header = ",".join(COLUMNS)
    line = ",".join("1" for _ in COLUMNS)
    for seed, num_rows in enumerate((3, 2)):
        path = tmp_path / f"memory-learning-point-default-seed{seed}.csv"
        path.write_text("\n".join([header, *[line] * num_rows]) + "\n")
    assert draw("point", "default", tmp_path).stat().st_size > 1000
    assert len(over_seeds("point", "default", tmp_path)) == 2


def test_what_seeds_came_to_is_a_mean_with_an_interval_over_them(tmp_path: Path) -> None:
    for seed, used in enumerate((10.0, 12.0, 14.0)):
        path = tmp_path / f"memory-learning-point-default-seed{seed}.csv"
        path.write_text(f"cpu_seconds,env_steps,used,off,blind_return\n60,8000,{used},1,2\n")
    (line,) = over_seeds("point", "default", tmp_path)
    half = stats.t.ppf(0.975, 2) * 2.0 / 3.0**0.5
    assert line == (
        f"60 CPU s, 8,000 env steps, 3 seeds: used 12.00 [{12 - half:.2f}, {12 + half:.2f}], "
        "off 1.00, blind_return 2.00"
    )


def test_with_the_returns_on_each_task_the_interquartile_mean_is_over_seeds_and_tasks(
    tmp_path: Path,
) -> None:
    """Only where all seeds have kept them; each episode of a meta-episode is shown too."""
    rng = np.random.default_rng(0)
    returns = rng.normal(size=(3, 2, 8))  # (seeds, episodes, tasks)
    for seed, of_seed in enumerate(returns):
        path = tmp_path / f"memory-learning-point-default-seed{seed}.csv"
        path.write_text(f"cpu_seconds,env_steps,used\n60,80,{of_seed.mean()}\n90,99,0\n")
        write_returns(returns_path(tmp_path, "point", "default", seed), [of_seed])
    first, second = over_seeds("point", "default", tmp_path)
    scores = returns.mean(1)
    middle = stats.trim_mean(scores.ravel(), 0.25)
    low, high = crossed_interval(scores) or (0.0, 0.0)
    episodes = ", ".join(f"{mean:.2f}" for mean in returns.mean((0, 2)))
    assert first.endswith(
        f"; interquartile mean {middle:.2f} [{low:.2f}, {high:.2f}] over seeds and tasks, "
        f"by episode {episodes}"
    )
    assert "interquartile" not in second


@pytest.mark.parametrize("missing", ["rows", "returns", "cpu_seconds", "env_steps", "iterations"])
def test_the_checkpoint_of_another_command_is_refused_in_a_line(
    missing: str, tmp_path: Path
) -> None:
    assert run(tmp_path, "--seconds", "0.1", "--every", "0.1").exit_code == 0
    (path,) = (tmp_path / "checkpoints").glob("*.safetensors")
    saved = Checkpoint.load(path)
    others = {name: value for name, value in saved.progress.items() if name != missing}
    Checkpoint(saved.config, saved.tensors, others).save(path)
    curve = tmp_path / "results" / "memory-learning-point-default-seed0.csv"
    before = curve.read_text()
    refused = run(tmp_path, "--seconds", "0.2", "--every", "0.1")
    assert refused.exit_code == 2, refused.output
    (line,) = refused.output.splitlines()
    assert f"lacks `{missing}`: another program wrote it" in line
    assert curve.read_text() == before
