"""This user's authentication token for Ray: finds its file and keeps others from reading it.

This module neither starts nor joins Ray; ``cluster.session`` does.
"""

import os
import secrets
import stat
import tempfile
from pathlib import Path

_TOKEN_BYTES = 32
_OWNER_ALONE = 0o600


class TokenError(ValueError):
    """Ray would run without the required token; the message says what to do."""


def token_path() -> Path:
    """The path where Ray looks for this user's authentication token."""
    # An empty variable counts as unset, as in Ray.
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return Path(named) if named else Path.home() / ".ray" / "auth_token"


def is_token_known() -> bool:
    """Whether the environment holds a token, or the token file exists."""
    return bool(os.environ.get("RAY_AUTH_TOKEN")) or token_path().is_file()


def ensure_token() -> None:
    """Make sure a token exists that only its owner can read; an existing token is kept.

    Ray itself would create one that everyone can read, and ignore ``RAY_AUTH_TOKEN_PATH``.

    Raises:
        TokenError: If the file is empty, cannot be written, or cannot be made private.
    """
    if os.environ.get("RAY_AUTH_TOKEN"):
        return
    path = token_path()
    try:
        if not path.exists():
            _create(path)
        protect_token()
        content = path.read_text()
    except OSError as error:
        raise TokenError(
            f"Ray's token must be in a file that you own, but {path} cannot be used: {error}; set "
            "RAY_AUTH_TOKEN_PATH to another file"
        ) from error
    if not content.strip():
        raise TokenError(
            f"the token file must hold a token, but {path} is empty; remove it to have a new one "
            "created"
        )


def protect_token() -> None:
    """Make an existing token file readable by its owner only, whoever wrote it."""
    path = token_path()
    if path.is_file() and stat.S_IMODE(path.stat().st_mode) != _OWNER_ALONE:
        path.chmod(_OWNER_ALONE)


def _create(path: Path) -> None:
    """Write a new token; if several processes do so at once, the first one's token wins.

    The file gets its content and mode before its name, so it is never empty or readable by others
    under that name.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".auth_token-")  # mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(_TOKEN_BYTES))
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        pass  # another process was faster: its token is used
    finally:
        os.unlink(draft)
