"""This user's authentication token for Ray: where it lies, and that nobody else ever reads it.

It starts no Ray and joins none; ``cluster.session`` does.
"""

import os
import secrets
import stat
import tempfile
from pathlib import Path

_TOKEN_BYTES = 32
_OWNER_ALONE = 0o600


class TokenError(ValueError):
    """Ray would run without the token that it should ask for; the message says what to do."""


def token_path() -> Path:
    """Where Ray looks for this user's authentication token."""
    # An empty variable counts as none, as it does for Ray.
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return Path(named) if named else Path.home() / ".ray" / "auth_token"


def is_token_known() -> bool:
    """Whether there is a token, in the environment or in the file."""
    return bool(os.environ.get("RAY_AUTH_TOKEN")) or token_path().is_file()


def ensure_token() -> None:
    """See that there is a token which its owner alone can read; an existing one stays what it is.

    Ray would make one that everyone can read, and not where ``RAY_AUTH_TOKEN_PATH`` says.

    Raises:
        TokenError: If the file is empty, or cannot be written or kept to its owner.
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
            f"Ray's token must lie in a file of your own, but {path} cannot be one: {error}; name "
            "another by RAY_AUTH_TOKEN_PATH"
        ) from error
    if not content.strip():
        raise TokenError(
            f"the token file must hold a token, but {path} is empty; remove it, and a new one is "
            "made"
        )


def protect_token() -> None:
    """Keep an existing token file to its owner, whoever wrote it."""
    path = token_path()
    if path.is_file() and stat.S_IMODE(path.stat().st_mode) != _OWNER_ALONE:
        path.chmod(_OWNER_ALONE)


def _create(path: Path) -> None:
    """Write a new token; of several processes that do so at once, all end with the first one's.

    The file has its content and its mode before it has its name, so there is no moment in which
    others can read it, or in which it is empty.
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
        pass  # another process was faster: its token counts
    finally:
        os.unlink(draft)
