"""Frames of a video: two episodes side by side, with their task's goal drawn in."""

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ssmrl.envs.point import PICTURE_REACH, POINT
from ssmrl.envs.task import Task, TaskFamily
from ssmrl.video.meter import Meter, meter_of
from ssmrl.video.shot import Shot

SMALLEST, LARGEST, MULTIPLE = 240, 480, 8
"""Limits of a half's size [pixels]: smaller ones are unreadable; no camera draws larger ones."""

_INK, _PAPER, _BAR, _TARGET = (20, 20, 20), (255, 255, 255), (70, 110, 180), (230, 120, 20)


class Frames:
    """Two episodes on one task as frames, ``(1.25 size, 2 size, 3)`` uint8.

    There is one frame per env step of the longer episode. A half whose episode has ended is frozen
    and says so.

    Args:
        family: Family of the task.
        task: Task of both episodes.
        shots: Left and right episode.
        size: Width and height of each half's picture [pixels].

    Raises:
        ValueError: If the size is not supported.
    """

    def __init__(
        self, family: TaskFamily, task: Task, shots: tuple[Shot, Shot], size: int = LARGEST
    ) -> None:
        check_size(size)
        self._task, self._shots, self._size = task, shots, size
        self._meter = meter_of(family, task)
        self._scale = _scale(self._meter, shots)
        self._row = size // 16

    def __len__(self) -> int:
        return max(shot.num_steps for shot in self._shots)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self.frame(step) for step in range(len(self)))

    def frame(self, step: int) -> np.ndarray:
        """The frame after a step, counted from 0."""
        size = self._size
        image = Image.new("RGB", (2 * size, size + size // 4), _PAPER)
        for half, shot in enumerate(self._shots):
            self._draw(image, half * size, shot, min(step, shot.num_steps - 1), step)
        ImageDraw.Draw(image).line([(size, 0), (size, image.height)], fill=_INK)
        return np.asarray(image)

    def _draw(self, image: Image.Image, left: int, shot: Shot, step: int, now: int) -> None:
        picture = Image.fromarray(shot.picture(step))
        if picture.size != (self._size, self._size):
            picture = picture.resize((self._size, self._size), Image.Resampling.LANCZOS)
        image.paste(picture, (left, 0))
        draw = ImageDraw.Draw(image)
        if self._task.family == POINT.name:
            self._draw_goal(draw, left)
        meter, ended = self._meter, now > step
        come_to = f"{shot.rewards[: step + 1].sum():.2f}"
        words = [shot.title, f"step {step + 1}, return so far {come_to}", meter.task_words]
        if ended:
            words[1] = f"ended after step {step + 1}, return {come_to}"
        if meter.value is not None:
            value = meter.value(shot.achieved[step])
            words[2] += f", {meter.value_words(value)}"
            self._draw_bar(draw, left, value)
        for row, line in enumerate(words):
            place = (left + self._row // 2, self._size + self._row * row + self._row // 4)
            draw.text(place, line, fill=_INK, font=self._font(line))

    def _font(self, line: str) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        """A font of the usual size, or smaller so that the line fits into a half."""
        usual, room = 0.62 * self._row, self._size - self._row
        length = ImageFont.load_default(usual).getbbox(line)[2]
        return ImageFont.load_default(usual * min(1.0, room / length))

    def _draw_bar(self, draw: ImageDraw.ImageDraw, left: int, value: float) -> None:
        """Draw a bar from zero to the value, with a line at the target."""
        low, high = self._scale
        margin, top = self._row // 2, self._size + 3 * self._row + self._row // 3
        width, bottom = self._size - 2 * margin, top + self._row // 3

        def across(number: float) -> float:
            return left + margin + width * (number - low) / (high - low)

        begin, end = sorted((across(0.0), across(value)))
        draw.rectangle([begin, top, end, bottom], fill=_BAR)
        draw.line([(across(0.0), top - 2), (across(0.0), bottom + 2)], fill=_INK)
        if self._meter.target is not None:
            there = across(self._meter.target)
            draw.rectangle([there - 1, top - 4, there + 1, bottom + 4], fill=_TARGET)

    def _draw_goal(self, draw: ImageDraw.ImageDraw, left: int) -> None:
        """Draw the point's goal, in the coordinates of its camera."""
        unit = self._size / (2 * PICTURE_REACH)
        x, y = self._task.parameters
        right, down = left + unit * (PICTURE_REACH + x), unit * (PICTURE_REACH - y)
        reach = 0.02 * self._size
        draw.ellipse(
            [right - reach, down - reach, right + reach, down + reach], outline=_TARGET, width=2
        )


def check_size(size: int) -> None:
    """Raise if a size cannot be read, drawn or encoded.

    Raises:
        ValueError: If the size is not supported.
    """
    if not SMALLEST <= size <= LARGEST or size % MULTIPLE:
        raise ValueError(
            f"the size of a half must be a multiple of {MULTIPLE} from {SMALLEST} to {LARGEST} "
            f"pixels, but got {size}"
        )


def _scale(meter: Meter, shots: tuple[Shot, Shot]) -> tuple[float, float]:
    """The ends of the bar's scale: zero and all values of both halves, with a margin."""
    shown = [0.0, 1e-3 if meter.target is None else max(meter.target, 1e-3)]
    if meter.value is not None:
        shown += [meter.value(achieved) for shot in shots for achieved in shot.achieved]
    room = 0.02 * (max(shown) - min(shown))
    return min(shown) - room, max(shown) + room
