"""Checks ``MUJOCO_GL`` before MuJoCo is imported, since a wrong value makes the import fail.

MuJoCo reads the variable once, when it is imported, whether or not anything is drawn.
"""

import os
import sys
from ctypes import CDLL
from ctypes.util import find_library

_LIBRARIES = {
    "egl": ("EGL", ("libEGL.so.1",), "the packages libegl1 and libgl1-mesa-dri"),
    "osmesa": ("OSMesa", ("libOSMesa.so.8", "libOSMesa.so.6"), "the package libosmesa6"),
}
"""Value of MUJOCO_GL -> its library, that library's files, and the packages that install it."""

_OFF = ("disable", "disabled", "off", "false", "0")
_WINDOWS = ("", "enable", "enabled", "on", "true", "1", "glfw")
_OF_SYSTEM = {"linux": ("glx",), "win32": ("wgl",), "darwin": ("cgl",)}


class RendererError(ValueError):
    """MuJoCo cannot be imported with this ``MUJOCO_GL``; the message says what to set."""


def check_renderer() -> None:
    """Check that MuJoCo knows the value of ``MUJOCO_GL`` and that its library is installed.

    Raises:
        RendererError: If the value is unknown or its library is missing.
    """
    asked = os.environ.get("MUJOCO_GL", "").lower().strip()
    if asked in _LIBRARIES and sys.platform == "linux":
        *_, packages = _LIBRARIES[asked]
        if not _is_installed(asked):
            raise RendererError(
                f"MUJOCO_GL={asked} needs {packages}, which this machine lacks; install that, or "
                f"set MUJOCO_GL to another of {', '.join(_LIBRARIES)}, or to disable"
            )
    elif asked not in (*_OFF, *_WINDOWS, *_OF_SYSTEM.get(sys.platform, ())):
        raise RendererError(
            f"MUJOCO_GL={os.environ['MUJOCO_GL']!r} is not a renderer of MuJoCo; set it to "
            f"{', '.join(_LIBRARIES)}, glfw or disable, or unset it"
        )


def choose_renderer() -> None:
    """On Linux without a display, set ``MUJOCO_GL`` to an installed library, unless it is set."""
    windows = (os.environ.get(name) for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"))
    if "mujoco" in sys.modules or sys.platform != "linux" or any(windows):
        return
    found = [name for name in _LIBRARIES if _is_installed(name)]
    if found:
        os.environ["MUJOCO_GL"] = found[0]


def _is_installed(name: str) -> bool:
    """Whether the library of a value is there; ``find_library`` ignores ``LD_LIBRARY_PATH``."""
    library, files, _ = _LIBRARIES[name]
    return find_library(library) is not None or any(map(_loads, files))


def _loads(file: str) -> bool:
    try:
        CDLL(file)
    except OSError:
        return False
    return True
