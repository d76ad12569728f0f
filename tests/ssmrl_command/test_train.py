"""``ssmrl train``: the folder that it leaves, going on, budgets, and what it refuses."""

import csv
import dataclasses
import json
import os
import signal
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

import ssmrl_command.train as command
from ssmrl.checkpoint import Checkpoint
from ssmrl.config import TrainConfig
from ssmrl.run import TrainingRun
from ssmrl.saved_policy import SavedPolicy
from ssmrl_command.app import app
from ssmrl_command.train_plan import TrainPlan, Wishes
from tuning.folder.interruption import exclusive

ROOT = Path(__file__).resolve().parents[2]
KNOBS = {
    "meta.num_lanes": 4,
    "meta.batch_size": 32,
    "meta.random_env_steps": 80,
    "meta.replay_env_steps": 400,
    "meta.actor_hidden_dim": 16,
    "meta.critic_hidden_dim": 16,
    "policy.hidden_dim": 16,
    "policy.state_dim": 8,
    "evaluation.num_tasks": 4,
}
SETS = [part for knob, value in KNOBS.items() for part in ("--set", f"{knob}={value}")]
WISHES = Wishes(task="point", knobs=tuple(SETS[1::2]), max_env_steps=480, num_evaluations=3)


def invoke(storage: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["train", "--storage", str(storage), *arguments])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A run to its end, with the line of JSON."""
    storage = tmp_path_factory.mktemp("runs")
    budget = ["--env-steps", "480", "--num-evaluations", "3"]
    result = invoke(storage, "--task", "point", *SETS, *budget, "--name", "whole", "--json")
    return storage / "whole", result


def test_leaves_plan_curve_policy_and_state(finished: tuple[Path, Result]) -> None:
    folder, result = finished
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout.splitlines()[-1])
    assert summary["env_steps"] == 480
    config = TrainConfig.for_task("point").with_knobs(KNOBS)
    kept = json.loads((folder / "config.json").read_text())
    assert kept["format"] == 2
    assert kept["config"] == config.knobs()
    with (folder / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["env_steps"]) for row in rows] == [160, 320, 480]
    assert float(rows[-1]["return"]) == summary["score"]
    assert float(rows[-1]["return_off"]) == summary["switched_off"]
    seconds = [float(row["cpu_seconds"]) for row in rows]
    assert 0.0 < seconds[0] < seconds[-1] <= summary["train_cpu_seconds"] + 1e-3
    assert summary["blind_return"] >= summary["no_adaptation_bound"] == -20.0
    policy = Checkpoint.load(folder / "policy.safetensors")
    assert not any("critic" in name or "optimizer" in name for name in policy.tensors)
    (whole,) = (folder / "checkpoints").glob("*.safetensors")
    judged = SavedPolicy.load(whole).params
    assert all(torch.equal(judged[n], v) for n, v in SavedPolicy.load(folder).params.items())


def test_says_on_stderr_what_the_replay_takes_and_what_training_saw(
    finished: tuple[Path, Result],
) -> None:
    _, result = finished
    assert "the replay takes up to" in result.stderr
    assert "training saw the hidden variable" in result.stderr
    assert len(result.stdout.splitlines()) == 1


def test_evaluate_repeats_the_last_score(finished: tuple[Path, Result]) -> None:
    folder, trained = finished
    result = CliRunner().invoke(app, ["evaluate", str(folder), "--json"])
    assert result.exit_code == 0, result.output
    score = json.loads(trained.stdout.splitlines()[-1])["score"]
    assert json.loads(result.stdout)["returns"]["0"] == pytest.approx(score, rel=1e-6)


def test_stopped_and_gone_on_is_as_if_undisturbed(
    finished: tuple[Path, Result], tmp_path: Path
) -> None:
    def say(line: str) -> None:
        said.append(line)
        if "held-out tasks after 160" in line:
            os.kill(os.getpid(), signal.SIGINT)

    said: list[str] = []
    settings: dict[str, Any] = {"num_threads": 1, "device": "cpu", "say": say}
    stopped = command.train(WISHES, tmp_path, "part", resume=False, **settings)
    assert stopped.exit_code == 130
    assert said[-1].endswith(f"ssmrl train --storage {tmp_path} --name part --resume")
    assert SavedPolicy.load(tmp_path / "part").config.seed == 0
    settings["say"] = said.append
    ended = command.train(Wishes(), tmp_path, "part", resume=True, **settings)
    assert ended.exit_code == 0
    wanted = SavedPolicy.load(finished[0]).params
    found = SavedPolicy.load(tmp_path / "part").params
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert any(line == "resumed after 160 env steps" for line in said)


def test_several_seeds_leave_what_each_leaves_alone(tmp_path: Path) -> None:
    """Stopped and gone on in between; then one of them is evaluated, and one goes on alone."""
    wishes = dataclasses.replace(WISHES, num_seeds=2, seed=3)

    def say(line: str) -> None:
        said.append(line)
        if "held-out tasks after 160" in line:
            os.kill(os.getpid(), signal.SIGINT)

    said: list[str] = []
    settings: dict[str, Any] = {"num_threads": 1, "device": "cpu", "say": say}
    stopped = command.train(wishes, tmp_path, "two", resume=False, **settings)
    assert stopped.exit_code == 130
    assert said[-1].endswith(f"ssmrl train --storage {tmp_path} --name two --resume")
    settings["say"] = said.append
    with (
        exclusive(tmp_path / "two" / "seed-4"),
        pytest.raises(command.RefusedError, match=r"another process .* in \S+/two$"),
    ):
        command.train(Wishes(), tmp_path, "two", resume=True, **settings)
    ended = command.train(Wishes(), tmp_path, "two", resume=True, **settings)
    assert ended.exit_code == 0
    assert any("seeds 3 to 4 at once, each: 480 env steps" in line for line in said)
    assert "resumed after 160 env steps" in said
    assert ended.summary is not None
    assert [each["seed"] for each in ended.summary["seeds"]] == [3, 4]
    scores = [each["score"] for each in ended.summary["seeds"]]
    assert ended.summary["score"] == pytest.approx(sum(scores) / 2)
    assert "mean of 2 seeds" in "\n".join(said)
    single = dataclasses.replace(WISHES, seed=4)
    alone = command.train(single, tmp_path, "alone", resume=False, **settings)
    assert alone.summary is not None
    assert scores[1] == pytest.approx(alone.summary["score"], rel=1e-4)
    folder = tmp_path / "two" / "seed-4"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in (tmp_path / "alone").iterdir()
    )
    assert SavedPolicy.load(folder).config.seed == 4
    longer = Wishes(max_env_steps=640)
    further = command.train(longer, tmp_path / "two", "seed-4", resume=True, **settings)
    assert further.summary is not None
    assert further.summary["env_steps"] == 640


def test_a_seed_that_diverges_is_named_and_the_exit_code_tells(tmp_path: Path) -> None:
    """Both do here; what one alone does to the others is shown where they learn."""
    said: list[str] = []
    wild = dataclasses.replace(
        WISHES, knobs=(*WISHES.knobs, "meta.learning_rate=1e30"), num_seeds=2
    )
    settings: dict[str, Any] = {"num_threads": 1, "device": "cpu", "say": said.append}
    outcome = command.train(wild, tmp_path, "wild", resume=False, **settings)
    assert outcome.exit_code == 1
    assert outcome.summary is not None
    assert outcome.summary["score"] is None
    assert "2 of 2 seeds diverged: 0, 1" in said[-1]
    assert sum(line.startswith("DIVERGED: seed") for line in said) == 2


def test_cpu_seconds_are_counted_without_evaluations_and_end_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With a clock that ticks once an iteration, 4.5 s end after the fifth."""
    ticks = iter(range(1000))
    monkeypatch.setattr("ssmrl.run.time.process_time", lambda: float(next(ticks)))
    config = TrainConfig.for_task("point").with_knobs(KNOBS)
    run = TrainingRun(config, max_cpu_seconds=4.5, folder=tmp_path, num_evaluations=3)
    while not run.advance().finished:
        pass
    assert run.row.iterations == 5
    assert run.row.train_cpu_seconds == 5.0
    assert run.row.curve_cpu_seconds == (2.0, 3.0, 5.0)
    again = TrainingRun(config, max_cpu_seconds=4.5, folder=tmp_path, num_evaluations=3)
    assert again.row.train_cpu_seconds == 5.0
    assert again.row.curve_cpu_seconds == run.row.curve_cpu_seconds


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "--task"),
        (["--task", "nowhere"], "unknown task 'nowhere'"),
        (["--task", "point", "--algorithm", "magic"], "algorithm"),
        (["--task", "point", "--method", "rnn"], "policy.method"),
        (["--task", "point", "--set", "meta.clip=0.1"], "unknown knob 'meta.clip'"),
        (["--task", "point", "--set", "meta.num_lanes"], "KNOB=VALUE"),
        (["--task", "point", "--set", "meta.num_lanes=two"], "meta.num_lanes"),
        (["--task", "point", "--set", "env.task=ant-vel"], "--task ant-vel"),
        (["--task", "point", "--env-steps", "0"], "max_env_steps"),
        (["--task", "point", "--seconds", "0"], "max_cpu_seconds"),
        (["--task", "point", "--seconds", "5", "--env-steps", "5"], "give exactly one of them"),
        (["--task", "point", "--num-evaluations", "0"], "num_evaluations"),
        (["--task", "point", "--seed", "-1"], "seed"),
        (["--task", "point", "--num-seeds", "0"], "--num-seeds"),
        (["--task", "point", "--num-seeds", "2", "--seconds", "5"], "--seconds"),
        (["--task", "point", "--num-seeds", "2", "--algorithm", "promp"], "'context-sac'"),
        (
            ["--task", "point", "--num-seeds", "2", "--set", "meta.num_inner_steps=1"],
            "meta.num_inner_steps",
        ),
        (["--task", "point", "--name", "../out"], "--name"),
        (["--task", "point", "--set", "meta.replay_env_steps=20"], "meta.replay_env_steps"),
        (["--task", "point", "--device", "tpu"], "--device"),
        (["--task", "point", "--device", "cuda:99"], "--device"),
        (["--resume"], "--name"),
        (["--resume", "--name", "nothing"], "no run to resume in"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2_before_any_work(
    tmp_path: Path, arguments: list[str], told: str
) -> None:
    result = invoke(tmp_path / "runs", *arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert told in line
    assert not (tmp_path / "runs").exists()


def test_a_run_that_is_there_is_neither_overwritten_nor_changed(
    finished: tuple[Path, Result],
) -> None:
    folder, _ = finished
    again = invoke(folder.parent, "--task", "point", "--name", folder.name)
    assert again.exit_code == 2
    assert "add --resume" in again.stderr
    changed = invoke(folder.parent, "--name", folder.name, "--resume", "--seed", "1")
    assert changed.exit_code == 2
    assert "leave out" in changed.stderr


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "1,000,000 env steps x 63 bytes = 60 MiB, and 59 MiB are available; lower `meta.rep"),
        (["--num-seeds", "4"], "4,000,000 env steps x 63 bytes = 240 MiB, and 59 MiB are avail"),
    ],
)
def test_a_replay_that_does_not_fit_is_refused_with_the_sum(
    flags: list[str], told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("ssmrl_command.train_start.available_memory", lambda: 59 * 2**20)
    result = invoke(tmp_path / "runs", "--task", "point", *flags)
    assert result.exit_code == 2
    assert told in result.stderr
    assert ("or --num-seeds" in result.stderr) is bool(flags)
    assert not (tmp_path / "runs").exists()


def test_a_method_without_memory_is_called_the_control(tmp_path: Path) -> None:
    arguments = ["--task", "point", "--method", "mlp", *SETS, "--env-steps", "80"]
    result = invoke(tmp_path, *arguments, "--num-evaluations", "1")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("this run is the control") == 1


def test_plans_are_read_back_as_they_were_written() -> None:
    plan = TrainPlan.of(WISHES)
    assert TrainPlan.from_json(plan.to_json(), "it") == plan
    several = dataclasses.replace(plan, num_seeds=3)
    assert TrainPlan.from_json(several.to_json(), "it") == several
    assert [own.config.seed for own in several.of_seeds()] == [0, 1, 2]
    longer = plan.resumed(Wishes(max_cpu_seconds=9.0))
    assert (longer.max_env_steps, longer.max_cpu_seconds) == (None, 9.0)
    with pytest.raises(ValueError, match="must hold"):
        TrainPlan.from_json('{"format": 2, "task": "point"}', "it")


def test_the_installed_command_is_this_one() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, name = scripts["ssmrl"].partition(":")
    assert getattr(import_module(module), name) is app


def test_a_storage_that_is_no_folder_of_this_machine_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["train", "--task", "point", "--storage", "s3://bucket/runs"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: `--storage` must be a folder")
    assert not list(tmp_path.iterdir())


def test_a_run_in_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a" / ".lock").mkdir(parents=True)
    plan = TrainPlan.of(WISHES)
    (tmp_path / "a" / "config.json").write_text(plan.to_json())
    result = invoke(tmp_path, "--name", "a", "--resume")
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr
    assert len(result.stderr.splitlines()) == 1
