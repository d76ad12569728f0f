"""The folder of sockets and logs of this user's private Rays, closed to other users."""

import os
import stat
from pathlib import Path

_VARIABLE = "RAY_TMPDIR"


def ray_folder() -> Path:
    """Ray's temporary folder, which no other user can read; created if missing.

    Everybody can write to Ray's default, ``/tmp/ray``, so another user of the machine could replace
    its sockets and logs. If ``RAY_TMPDIR`` is set, the folder is in there, and whoever set it is
    responsible for its permissions.

    Raises:
        PermissionError: If the path exists but is not a folder of this user.
    """
    if given := os.environ.get(_VARIABLE):
        return Path(given) / "ray"
    outer = Path("/tmp") / f"ssmrl-{os.getuid()}"  # paths of sockets have at most 107 characters
    outer.mkdir(mode=0o700, exist_ok=True)
    found = outer.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(
            f"{outer} must be a folder of this user, but is not; set {_VARIABLE} to one of your own"
        )
    outer.chmod(0o700)
    return outer / "ray"
