"""Writes frames as an MP4 or a GIF; encoders are imported only when a video is written."""

import os
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

_NEEDS = {".mp4": ("PIL", "imageio", "imageio_ffmpeg"), ".gif": ("PIL",)}


def check_output(path: Path) -> None:
    """Check that a video can be written to the path, before any rollout is collected for it.

    Raises:
        FileNotFoundError: If its folder does not exist.
        ImportError: If a package is missing; the message says how to install it.
        ValueError: If it is neither an MP4 nor a GIF.
    """
    needs = _NEEDS.get(path.suffix)
    if needs is None:
        raise ValueError(f"a video must be named {' or '.join(_NEEDS)}, but got {path.name!r}")
    if missing := [name for name in needs if find_spec(name) is None]:
        raise ImportError(
            f"a video {path.suffix} needs {', '.join(missing)}, which is not installed; run "
            'pip install "ssmrl[render]"'
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} into")


def write_video(path: Path, frames: Iterable[np.ndarray], fps: int) -> None:
    """Write all frames atomically: readers see the old video or the new one, never a part.

    Args:
        path: Path of an MP4 or a GIF that ``check_output`` accepts.
        frames: Frames, ``(H, W, 3)`` uint8, with even ``H`` and ``W``.
        fps: Frames per second; a GIF rounds the duration of a frame to 10 ms.

    Raises:
        OSError: If the file cannot be written.
    """
    part = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    write = _write_mp4 if path.suffix == ".mp4" else _write_gif
    try:
        write(part, frames, fps)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _write_mp4(path: Path, frames: Iterable[np.ndarray], fps: int) -> None:
    import imageio.v2 as imageio

    # Players take H.264 in 4:2:0, whose width and height are even.
    made_by: dict[str, Any] = {"codec": "libx264", "macro_block_size": 2, "quality": 8}
    writer: Any = imageio.get_writer(path, format="FFMPEG", fps=fps, **made_by)
    with writer:
        for frame in frames:
            writer.append_data(frame)


def _write_gif(path: Path, frames: Iterable[np.ndarray], fps: int) -> None:
    from PIL import Image

    images = (Image.fromarray(frame).quantize(128) for frame in frames)
    first = next(images)
    duration = max(10, 10 * round(100 / fps))  # a GIF counts in 10 ms
    first.save(path, save_all=True, append_images=images, duration=duration, loop=0)
