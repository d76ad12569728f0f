"""``ssmrl train --from``: a run that begins with saved networks, and what it refuses."""

import dataclasses
import hashlib
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import ssmrl_command.train as command
from ssmrl.checkpoint import Checkpoint
from ssmrl.config import TrainConfig
from ssmrl.rollout.evaluate import judge
from ssmrl.rollout.play import LocalCollector, Mode
from ssmrl.run import LocalEngine, TrainingRun
from ssmrl.saved_policy import SavedPolicy
from ssmrl.saved_start import SavedStart
from ssmrl_command.app import app
from ssmrl_command.train_plan import TrainPlan, Wishes
from ssmrl_command.train_start import START_FILE, Start

OF_MEMORY = (
    "meta.num_lanes=4",
    "meta.batch_size=32",
    "meta.random_env_steps=80",
    "meta.replay_env_steps=400",
    "meta.actor_hidden_dim=16",
    "meta.critic_hidden_dim=16",
    "policy.hidden_dim=16",
    "policy.state_dim=8",
    "evaluation.num_tasks=4",
)
OF_GRADIENT = (
    "meta.num_tasks=3",
    "meta.num_episodes=2",
    "policy.hidden_dim=16",
    "evaluation.num_tasks=4",
    "evaluation.num_episodes=2",
)
WISHES = {
    "context-sac": Wishes("point", "context-sac", knobs=OF_MEMORY, max_env_steps=240),
    "promp": Wishes("point", "promp", "mlp", knobs=OF_GRADIENT, max_env_steps=480),
}
SETTINGS: dict[str, Any] = {"num_threads": 1, "device": "cpu"}
KINDS = ("context-sac", "promp")


def whole(folder: Path) -> Path:
    (found,) = (folder / "checkpoints").glob("*.safetensors")
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of both kinds, by the algorithm's name."""
    storage = tmp_path_factory.mktemp("trained")
    for name in KINDS:
        outcome = command.train(WISHES[name], storage, name, resume=False, say=print, **SETTINGS)
        assert outcome.exit_code == 0
    return storage


def started(wishes: Wishes, storage: Path) -> Start:
    return Start.of(wishes, storage, "new", resume=False, **SETTINGS)


def tensors_of(start: Start) -> dict[str, Tensor]:
    assert isinstance(start.run, TrainingRun)
    start.run.save()
    return dict(Checkpoint.load(start.run.path).tensors)


def same(found: Any, wanted: Any) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[n], wanted[n]) for n in wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_checkpoint_gives_networks_and_moments(
    kind: str, trained: Path, tmp_path: Path
) -> None:
    file = whole(trained / kind)
    start = started(Wishes(checkpoint=file, seed=7), tmp_path)
    assert same(tensors_of(start), Checkpoint.load(file).tensors)
    assert any("optimizer" in name for name in tensors_of(start))
    assert isinstance(start.run, TrainingRun)
    assert (start.run.row.env_steps, start.run.row.iterations, start.run.row.curve) == (0, 0, ())
    assert not any("fresh" in line for line in start.announcement())
    assert start.plan.config.seed == 7
    assert start.plan.max_env_steps == 200_000


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_gives_its_networks_and_the_rest_is_fresh(
    kind: str, trained: Path, tmp_path: Path
) -> None:
    start = started(Wishes(checkpoint=trained / kind), tmp_path)
    found, saved = tensors_of(start), Checkpoint.load(trained / kind / "policy.safetensors")
    fresh = LocalEngine(start.plan.config).tensors()
    assert same({name: found[name] for name in saved.tensors}, saved.tensors)
    rest = fresh.keys() - saved.tensors.keys()
    assert same({name: found[name] for name in rest}, {name: fresh[name] for name in rest})
    assert (
        "critics and optimizer start fresh: the file holds the acting networks only"
        in start.announcement()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_it_plays_before_training_as_the_checkpoint_does(
    kind: str, trained: Path, tmp_path: Path
) -> None:
    saved = SavedPolicy.load(trained / kind)
    start = started(Wishes(checkpoint=trained / kind), tmp_path)
    assert isinstance(start.run, TrainingRun)
    params = SavedPolicy.of(start.run.policy(), tmp_path).params
    assert same(params, saved.params)
    played = [
        judge(saved.config, each, LocalCollector(saved.config), num_episodes=1, mode=Mode.USED)
        for each in (saved.params, params)
    ]
    assert played[0].mean_returns() == played[1].mean_returns()


def test_nothing_is_played_at_random_so_that_normalisation_stays(
    trained: Path, tmp_path: Path
) -> None:
    start = started(Wishes(checkpoint=trained / "context-sac"), tmp_path)
    assert start.plan.config.meta.random_env_steps == 0
    assert isinstance(start.run, TrainingRun)
    before = start.run.policy().tensors["networks.center"]
    start.run.advance()
    after = start.run.policy().tensors
    assert torch.equal(after["networks.center"], before)
    asked = Wishes(checkpoint=trained / "context-sac", knobs=("meta.random_env_steps=80",))
    again = Start.of(asked, tmp_path, "asked", resume=False, **SETTINGS)
    assert again.plan.config.meta.random_env_steps == 80


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_and_gone_on_without_the_original_is_as_if_undisturbed(
    kind: str, trained: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.safetensors"
    shutil.copyfile(whole(trained / kind), copy)
    digest = hashlib.sha256(copy.read_bytes()).hexdigest()
    wishes = Wishes(checkpoint=copy, max_env_steps=720, num_evaluations=3, seed=3)

    def say(line: str) -> None:
        said.append(line)
        if "held-out tasks after" in line:
            os.kill(os.getpid(), signal.SIGINT)

    said: list[str] = []
    settings = {**SETTINGS, "say": print}
    undisturbed = command.train(wishes, tmp_path, "all", resume=False, **settings)
    stopped = command.train(wishes, tmp_path, "part", resume=False, **(settings | {"say": say}))
    assert stopped.exit_code == 130
    assert said[1] == f"starts with the networks of {copy} (SHA-256 {digest[:12]})"
    copy.unlink()
    ended = command.train(Wishes(), tmp_path, "part", resume=True, **settings)
    assert (ended.exit_code, undisturbed.exit_code) == (0, 0)
    wanted = Checkpoint.load(whole(tmp_path / "all")).tensors
    assert same(Checkpoint.load(whole(tmp_path / "part")).tensors, wanted)
    plan = json.loads((tmp_path / "part" / "config.json").read_text())
    assert plan["from"] == {"path": str(copy), "sha256": digest}


def test_killed_before_its_first_checkpoint_it_begins_with_them_again(
    trained: Path, tmp_path: Path
) -> None:
    wishes = Wishes(checkpoint=trained / "promp", max_env_steps=480)
    command.train(wishes, tmp_path, "new", resume=False, say=print, **SETTINGS)
    folder = tmp_path / "new"
    shutil.rmtree(folder / "checkpoints")
    again = Start.of(Wishes(), tmp_path, "new", resume=True, **SETTINGS)
    assert isinstance(again.run, TrainingRun)
    saved = SavedPolicy.load(trained / "promp").params
    assert same(SavedPolicy.of(again.run.policy(), folder).params, saved)
    content = (folder / START_FILE).read_bytes()
    (folder / START_FILE).write_bytes(content[:-1])
    with pytest.raises(ValueError, match="must be the checkpoint that the run started"):
        Start.of(Wishes(), tmp_path, "new", resume=True, **SETTINGS)
    shutil.copyfile(whole(trained / "promp"), folder / START_FILE)
    with pytest.raises(ValueError, match="has SHA-256"):
        Start.of(Wishes(), tmp_path, "new", resume=True, **SETTINGS)


def test_another_task_of_the_same_sizes_brings_its_own_horizon(
    trained: Path, tmp_path: Path
) -> None:
    knobs = {"env.horizon": 7, "meta.inner_lr": 0.2, "policy.hidden_dim": 8}
    config = TrainConfig.for_task("halfcheetah-vel", "promp").with_knobs(knobs)
    tensors = LocalEngine(config).tensors()
    Checkpoint(config, tensors, {}).save(tmp_path / "policy.safetensors")
    other = SavedStart.load(tmp_path).configured({}, task="halfcheetah-dir")
    own = TrainConfig.for_task("halfcheetah-dir", "promp")
    assert other == dataclasses.replace(config, env=own.env)
    start = SavedStart.load(trained / "promp")
    assert start.configured({}, task="point") == start.checkpoint.config
    changed = start.configured({"env.horizon": 15, "meta.inner_lr": 0.3})
    assert (changed.env.horizon, changed.meta.inner_lr) == (15, 0.3)
    assert changed.evaluation.num_tasks == 4


@pytest.mark.parametrize(
    ("kind", "arguments", "told"),
    [
        ("promp", ["--task", "ant-vel"], "`env.task` must leave the networks"),
        ("promp", ["--algorithm", "e-maml"], "`algorithm` must be 'promp'"),
        ("promp", ["--method", "gru"], "`policy.method` must be 'mlp'"),
        ("promp", ["--set", "policy.hidden_dim=32"], "`policy.hidden_dim` must be 16"),
        ("promp", ["--num-seeds", "2"], "`--num-seeds` must be left out with --from"),
        ("promp", ["--resume", "--name", "promp"], "--from"),
        ("context-sac", ["--task", "ant-vel"], "`env.task` must leave the networks"),
        ("context-sac", ["--set", "meta.critic_hidden_dim=8"], "`meta.critic_hidden_dim` must be"),
        ("context-sac", ["--set", "meta.num_inner_steps=1"], "`meta.num_inner_steps` must leave"),
        ("context-sac", ["--set", "meta.clip=0.1"], "unknown knob 'meta.clip'"),
    ],
)
def test_other_networks_are_refused_in_one_line_before_anything_is_written(
    kind: str, arguments: list[str], told: str, trained: Path, tmp_path: Path
) -> None:
    storage = trained if "--resume" in arguments else tmp_path / "runs"
    given = ["train", "--storage", str(storage), "--from", str(trained / kind), *arguments]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert told in line
    assert not (tmp_path / "runs").exists()


def damaged(file: Path, folder: Path) -> Path:
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    (folder / "bad.safetensors").write_bytes(content)
    return folder / "bad.safetensors"


def foreign(file: Path, folder: Path) -> Path:
    (folder / "bad.safetensors").write_bytes(b"weights of something else")
    return folder / "bad.safetensors"


def lacking(file: Path, folder: Path) -> Path:
    saved = Checkpoint.load(file)
    tensors = {n: v for n, v in saved.tensors.items() if "critic" not in n}
    Checkpoint(saved.config, tensors, saved.progress).save(folder / "bad.safetensors")
    return folder / "bad.safetensors"


def absent(file: Path, folder: Path) -> Path:
    return folder


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (damaged, "SHA-256 does not fit"),
        (foreign, "not a complete checkpoint"),
        (lacking, "critic.flat is missing"),
        (absent, "there is no checkpoint at"),
    ],
)
def test_what_is_no_whole_checkpoint_is_refused_before_anything_is_written(
    broken: Any, told: str, trained: Path, tmp_path: Path
) -> None:
    path = broken(whole(trained / "context-sac"), tmp_path)
    storage = tmp_path / "runs"
    given = ["train", "--storage", str(storage), "--from", str(path)]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert told in line
    assert not storage.exists()


def test_plans_with_an_origin_are_read_back_as_they_were_written(trained: Path) -> None:
    plan = TrainPlan.of(Wishes(), SavedStart.load(trained / "promp"))
    assert plan.origin is not None
    assert TrainPlan.from_json(plan.to_json(), "it") == plan
    content = json.loads(plan.to_json())
    content["from"]["sha256"] = 3
    with pytest.raises(ValueError, match="a path and a SHA-256"):
        TrainPlan.from_json(json.dumps(content), "it")
    content["from"] = {"path": "a"}
    with pytest.raises(ValueError, match="a path and a SHA-256"):
        TrainPlan.from_json(json.dumps(content), "it")
