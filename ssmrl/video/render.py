"""Renders a video of a saved policy on one task."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssmrl.envs.families import get_family
from ssmrl.envs.task import Task
from ssmrl.saved_policy import SavedPolicy
from ssmrl.video.frame import LARGEST, Frames, check_size
from ssmrl.video.shot import Shot, film
from ssmrl.video.writer import check_output, write_video


@dataclass(frozen=True)
class Video:
    """A rendered video, with its episodes and its file.

    Attributes:
        task: Task of both episodes.
        shots: Left and right episode.
        path: Path of the file.
        num_frames: Number of frames, one for each env step of the longer episode.
        fps: Frames per second, so that the robot moves in real time.
    """

    task: Task
    shots: tuple[Shot, Shot]
    path: Path
    num_frames: int
    fps: int

    def to_text(self) -> str:
        """The description as lines of text."""
        lines = [f"{self.task.family}: the task {self.task.words()}"]
        lines += [
            f"  {side}, {shot.title}: return {shot.episode_return:.2f}"
            + f" over {shot.num_steps} env steps"
            for side, shot in zip(("left", "right"), self.shots, strict=True)
        ]
        return "\n".join([*lines, f"  {self.num_frames} frames, {self.fps}/s: {self.path}"])

    def to_json(self) -> dict[str, Any]:
        """JSON-compatible data."""
        return {
            "task": self.task.family,
            "parameters": list(self.task.parameters),
            "shots": [
                {"title": shot.title, "return": shot.episode_return, "env_steps": shot.num_steps}
                for shot in self.shots
            ],
            "path": str(self.path),
            "num_frames": self.num_frames,
            "fps": self.fps,
        }


def render(
    saved: SavedPolicy,
    task: Task,
    path: Path,
    *,
    seed: int = 0,
    num_episodes: int | None = None,
    size: int = LARGEST,
) -> Video:
    """Film a policy on a task, before and after adaptation side by side.

    Args:
        saved: The policy.
        task: Task to play.
        path: Path of the video, an MP4 or a GIF.
        seed: Seed of start states and exploration.
        num_episodes: Episodes with the task, of which the right half shows the last; by default as
            many as the algorithm reports.
        size: Width and height of each half's picture [pixels].

    Raises:
        ImportError: If a package is missing; the message says how to install it.
        NoPictureError: If nothing can be drawn on this machine; the message says what helps.
        OSError: If the video cannot be written.
        ValueError: If the name of the file, the size or the number of episodes is wrong.
    """
    check_output(path)
    check_size(size)
    shots = film(saved.config, saved.params, task, seed=seed, num_episodes=num_episodes)
    family = get_family(saved.config.env.task)
    frames, fps = Frames(family, task, shots, size), family.spec.render_fps
    write_video(path, frames, fps)
    return Video(task, shots, path, len(frames), fps)
