"""The serious benchmark, tiny: two ways to one result, what survives a stop, what is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from cluster.session import session
from experiments.benchmark_result import REPORTED_STEPS, BenchmarkResult
from experiments.benchmark_run import BenchmarkRun
from experiments.benchmarks.learning_run import LearningRun
from experiments.serious_benchmark import app
from ssmrl.config import METHODS, TrainConfig
from ssmrl.device import CPU
from ssmrl.device_memory import DeviceMemoryError
from ssmrl.meta.diverged import DivergedError
from ssmrl.meta.initial_actor import initial_actor
from ssmrl.rollout.evaluate import Evaluation
from ssmrl.train import evaluate, train
from tests.experiments.tiny_results import tiny_config, tiny_result

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "task": "point",
    "method": "mlp",
    "epochs": 3,
    "hidden-dim": 8,
    "num-tasks": 3,
    "num-episodes": 4,
    "num-test-tasks": 5,
}


@pytest.fixture(scope="module", autouse=True)
def ray_session() -> Iterator[None]:
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    with session(num_cpus=1):
        yield
    torch.set_num_threads(usual)


@pytest.fixture(autouse=True)
def _in_the_running_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command would start a Ray of its own, which takes seconds."""
    monkeypatch.setattr("cluster.session.session", nullcontext)


def command(folder: Path, *words: str, **flags: object) -> Result:
    given = TINY | {name.replace("_", "-"): value for name, value in flags.items()}
    pairs = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    return CliRunner().invoke(app, [*pairs, "--output-dir", str(folder), *words])


def result_of(folder: Path, method: str = "mlp", seed: int = 0) -> BenchmarkResult:
    return BenchmarkResult.load(folder / f"result-point-{method}-seed{seed}.json")


def without_seconds(result: BenchmarkResult) -> list[tuple[float, float, float]]:
    return [(row["env_steps"], row["return_before"], row["return_after"]) for row in result.curve]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Path:
    """What an uninterrupted command leaves; tests work on copies."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cluster.session.session", nullcontext)
        done = command(folder)
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copied"))


def assert_refused(done: Result, reason: str) -> None:
    assert done.exit_code == 2, done.output
    assert reason in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


class TestTraining:
    def test_rllib_and_the_plain_loop_come_to_the_same_result(
        self, finished: Path, tmp_path: Path
    ) -> None:
        """With Ray, and in one process without it, which is the way of other devices."""
        other = torch.device("cpu:0")  # the same by another name
        run = BenchmarkRun(
            tiny_config(), num_iterations=3, preset=None, device=other, folder=tmp_path
        )
        assert not run.needs_ray
        plain, with_ray = run.train_and_test([], lambda line: None), result_of(finished)
        assert plain is not None
        assert without_seconds(plain) == without_seconds(with_ray)
        assert plain.task_returns == with_ray.task_returns
        assert plain.config == with_ray.config
        assert plain.device == "cpu:0"

    def test_what_is_written_is_what_training_and_evaluation_give(self, finished: Path) -> None:
        config, actor = tiny_config(), initial_actor(tiny_config())
        num_parameters = sum(value.numel() for value in actor.parameters())
        metrics = list(islice(train(config, actor), 3))
        evaluation = evaluate(config, actor, num_steps=5, draw=1)
        result = result_of(finished)
        assert without_seconds(result) == [
            (each.env_steps, each.return_before, each.return_after) for each in metrics
        ]
        assert result.num_parameters == num_parameters
        for k in REPORTED_STEPS:
            assert result.task_returns[k] == tuple(evaluation.task_returns[k])

    @pytest.mark.parametrize("separator", ["-", "_"])
    def test_flags_reach_the_configuration(
        self, separator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        configs = capture_runs(monkeypatch)
        flags = {"inner-lr": 0.2, "outer-lr": 0.01, "state-dim": 6, "method": "ssm", "epochs": 7}
        words = [f"--{name.replace('-', separator)}={value}" for name, value in flags.items()]
        done = command(tmp_path, *words, "--seed", "4", "--seed", "2", "--json")
        assert done.exit_code == 0, done.output
        wanted = {"meta.inner_lr": 0.2, "meta.outer_lr": 0.01, "policy.state_dim": 6}
        assert configs == [tiny_config("ssm", seed).with_knobs(wanted) for seed in (4, 2)]

    def test_all_means_every_method_under_the_preset(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        configs = capture_runs(monkeypatch)
        words = ["--task", "point", "--preset", "seed", "--output-dir", str(tmp_path)]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        assert [config.policy.method for config in configs] == list(METHODS)
        assert {config.policy.hidden_dim for config in configs} == {128}
        for method in METHODS:
            assert f"\n{method} " in done.stdout
        assert "no policy without adaptation exceeds -20.00" in done.stdout

    def test_json_is_what_the_file_holds(self, copied: Path) -> None:
        done = command(copied, "--resume", "--json")
        (printed,) = json.loads(done.stdout)["results"]
        assert printed == json.loads((copied / "result-point-mlp-seed0.json").read_text())
        assert printed["no_adaptation_bound"] == -20.0
        for row in printed["test"]:
            low, high = row["interquartile_mean_interval"]
            assert low <= row["interquartile_mean"] <= high
            assert row["mean"] == pytest.approx(np.mean(row["task_returns"]))

    def test_what_diverges_spares_the_others(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def diverge(run: BenchmarkRun) -> None:
            if run.name == "gru, seed 0":
                raise DivergedError("not finite")

        configs = capture_runs(monkeypatch, diverge)
        done = command(tmp_path, "--method", "all")
        assert done.exit_code == 1
        assert done.stderr.strip() == "gru, seed 0 diverged: not finite"
        assert {config.policy.method for config in configs} == set(METHODS) - {"gru"}
        assert "\nmlp " in done.stdout
        assert "\ngru " not in done.stdout

    @pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
    def test_an_absurd_step_size_ends_in_a_sentence_and_no_result(self, tmp_path: Path) -> None:
        done = command(tmp_path, inner_lr=1e30)
        assert done.exit_code == 1
        assert "mlp, seed 0 diverged: the meta-gradient" in done.stderr.splitlines()[-1]
        assert not list(tmp_path.glob("result-*"))

    def test_returns_that_are_not_finite_are_no_result(
        self, copied: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (copied / "result-point-mlp-seed0.json").unlink()
        returns = np.zeros((6, 5))
        returns[5, 3] = np.nan
        monkeypatch.setattr(
            "experiments.benchmark_run.evaluate", lambda *_, **__: Evaluation(returns, 0)
        )
        done = command(copied, "--resume")
        assert done.exit_code == 1
        assert "is nan after 5 adaptation steps" in done.stderr.splitlines()[-1]
        assert not list(copied.glob("result-*"))


def capture_runs(
    monkeypatch: pytest.MonkeyPatch, before: Callable[[BenchmarkRun], None] = lambda run: None
) -> list[TrainConfig]:
    """The configurations that are trained, without training them."""
    configs: list[TrainConfig] = []

    def train_and_test(run: BenchmarkRun, *_: object) -> BenchmarkResult:
        before(run)
        configs.append(run._config)
        return tiny_result(run._config)

    monkeypatch.setattr(BenchmarkRun, "train_and_test", train_and_test)
    return configs


class TestResume:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_stopped_command_goes_on_as_if_nothing_had_happened(
        self,
        number: signal.Signals,
        finished: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        before = signal.getsignal(number)
        advance = LearningRun.advance

        def advance_and_stop(run: LearningRun, env_steps: int) -> dict[str, float]:
            row = advance(run, env_steps)
            if len(run.rows) == 2:
                os.kill(os.getpid(), number)
            return row

        with monkeypatch.context() as patch:
            patch.setattr(LearningRun, "advance", advance_and_stop)
            stopped = command(tmp_path)
        assert stopped.exit_code == 128 + number
        assert "--resume" in stopped.stderr.splitlines()[-1]
        assert signal.getsignal(number) == before
        assert not list(tmp_path.glob("result-*"))
        resumed = command(tmp_path, "--resume")
        assert resumed.exit_code == 0, resumed.output
        assert "iteration 3/3" in resumed.stderr
        assert "iteration 2/3" not in resumed.stderr
        assert without_seconds(result_of(tmp_path)) == without_seconds(result_of(finished))
        assert result_of(tmp_path).task_returns == result_of(finished).task_returns

    def test_a_run_goes_on_on_another_device(
        self, finished: Path, copied: Path, tmp_path: Path
    ) -> None:
        """From the CPU's checkpoint, under another device's name, and the other way round."""
        straight = tmp_path / "straight"
        assert command(straight, epochs=5).exit_code == 0
        settings = {"num_iterations": 4, "preset": None, "folder": copied}
        other = BenchmarkRun(tiny_config(), device=torch.device("cpu:0"), **settings)
        assert other.earlier_result(resume=True) is None
        assert other.train_and_test([], lambda line: None) is not None
        done = command(copied, "--resume", epochs=5)
        assert done.exit_code == 0, done.output
        assert "iteration 4/5" not in done.stderr
        assert without_seconds(result_of(copied)) == without_seconds(result_of(straight))
        assert result_of(copied).task_returns == result_of(straight).task_returns
        assert json.loads((copied / "device.json").read_text())["device"] == "cpu"

    def test_what_has_no_room_spares_the_others(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fill(run: BenchmarkRun) -> None:
            if run.name == "gru, seed 0":
                raise DeviceMemoryError("out of memory on the device: 2 GiB more were wanted")

        configs = capture_runs(monkeypatch, fill)
        done = command(tmp_path, "--method", "all")
        assert done.exit_code == 1
        assert done.stderr.strip().startswith("gru, seed 0: out of memory on the device: 2 GiB")
        assert {config.policy.method for config in configs} == set(METHODS) - {"gru"}

    def test_what_is_finished_is_kept_and_the_rest_is_done(self, copied: Path) -> None:
        kept = (copied / "result-point-mlp-seed0.json").stat().st_mtime_ns
        done = command(copied, "--resume", "--seed", "0", "--seed", "1")
        assert done.exit_code == 0, done.output
        assert "mlp, seed 0: finished before" in done.stderr
        assert "mlp, seed 1: iteration 3/3" in done.stderr
        assert (copied / "result-point-mlp-seed0.json").stat().st_mtime_ns == kept
        first, second = result_of(copied, seed=0), result_of(copied, seed=1)
        assert without_seconds(first) != without_seconds(second)

    def test_more_epochs_go_on_from_the_finished_ones(
        self, copied: Path, finished: Path, tmp_path: Path
    ) -> None:
        straight = tmp_path / "straight"
        assert command(straight, epochs=5).exit_code == 0
        longer = command(copied, "--resume", epochs=5)
        assert longer.exit_code == 0, longer.output
        assert "iteration 4/5" in longer.stderr
        assert "iteration 3/5" not in longer.stderr
        assert without_seconds(result_of(copied)) == without_seconds(result_of(straight))
        assert result_of(copied).task_returns == result_of(straight).task_returns
        assert_refused(command(copied, "--resume"), "has 5 iterations")

    def test_nothing_is_overwritten_unasked(self, copied: Path) -> None:
        assert_refused(command(copied), "resume it with `--resume`")
        (copied / "result-point-mlp-seed0.json").unlink()
        assert_refused(command(copied), "curve-point-mlp-seed0.csv already")

    def test_other_settings_need_another_folder(self, copied: Path) -> None:
        done = command(copied, "--resume", "--inner-lr", "0.3")
        assert_refused(done, "meta.inner_lr 0.1 instead of 0.3")
        (copied / "result-point-mlp-seed0.json").unlink()
        assert_refused(command(copied, "--resume", "--inner-lr", "0.3"), "other settings")

    def test_damaged_files_are_named(self, copied: Path) -> None:
        path = copied / "result-point-mlp-seed0.json"
        path.write_bytes(path.read_bytes()[:-200])
        assert_refused(command(copied, "--resume"), f"{path} is not a whole result")
        path.unlink()
        (checkpoint,) = (copied / "checkpoints").glob("*.safetensors")
        checkpoint.write_bytes(checkpoint.read_bytes()[:-9])
        assert_refused(command(copied, "--resume"), str(checkpoint))

    def test_two_commands_do_not_train_the_same(self, tmp_path: Path) -> None:
        run = BenchmarkRun(
            tiny_config(), num_iterations=3, preset=None, device=CPU, folder=tmp_path
        )
        with run._restored().started():
            done = command(tmp_path)
        assert done.exit_code == 2
        assert "another process is training mlp, seed 0" in done.stderr


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"task": "halfcheetah-val"}, "halfcheetah-vel"),
        ({"method": "rnn"}, "all, ssm, lstm, gru, transformer, mlp"),
        ({"preset": "matched"}, "`--preset` gives the sizes"),
        ({"hidden-dim": 0}, "`policy.hidden_dim` must be at least 1"),
        ({"method": "ssm", "state-dim": 5}, "`policy.state_dim` must be even"),
        ({"num-episodes": 0}, "`meta.num_episodes` must be at least 1"),
        ({"inner-lr": -1.0}, "`meta.inner_lr` must be positive"),
        ({"device": "tpu"}, "cpu, cuda or cuda:N, but got 'tpu'"),
        ({"device": "cuda"}, "torch sees 0 CUDA devices"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(
    flags: dict[str, object], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.backends.cuda.is_built", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert_refused(command(tmp_path / "new", **flags), reason)
    assert not (tmp_path / "new").exists()


def test_an_unknown_preset_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    words = ["--task", "point", "--preset", "small", "--output-dir", str(tmp_path)]
    assert_refused(CliRunner().invoke(app, words), "seed, matched")


def test_the_file_runs_from_anywhere_without_shadowing_the_standard_library(
    tmp_path: Path,
) -> None:
    file = ROOT / "experiments" / "serious_benchmark.py"
    done = subprocess.run(
        [sys.executable, str(file), "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "--num-test-tasks" in done.stdout
