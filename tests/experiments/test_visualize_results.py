"""Figures and summary of made-up results: what they show, and what they refuse to mix."""

import dataclasses
import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from typer.testing import CliRunner

from experiments import plots, serious_benchmark
from experiments.benchmark_result import REPORTED_STEPS, BenchmarkResult
from experiments.benchmark_run import BenchmarkRun
from experiments.plots import Band, interval_bars, interval_lines
from experiments.visualize_results import FIGURES, app, read_results, summary
from ssmrl.config import METHODS, TrainConfig
from ssmrl.models.presets import preset

ROOT = Path(__file__).resolve().parents[2]


def made_up(
    method: str = "mlp",
    seed: int = 0,
    *,
    task: str = "point",
    level: float = -15.0,
    spread: float = 1.0,
    num_iterations: int = 4,
    **knobs: object,
) -> BenchmarkResult:
    """The mean return after ``k`` adaptation steps is ``level + k``."""
    config = TrainConfig.for_task(task, "promp").with_knobs(
        {"policy.method": method, "seed": seed, "policy.hidden_dim": 16, **knobs}
    )
    rng = np.random.default_rng([seed, METHODS.index(method)])
    curve = [
        {
            "env_steps": 100.0 * number,
            "return_before": float(rng.normal(-20.0)),
            "return_after": float(rng.normal(-18.0)),
            "seconds": 0.25,
        }
        for number in range(1, num_iterations + 1)
    ]
    num_tasks = config.evaluation.num_tasks
    noise = rng.normal(size=num_tasks)
    noise = spread * (noise - noise.mean())
    return BenchmarkResult(
        config=config,
        preset=None,
        device="cpu",
        num_parameters=1234,
        curve=tuple(curve),
        task_returns={k: tuple((level + k + noise).tolist()) for k in REPORTED_STEPS},
    )


def write(folder: Path, *results: BenchmarkResult) -> Path:
    folder.mkdir(exist_ok=True)
    for result in results:
        env, seed = result.config.env, result.config.seed
        result.save(folder / f"result-{env.task}-{result.method}-seed{seed}.json")
    return folder


def visualize(folder: Path, *words: str) -> Result:
    output = folder.parent / "figures"
    return CliRunner().invoke(
        app, ["--results-dir", str(folder), "--output-dir", str(output), *words]
    )


def assert_refused(done: Result, reason: str) -> None:
    assert done.exit_code == 2, done.output
    assert reason in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


class TestFigures:
    def test_three_figures_below_300_kb_and_a_summary(self, tmp_path: Path) -> None:
        results = [made_up(m, seed, num_iterations=60) for m in METHODS for seed in range(3)]
        folder = write(tmp_path / "results", *results)
        before = sorted(folder.iterdir())
        done = visualize(folder)
        assert done.exit_code == 0, done.output
        written = {path.name: path for path in (tmp_path / "figures").iterdir()}
        assert written.keys() == {*(f"{name}.png" for name in FIGURES), "summary.md"}
        for name in FIGURES:
            assert written[f"{name}.png"].read_bytes().startswith(b"\x89PNG")
            assert written[f"{name}.png"].stat().st_size < 300_000
            assert f"]({name}.png)" in written["summary.md"].read_text()
        assert sorted(folder.iterdir()) == before

    def test_figures_go_beside_the_results_by_default(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "results", made_up(num_iterations=1))
        assert CliRunner().invoke(app, ["--results_dir", str(folder)]).exit_code == 0
        assert (folder / "adaptation_curves.png").is_file()

    @pytest.mark.parametrize("bound", [-20.0, None])
    @pytest.mark.parametrize("kind", ["lines", "bars"])
    def test_ends_of_intervals_and_bound_are_drawn_where_they_are(
        self, kind: str, bound: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        drawn: list[Axes] = []

        def saved(figure: Figure, axes: Axes, path: Path, title: str) -> Path:
            drawn.append(axes)
            return path

        monkeypatch.setattr(plots, "_saved", saved)
        bands = [
            Band("a", [0, 1, 3], [1.0, 2.0, 3.0], [0.5, 1.0, 2.5], [1.25, 2.5, 6.0]),
            Band("b", [0, 1, 3], [4.0, 5.0, 6.0], [4.0, 4.5, 5.0], [4.5, 5.5, 8.0]),
        ]
        settings = {"title": "t", "bound": bound, "y_label": "y"}
        if kind == "lines":
            interval_lines(tmp_path / "f.png", bands, x_label="x", **settings)
        else:
            interval_bars(tmp_path / "f.png", bands, groups=["p", "q", "r"], **settings)
        (axes,) = drawn
        _, labels = axes.get_legend_handles_labels()
        for band, container in zip(bands, error_bars(axes), strict=True):
            segments = [segment[:, 1].tolist() for segment in container]
            assert segments == [list(ends) for ends in zip(band.low, band.high, strict=True)]
            assert band.name in labels
        levels = [line.get_ydata() for line in axes.lines if line.get_linestyle() == "--"]
        assert levels == ([] if bound is None else [[bound, bound]])


def error_bars(axes: Axes) -> list[list[np.ndarray]]:
    """The vertical segments of each set of error bars."""
    return [collection.get_segments() for collection in axes.collections]


class TestSummary:
    def test_numbers_are_those_of_the_files(self, tmp_path: Path) -> None:
        results = [made_up("gru", seed, level=-10.0 + seed) for seed in (0, 1, 5)]
        folder = write(tmp_path / "results", *results)
        done = visualize(folder, "--json")
        assert done.exit_code == 0, done.output
        printed = json.loads(done.stdout)
        assert (printed["task"], printed["no_adaptation_bound"]) == ("point", -20.0)
        assert all(Path(path).is_file() for path in printed["files"])
        (row,) = printed["methods"]
        assert (row["method"], row["num_parameters"], row["seeds"]) == ("gru", 1234, [0, 1, 5])
        assert (row["env_steps"], row["seconds"]) == (400, 1.0)
        for k in (0, 1, 3):
            values = np.sort([value for each in results for value in each.task_returns[k]])
            found = row[f"return_{k}"]
            assert found["middle"] == pytest.approx(values[15:-15].mean()), "a quarter of 60"
            assert found["low"] < found["middle"] < found["high"]
        every = [value for each in results for value in each.task_returns[1]]
        assert row["mean_return_1"]["middle"] == pytest.approx(np.mean(every))
        text = (tmp_path / "figures" / "summary.md").read_text()
        cell = "{middle:.2f} [{low:.2f}, {high:.2f}]".format(**row["return_3"])
        assert "| gru | 1,234 | 3 | 400 | " in text
        assert f"| {cell} |" in text
        assert "without adaptation: -20.00" in text

    @pytest.mark.parametrize(
        ("level", "spread", "verdict"),
        [
            (-20.5, 0.5, "above"),
            (-21.5, 0.5, "below"),
            (-20.5, 8.0, "not told apart"),
            (-21.5, 8.0, "not told apart"),
        ],
    )
    def test_the_verdict_goes_by_the_interval_of_the_mean(
        self, level: float, spread: float, verdict: str, tmp_path: Path
    ) -> None:
        """One step adds one; the bound of ``point`` is -20."""
        folder = write(tmp_path / "results", made_up(level=level, spread=spread))
        assert f"| {verdict} |" in summary(read_results(folder), folder)

    def test_no_bound_is_made_up(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "results", made_up(task="ant-mass"))
        text = summary(read_results(folder), folder)
        assert "without adaptation: none is known" in text
        assert "| no bound is known |" in text

    def test_methods_stand_in_one_order_and_seeds_in_theirs(self, tmp_path: Path) -> None:
        results = [made_up(m, seed) for m in reversed(METHODS) for seed in (10, 9)]
        methods = read_results(write(tmp_path / "results", *results))
        assert [each.method for each in methods] == list(METHODS)
        assert [r.config.seed for r in methods[0].results] == [9, 10]

    def test_what_was_stopped_or_diverged_is_named(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "results", made_up("mlp", 0))
        for name in ("point-mlp-seed0", "point-lstm-seed7", "ant-vel-ssm-seed0"):
            (folder / f"curve-{name}.csv").write_text("env_steps\n")
        text = summary(read_results(folder), folder)
        assert "not in the table: lstm with seed 7." in text

    def test_its_commands_make_the_same_results_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Provenance: from the summary through the command line to the configuration."""
        knobs = {
            "policy.state_dim": 6,
            "meta.num_tasks": 7,
            "meta.num_episodes": 3,
            "meta.inner_lr": 0.25,
            "meta.outer_lr": 0.002,
            "evaluation.num_tasks": 8,
            "evaluation.num_episodes": 3,
        }
        by_width = made_up("ssm", 3, **knobs)
        sizes = preset("matched", "gru", 2, 2)
        by_preset = made_up("gru", 4, **knobs)
        by_preset = dataclasses.replace(
            by_preset,
            config=dataclasses.replace(by_preset.config, policy=sizes),
            preset="matched",
        )
        again: list[TrainConfig] = []

        def run_all(runs: list[BenchmarkRun], _: object) -> tuple[list[object], list[str]]:
            again.extend(run._config for run in runs)
            assert [(run._num_iterations, str(run._device)) for run in runs] == [(4, "cpu")]
            return [], []

        monkeypatch.setattr(serious_benchmark, "run_all", run_all)
        folder = write(tmp_path / "a folder", by_width, by_preset)
        start = "python -m experiments.serious_benchmark "
        for line in summary(read_results(folder), folder).splitlines():
            if line.startswith(start):
                *words, given = shlex.split(line.removeprefix(start))
                assert given == str(folder)
                repeated = CliRunner().invoke(serious_benchmark.app, [*words, f"{given}/new"])
                assert repeated.exit_code == 0, repeated.output
        assert again == [by_width.config, by_preset.config]


class TestRefusals:
    def test_a_folder_without_results(self, tmp_path: Path) -> None:
        assert_refused(visualize(tmp_path / "missing"), "there is no result in")
        assert_refused(visualize(write(tmp_path / "empty")), "there is no result in")
        assert not (tmp_path / "figures").exists()

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
    def test_a_torn_file_is_named(self, share: float, tmp_path: Path) -> None:
        folder = write(tmp_path / "results", made_up("ssm"), made_up("mlp"))
        path = folder / "result-point-ssm-seed0.json"
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        assert_refused(visualize(folder), f"{path} is not a whole result")
        assert not (tmp_path / "figures").exists()

    def test_a_file_of_other_bytes_is_named(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "results")
        (folder / "result-x.json").write_bytes(b"\xff\xfe\x00")
        assert_refused(visualize(folder), "result-x.json is not a whole result")

    def test_one_of_several_tasks_must_be_chosen(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "results", made_up(), made_up("gru", task="ant-vel"))
        assert_refused(visualize(folder), "choose one with `--task`: ['ant-vel', 'point']")
        assert_refused(visualize(folder, "--task", "humanoid"), "only of ['ant-vel', 'point']")
        chosen = visualize(folder, "--task", "ant-vel")
        assert chosen.exit_code == 0, chosen.output
        assert "| gru |" in chosen.stdout
        assert "| mlp |" not in chosen.stdout

    @pytest.mark.parametrize(
        ("other", "knob"),
        [
            (made_up("mlp", 1, **{"policy.hidden_dim": 32}), "policy.hidden_dim"),
            (made_up("mlp", 1, num_iterations=5), "epochs"),
            (made_up("gru", 0, **{"meta.inner_lr": 0.2}), "meta.inner_lr"),
            (made_up("gru", 0, **{"evaluation.num_episodes": 2}), "evaluation.num_episodes"),
        ],
    )
    def test_what_was_made_with_other_settings_is_not_mixed(
        self, other: BenchmarkResult, knob: str, tmp_path: Path
    ) -> None:
        folder = write(tmp_path / "results", made_up("mlp", 0), other)
        assert_refused(visualize(folder), f"differ in {knob};")

    def test_methods_may_differ_in_their_sizes(self, tmp_path: Path) -> None:
        other = made_up("gru", 0, **{"policy.hidden_dim": 32})
        methods = read_results(write(tmp_path / "results", made_up("mlp", 0), other))
        assert [each.method for each in methods] == ["gru", "mlp"]

    def test_a_seed_counts_once(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "results", made_up())
        made_up().save(folder / "result-copy.json")
        assert_refused(visualize(folder), "two results of mlp with seed 0")

    def test_figures_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "figures").write_text("a file")
        assert_refused(visualize(write(tmp_path / "results", made_up())), "figures")


def test_the_file_runs_from_anywhere_without_shadowing_the_standard_library(
    tmp_path: Path,
) -> None:
    folder = write(tmp_path / "results", made_up(num_iterations=2))
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "experiments" / "visualize_results.py"),
            "--results-dir",
            "results",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "summary.md").is_file()
