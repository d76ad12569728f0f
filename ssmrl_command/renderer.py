"""Checks ``MUJOCO_GL`` before MuJoCo is imported, since a wrong value makes the import fail.

MuJoCo reads the variable once, when it is imported, whether or not anything is drawn.
"""

import os
import sys
from ctypes.util import find_library

_LIBRARIES = {
    "egl": ("EGL", "the packages libegl1 and libgl1-mesa-dri"),
    "osmesa": ("OSMesa", "the package libosmesa6"),
}
"""Value of MUJOCO_GL -> its library, and the packages that install it."""

_OFF = ("disable", "disabled", "off", "false", "0")
_WINDOWS = ("", "enable", "enabled", "on", "true", "1", "glfw", "glx", "wgl", "cgl")


class RendererError(ValueError):
    """MuJoCo cannot be imported with this ``MUJOCO_GL``; the message says what to set."""


def check_renderer() -> None:
    """Check that MuJoCo knows the value of ``MUJOCO_GL`` and that its library is installed.

    Raises:
        RendererError: If the value is unknown or its library is missing.
    """
    asked = os.environ.get("MUJOCO_GL", "").lower().strip()
    if asked in _LIBRARIES:
        library, packages = _LIBRARIES[asked]
        if find_library(library) is None:
            raise RendererError(
                f"MUJOCO_GL={asked} needs {packages}, which this machine lacks; install that, or "
                f"set MUJOCO_GL to another of {', '.join(_LIBRARIES)}, or to disable"
            )
    elif asked not in (*_OFF, *_WINDOWS):
        raise RendererError(
            f"MUJOCO_GL={os.environ['MUJOCO_GL']!r} is not a renderer of MuJoCo; set it to "
            f"{', '.join(_LIBRARIES)}, glfw or disable, or unset it"
        )


def choose_renderer() -> None:
    """On Linux without a display, set ``MUJOCO_GL`` to an installed library, unless it is set."""
    windows = (os.environ.get(name) for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"))
    if "mujoco" in sys.modules or sys.platform != "linux" or any(windows):
        return
    found = [name for name, (library, _) in _LIBRARIES.items() if find_library(library)]
    if found:
        os.environ["MUJOCO_GL"] = found[0]
