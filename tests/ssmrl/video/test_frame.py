"""What is drawn of a task: its words, its bar, and a half that ended before the other."""

import zlib

import numpy as np
import pytest

from ssmrl.envs.families import get_family
from ssmrl.video.meter import meter_of
from ssmrl.video.shot import Shot

pytest.importorskip("PIL", reason='pip install "ssmrl[render]"')

from ssmrl.video.frame import Frames

SIDE = 240


@pytest.mark.parametrize(
    ("name", "parameters", "achieved", "words", "shown", "target"),
    [
        ("ant-vel", [2.0], [1.2, 9.0], "target velocity 2.00 m/s", "velocity 1.20 m/s", 2.0),
        ("halfcheetah-dir", [-1.0], [1.5], "direction -1", "velocity along it -1.50 m/s", None),
        ("ant-dir-2d", [0.6, 0.8], [1.0, 1.0], "direction (0.60, 0.80)", "it 1.40 m/s", None),
        ("point", [0.0, 1.0], [0.0, 0.25], "goal (0.00, 1.00)", "distance 0.75", 0.0),
        ("hopper-gravity", [1.5], [0.5], "gravity x 1.5", "velocity 0.50 m/s", None),
    ],
)
def test_words_and_bar_say_what_the_family_pays_for(
    name: str,
    parameters: list[float],
    achieved: list[float],
    words: str,
    shown: str,
    target: float | None,
) -> None:
    family = get_family(name)
    meter = meter_of(family, family.task(parameters))
    assert meter.task_words == words
    assert meter.value is not None
    assert meter.value_words(meter.value(np.array(achieved))).endswith(shown)
    assert meter.target == target


def test_many_multipliers_are_shortened() -> None:
    family = get_family("halfcheetah-mass")
    num = family.spec.num_parameters
    meter = meter_of(family, family.task(np.linspace(0.5, 1.5, num)))
    assert meter.task_words.startswith("mass x 0.5, ")
    assert meter.task_words.endswith(f", ... ({num} in all)")


def shot(velocities: list[float], grey: int) -> Shot:
    picture = zlib.compress(np.full((SIDE, SIDE, 3), grey, np.uint8).tobytes())
    rewards, achieved = np.full(len(velocities), -1.0), np.array(velocities)[:, None]
    return Shot("title", rewards, achieved, (picture,) * len(velocities), (SIDE, SIDE))


def test_a_half_that_ended_stands_still_while_the_other_goes_on() -> None:
    family = get_family("halfcheetah-vel")
    shots = shot([1.0, 1.0], 10), shot([1.0, 1.5, 2.0, 2.0], 200)
    frames = Frames(family, family.task([2.0]), shots, SIDE)
    assert len(frames) == 4
    first, second, third, last = frames
    assert first.shape == (SIDE + SIDE // 4, 2 * SIDE, 3)
    assert (first[:SIDE, : SIDE - 2] == 10).all()
    assert (first[:SIDE, SIDE + 2 :] == 200).all()
    left = np.s_[:, : SIDE - 2]
    assert (second[left] != first[left]).any(), "another step"
    assert (third[left] != second[left]).any(), "it says that it ended"
    assert np.array_equal(last[left], third[left])
    assert (last[:, SIDE + 2 :] != third[:, SIDE + 2 :]).any(), "the other half counts on"
