"""Pictures: Gymnasium's own to the last pixel where a renderer is, and a plain word elsewhere."""

import ctypes.util
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from ssmrl.envs.gymnasium_env import TaskEnv, TaskVectorEnv
from ssmrl.envs.registration import gymnasium_id
from tests.ssmrl.envs.draw import TWINS

ROOT = Path(__file__).resolve().parents[3]
LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}
SIZE = (480, 480, 3)


def renderer() -> str | None:
    """What draws without a display on this machine, if anything does."""
    asked = os.environ.get("MUJOCO_GL")
    if asked in LIBRARIES:
        return asked
    return next((name for name, lib in LIBRARIES.items() if ctypes.util.find_library(lib)), None)


needs_renderer = pytest.mark.skipif(
    renderer() is None, reason="no renderer: install libegl1 and libgl1-mesa-dri, or libosmesa6"
)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, np.ndarray]:
    output = tmp_path_factory.mktemp("frames") / "frames.npz"
    command = [sys.executable, "-m", "tests.ssmrl.envs.draw", str(output)]
    subprocess.run(
        command, cwd=ROOT, env=os.environ | {"MUJOCO_GL": str(renderer())}, check=True, timeout=200
    )
    return dict(np.load(output))


@needs_renderer
@pytest.mark.parametrize("family", TWINS)
def test_a_robot_is_drawn_as_gymnasium_draws_it(
    family: str, frames: Mapping[str, np.ndarray]
) -> None:
    drawn = frames[family]
    assert drawn.shape == SIZE
    assert drawn.dtype == np.uint8
    assert np.array_equal(drawn, frames[f"{family} twin"])
    assert (drawn != frames[f"{family} start"]).any(), "it has moved"


@needs_renderer
def test_each_of_many_simulations_is_drawn_as_one_alone(frames: Mapping[str, np.ndarray]) -> None:
    assert frames["many"].shape == (3, *SIZE)
    assert np.array_equal(frames["many"][0], frames["halfcheetah-vel"])
    assert (frames["many"][1] != frames["many"][0]).any()
    assert np.array_equal(frames["copy"][0], frames["halfcheetah-vel start"])


def test_a_point_is_drawn_without_a_renderer_and_without_its_goal() -> None:
    pictures = []
    for goal in ((1.0, 0.0), (0.0, -1.0)):
        env = TaskEnv("point", render_mode="rgb_array")
        env.reset(seed=0, options={"parameters": goal})
        for _ in range(5):
            env.step(np.array([1.0, 0.0]))
        picture = env.render()
        assert picture is not None
        assert picture.shape == SIZE
        assert picture.dtype == np.uint8
        pictures.append(picture)
    rows, columns = np.nonzero((pictures[0] == 0).all(axis=-1))
    # Half a unit to the right of the middle, of 1.5 on either side.
    assert rows.mean() == pytest.approx(239.5, abs=1.0)
    assert columns.mean() == pytest.approx(239.5 * (1 + 0.5 / 1.5), abs=1.0)
    assert np.array_equal(pictures[0], pictures[1]), "a hidden task would show"


def test_nothing_is_drawn_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(gymnasium.logger, "warn", said.append)
    for env in (TaskEnv("point"), TaskVectorEnv(2, "point")):
        env.reset(seed=0)
        assert env.render() is None
    assert said == ["nothing is drawn; make the environment with render_mode='rgb_array'"] * 2


def test_a_picture_before_the_first_reset_or_after_the_end_is_refused() -> None:
    for env in (
        TaskEnv("point", render_mode="rgb_array"),
        TaskVectorEnv(2, "point", render_mode="rgb_array"),
    ):
        with pytest.raises(gymnasium.error.ResetNeeded, match="before its first `render`"):
            env.render()
        env.reset(seed=0)
        assert env.render() is not None
        env.close()
        env.close()
        with pytest.raises(gymnasium.error.ClosedEnvironmentError):
            env.render()


def test_a_window_is_refused_with_the_reason() -> None:
    doors: list[Any] = [
        lambda **given: gymnasium.make_vec(gymnasium_id("point"), 2, **given),
        lambda **given: TaskEnv("point", **given),
    ]
    for make in doors:
        with pytest.raises(ValueError, match="`render_mode` 'human' needs a window, which this"):
            make(render_mode="human")


@pytest.mark.skipif(find_spec("pygame") is not None, reason="pygame is installed and opens one")
def test_the_window_of_gymnasiums_make_says_what_it_lacks() -> None:
    with pytest.warns(UserWarning, match="HumanRendering wrapper is being applied"):
        env = gymnasium.make(gymnasium_id("point"), render_mode="human")
    with pytest.raises(gymnasium.error.DependencyNotInstalled, match="pygame is not installed"):
        env.reset(seed=0)


@pytest.mark.skipif(
    bool(os.environ.get("MUJOCO_GL") or os.environ.get("DISPLAY")), reason="there may be a renderer"
)
@pytest.mark.skipif(sys.platform != "linux", reason="others draw without a display")
def test_without_a_renderer_pictures_are_refused_each_time() -> None:
    """MuJoCo itself ends the process when it is asked a second time."""
    for _ in range(3):
        for make in (gymnasium.make, gymnasium.make_vec):
            with pytest.raises(RuntimeError, match="pictures need a renderer") as e:
                make(gymnasium_id("halfcheetah-vel"), render_mode="rgb_array")
            assert "there is no display" in str(e.value)
            assert "set MUJOCO_GL=egl or MUJOCO_GL=osmesa" in str(e.value)
