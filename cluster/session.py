"""Start a private Ray on this machine, or join the cluster that the user names; never another."""

import logging
import os
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def token_path() -> Path:
    """Where Ray looks for this user's authentication token."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH", Path.home() / ".ray" / "auth_token"))


# Ray reads these when it is imported: no reports to its makers; accelerator variables of tasks
# that ask for no accelerator stay as they are; and a token is shown to a named cluster, too,
# unless Ray was imported before and has settled that already.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
if "ray" not in sys.modules and ("RAY_AUTH_TOKEN" in os.environ or token_path().is_file()):
    os.environ.setdefault("RAY_AUTH_MODE", "token")

import ray  # noqa: E402

_CONNECT_SECONDS = 5.0


@contextmanager
def session(address: str | None = None, num_cpus: int | None = None) -> Iterator[int]:
    """A Ray session that ends with the block.

    Args:
        address: A cluster to join, for example ``auto`` or ``ray://host:10001``; None starts a
            private one on this machine, also when another one is running here.
        num_cpus: Cores of the private one; all by default.

    Yields:
        How many CPUs the session has.

    Raises:
        ConnectionError: If there is no cluster at ``address``.
    """
    if address is not None:
        _check_reachable(address)
    ray.init(
        address=address or "local",
        num_cpus=None if address else num_cpus,
        include_dashboard=None if address else False,
        # The private one listens on this machine alone.
        _node_ip_address=None if address else "127.0.0.1",
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=False,
    )
    protect_token()
    try:
        yield int(ray.cluster_resources().get("CPU", 0))
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Ask the port before Ray does, which would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:
        return  # "auto", or a name that Ray resolves
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise ConnectionError(f"there is no Ray cluster at {address!r}: {error}") from error


def protect_token() -> None:
    """Ray writes its authentication token readable by everyone: keep it to its owner."""
    token = token_path()
    if token.is_file() and stat.S_IMODE(token.stat().st_mode) != 0o600:
        token.chmod(0o600)
