"""Where the private Rays of this user keep their sockets and logs: out of the reach of others."""

import os
import stat
from pathlib import Path

_VARIABLE = "RAY_TMPDIR"


def ray_folder() -> Path:
    """Ray's temporary folder, which nobody else can look into; made if there is none.

    Ray's own, ``/tmp/ray``, can be written by everybody, so that another user of the machine could
    put something else in the place of its sockets and logs. Where ``RAY_TMPDIR`` is set, it is in
    there, and who may look is up to whoever has set it.

    Raises:
        PermissionError: If something that is not this user's own folder is in its place.
    """
    if given := os.environ.get(_VARIABLE):
        return Path(given) / "ray"
    outer = Path("/tmp") / f"ssmrl-{os.getuid()}"  # Ray's sockets have paths of 107 characters
    outer.mkdir(mode=0o700, exist_ok=True)
    found = outer.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(
            f"{outer} must be a folder of this user, but is not; set {_VARIABLE} to one that is"
        )
    outer.chmod(0o700)
    return outer / "ray"
