"""``ssmrl render`` and ``ssmrl adapt``: what they leave and print, and what they refuse."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from ssmrl.checkpoint import Checkpoint
from ssmrl.config import TrainConfig
from ssmrl.meta.initial_actor import initial_actor
from ssmrl.saved_policy import SavedPolicy
from ssmrl_command.app import app
from tests.ssmrl.envs.test_rendering import needs_renderer, renderer
from tests.ssmrl_command.test_train import SETS

ROOT = Path(__file__).resolve().parents[2]
GOAL = "0.6,0.8"

needs_video = pytest.mark.skipif(
    find_spec("imageio_ffmpeg") is None or find_spec("PIL") is None,
    reason='no video encoder: pip install "ssmrl[render]"',
)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def trained(storage: Path, task: str, *arguments: str) -> Path:
    budget = ["--env-steps", "160", "--num-evaluations", "1", "--name", task]
    result = invoke("train", "--storage", str(storage), "--task", task, *SETS, *budget, *arguments)
    assert result.exit_code == 0, result.output
    return storage / task


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("runs"), "point")


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("runs"), "halfcheetah-vel", "--set", "env.horizon=8")


@pytest.fixture(scope="module")
def gradient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("promp")
    knobs = {"policy.method": "mlp", "policy.hidden_dim": 8, "evaluation.num_episodes": 1}
    config = TrainConfig.for_task("point", "promp").with_knobs(knobs)
    tensors = {f"actor.{k}": v for k, v in initial_actor(config).state_dict().items()}
    Checkpoint(config, tensors, {}).save(folder / "checkpoint.safetensors")
    return folder


def frames_of(path: Path) -> np.ndarray:
    """All frames of a video, ``(T, H, W, 3)``."""
    if path.suffix == ".gif":
        from PIL import Image, ImageSequence

        with Image.open(path) as image:
            return np.stack([np.asarray(f.convert("RGB")) for f in ImageSequence.Iterator(image)])
    import imageio.v2 as imageio

    with imageio.get_reader(path) as reader:
        return np.stack([np.asarray(frame) for frame in reader])


def check_frames(frames: np.ndarray, num: int, size: int) -> None:
    assert frames.shape == (num, size + size // 4, 2 * size, 3)
    pictures = frames[:, :size].astype(int)
    assert np.abs(pictures[0] - pictures[-1]).max() > 50, "something has moved"
    halves = np.abs(pictures[..., :size, :] - pictures[..., size:, :])
    assert halves[:, :, 8:-8].max() > 50, "what adapts does something else"


@needs_video
@pytest.mark.parametrize(("name", "size"), [("render.mp4", 480), ("small.gif", 240)])
def test_a_point_is_filmed_without_a_renderer(memory: Path, name: str, size: int) -> None:
    """A frame for each of the 20 env steps; by default an MP4 beside the checkpoint."""
    named = [] if name == "render.mp4" else ["--output", str(memory / name), "--size", str(size)]
    result = invoke("render", str(memory), "--task-parameters", GOAL, *named)
    assert result.exit_code == 0, result.output
    check_frames(frames_of(memory / name), 20, size)
    assert "point: the task 0.6, 0.8" in result.stdout
    assert f"20 frames, 20/s: {memory / name}" in result.stdout
    assert [p.name for p in memory.glob(".*") if p.name != ".lock"] == [], "nothing half written"


@needs_video
def test_the_returns_of_a_video_are_those_that_adapt_prints(gradient: Path) -> None:
    """By gradient the left half is the first episode, the right one the last, of the same lanes."""
    flags = ["--task-parameters", GOAL, "--seed", "4", "--episodes", "3", "--json"]
    output = str(gradient / "x.gif")
    rendered = invoke("render", str(gradient), *flags, "--size", "240", "--output", output)
    assert rendered.exit_code == 0, rendered.output
    shots = json.loads(rendered.stdout)["shots"]
    assert [shot["title"] for shot in shots] == ["before adaptation", "after 2 adaptation steps"]
    printed = json.loads(invoke("adapt", str(gradient), *flags).stdout)["returns"]
    wanted = [printed["0"], printed["2"]]
    assert [shot["return"] for shot in shots] == pytest.approx(wanted, rel=1e-5)
    assert wanted[0] != wanted[1]


@needs_video
@needs_renderer
def test_a_robot_is_filmed(robot: Path) -> None:
    command = [sys.executable, "-m", "ssmrl_command", "render", str(robot), "--size", "240"]
    finished = subprocess.run(
        [*command, "--task-parameters", "2.0"],
        cwd=ROOT,
        env=os.environ | {"MUJOCO_GL": str(renderer())},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    check_frames(frames_of(robot / "render.mp4"), 8, 240)


def test_without_a_renderer_one_line_says_what_to_install(
    robot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "disable")
    result = invoke("render", str(robot))
    assert result.exit_code == 2
    assert result.stdout == ""
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: pictures need a renderer, but with MUJOCO_GL='disable'")
    assert "libegl1 and libgl1-mesa-dri, or libosmesa6" in last


def test_a_renderer_that_is_asked_for_and_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MuJoCo could not even be imported then, which is why no other command goes on either."""
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    monkeypatch.setattr("ssmrl_command.renderer._is_installed", lambda name: False)
    for command in (["render", str(tmp_path)], ["list", "families"]):
        result = invoke(*command)
        assert result.exit_code == 2
        assert result.stderr.startswith("error: MUJOCO_GL=osmesa needs the package libosmesa6")


def test_a_renderer_that_mujoco_does_not_know_is_refused_in_a_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "software")
    result = invoke("train", "--task", "ant-vel")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "error: MUJOCO_GL='software' is not a renderer of MuJoCo; set it to egl, osmesa, glfw or "
        "disable, or unset it\n"
    )


def test_an_encoder_that_is_missing_is_named(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssmrl.video.writer.find_spec", lambda name: None)
    result = invoke("render", str(memory))
    assert result.exit_code == 2
    assert result.stderr == (
        "error: a video .mp4 needs PIL, imageio, imageio_ffmpeg, which is not installed; run pip "
        'install "ssmrl[render]"\n'
    )


@pytest.mark.parametrize("command", ["render", "adapt"])
@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1", "must be the 2 hidden variables of a task of point"),
        ("1,2,3", "must be the 2 hidden variables of a task of point"),
        ("0.6,nan", "`parameters` must be finite"),
        ("0.6;0.8", "must be numbers separated by commas"),
        ("", "must be numbers separated by commas"),
    ],
)
def test_wrong_parameters_are_refused(
    memory: Path, command: str, text: str, complaint: str
) -> None:
    result = invoke(command, str(memory), "--task-parameters", text)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--output", "x.avi"], "a video must be named .mp4 or .gif"),
        (["--output", "no/such/x.gif"], "there is no folder no/such"),
        (["--output", "x.gif", "--size", "250"], "must be a multiple of 8 from 240 to 480"),
    ],
)
def test_a_video_that_cannot_be_is_refused(
    memory: Path, arguments: list[str], complaint: str
) -> None:
    result = invoke("render", str(memory), *arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["render", "adapt"])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, command: str) -> None:
    (tmp_path / "text.safetensors").write_text("nothing")
    for path in (tmp_path / "text.safetensors", tmp_path / "none", tmp_path):
        result = invoke(command, str(path))
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1


def test_adapt_prints_each_episode_with_the_one_task(memory: Path) -> None:
    result = invoke("adapt", str(memory), "--task-parameters", GOAL, "--episodes", "2")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "point: the task 0.6, 0.8, seed 0"
    assert [line.strip() for line in lines if line.startswith("  memory")] == [
        "memory used",
        "memory switched off",
    ]
    assert sum("episode 2" in line for line in lines) == 3
    assert not any("exceeds" in line or "blind" in line for line in lines), "bounds of no one task"


def test_a_task_that_is_not_given_is_drawn_with_the_seed(memory: Path) -> None:
    first, again, other = (
        json.loads(invoke("adapt", str(memory), "--seed", seed, "--json").stdout)["parameters"]
        for seed in ("1", "1", "2")
    )
    assert first == again != other
    assert np.linalg.norm(first) == pytest.approx(1.0)
    said = invoke("adapt", str(memory), "--seed", "1").stdout.splitlines()[0]
    assert said == "the task was drawn from the test distribution with --seed 1"


def test_the_adapted_policy_is_saved_after_the_steps_that_were_printed(
    gradient: Path, tmp_path: Path
) -> None:
    save = tmp_path / "adapted.safetensors"
    flags = ["--task-parameters", GOAL, "--episodes", "3"]
    result = invoke("adapt", str(gradient), *flags, "--save", str(save), "--json")
    assert result.exit_code == 0, result.output
    before, adapted = SavedPolicy.load(gradient), SavedPolicy.load(save)
    assert adapted.config == before.config
    assert any((adapted.params[k] != before.params[k]).any() for k in before.params)
    assert Checkpoint.load(save).progress == {"adapted_to": [0.6, 0.8], "adaptation_steps": 2}
    assert invoke("evaluate", str(save), "--num-tasks", "2").exit_code == 0
    flags = ["--task-parameters", GOAL, "--episodes", "4", "--save", str(save)]
    assert invoke("adapt", str(gradient), *flags).exit_code == 0
    third = SavedPolicy.load(save).params
    assert any((third[k] != adapted.params[k]).any() for k in third), "one step more"


def test_a_memory_has_no_adapted_weights_to_save(memory: Path, tmp_path: Path) -> None:
    save = tmp_path / "adapted.safetensors"
    result = invoke("adapt", str(memory), "--save", str(save))
    assert result.exit_code == 2
    assert "only a policy that adapts by gradient can be saved" in result.stderr
    assert not save.exists()
