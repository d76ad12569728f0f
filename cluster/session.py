"""Starts a private Ray on this machine, or joins the cluster that the user names, and no other."""

import getpass
import ipaddress
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from cluster.address import check_address
from cluster.auth_token import (
    TokenError,
    ensure_token,
    is_token_known,
    protect_token,
    token_path,
)
from cluster.orphans import no_orphans
from cluster.private_folder import ray_folder

# Ray reads these variables when it is imported. They disable usage reports, leave the accelerator
# variables of tasks without accelerators unchanged, and keep a private Ray from starting an idle
# process per core: each takes most of a second of work, and no trial runs in one. RAY_AUTH_MODE
# makes Ray send the token to a named cluster, too; it has no effect if Ray was imported before.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
if "ray" not in sys.modules and is_token_known():
    os.environ.setdefault("RAY_AUTH_MODE", "token")

import ray
from ray._private import ray_constants
from ray._private import utils as ray_utils

LOOPBACK = "127.0.0.1"


class StartError(RuntimeError):
    """A private Ray did not start; the message says why in one line."""


_CONNECT_SECONDS = 5.0
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_SET_HERE = (
    "RAY_USAGE_STATS_ENABLED",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO",
    "RAY_prestart_worker_first_driver",
    "RAY_AUTH_MODE",
    "RAY_AIR_NEW_OUTPUT",
    "RAY_CLIENT_MODE",
)


@contextmanager
def session(
    address: str | None = None,
    num_cpus: int | None = None,
    *,
    dashboard: bool = False,
    dashboard_host: str = LOOPBACK,
    gpus: Sequence[int] | None = None,
    say: Callable[[str], None] = print,
) -> Iterator[int]:
    """A Ray session that ends with the block.

    Args:
        address: Cluster to join, for example ``auto`` or ``ray://host:10001``; None starts a
            private Ray on this machine, even if another one is running here.
        num_cpus: Cores of the private Ray; all by default.
        dashboard: Whether to print the dashboard's address. A private session runs a dashboard only
            then, since it costs seconds and memory; it takes the first free port from 8265 on.
        dashboard_host: Address on which the dashboard of a private session listens.
        gpus: Indices of the private Ray's GPUs among those visible to this process; all by default.
        say: Prints a line.

    Yields:
        The number of CPUs of the session.

    Raises:
        ConnectionError: If there is no cluster at ``address``.
        ValueError: If ``address`` is malformed.
        StartError: If a private Ray does not start.
        TokenError: If other machines could reach the private session's dashboard without a token,
            or no token can be made.
    """
    ends_with_driver: AbstractContextManager[None] = nullcontext()
    if address is None:
        with _showing(gpus):
            context = _start_private(num_cpus, dashboard, dashboard_host, gpus)
        ends_with_driver = no_orphans(Path(context.address_info["session_dir"]))
    else:
        check_address(address)
        _check_reachable(address)
        with _keeping_signals():
            context = ray.init(address=address, **_QUIET)
        protect_token()
    with ends_with_driver, _shut_down():
        if dashboard:
            # Ray sets the variable when it decides by itself to require a token.
            asks = "RAY_AUTH_MODE" in os.environ and is_auth_on()
            for line in directions(
                context.dashboard_url, host=_head_host(address), asks_for_token=asks
            ):
                say(line)
        yield int(ray.cluster_resources().get("CPU", 0))


@contextmanager
def _shut_down() -> Iterator[None]:
    try:
        yield
    finally:
        ray.shutdown()


def num_gpus() -> tuple[int, int]:
    """Number of GPUs of the joined session now, and after its largest possible upscaling."""
    now = int(ray.cluster_resources().get("GPU", 0))
    # No public function returns the kinds of nodes that an autoscaler may start.
    most = ray._private.state.state.get_max_resources_from_cluster_config() or {}
    return now, max(now, int(most.get("GPU", 0)))


def directions(url: str | None, *, host: str, asks_for_token: bool) -> list[str]:
    """Instructions for opening a dashboard, here and from another machine.

    Args:
        url: Host and port of the dashboard; None if there is none.
        host: Name of its machine for other machines.
        asks_for_token: Whether the dashboard requires a token.

    Returns:
        Lines to print.

    Example:
        >>> directions("127.0.0.1:8265", host="head", asks_for_token=True)[0]
        'dashboard http://127.0.0.1:8265'
    """
    if not url:
        return ["this cluster has no dashboard"]
    lines = [f"dashboard http://{url}"]
    listens_on, _, port = url.rpartition(":")
    if is_loopback(listens_on):
        tunnel = f"ssh -L {port}:{LOOPBACK}:{port} {getpass.getuser()}@{host}"
        lines.append(f"  from another machine, open the same address after: {tunnel}")
    if not asks_for_token:
        lines.append("  it requires no token: anyone who reaches it can run programs there")
    elif os.environ.get("RAY_AUTH_TOKEN"):
        lines.append("  it requires the token, which is in RAY_AUTH_TOKEN")
    else:
        lines.append(f"  it requires the token, which is in {token_path()}")
    return lines


def is_auth_on() -> bool:
    """Whether a private session requires the token: yes, unless ``RAY_AUTH_MODE`` disables it."""
    return os.environ.get("RAY_AUTH_MODE", "token").lower() == "token"


def is_loopback(host: str) -> bool:
    """Whether an address is reachable from this machine only; an unknown name counts as not.

    Example:
        >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "head")]
        [True, True, True, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


# Keeps Ray's own log lines out of the output.
_QUIET: dict[str, Any] = {
    "log_to_driver": False,
    "logging_level": logging.ERROR,
    "configure_logging": False,
}


@contextmanager
def _showing(gpus: Sequence[int] | None) -> Iterator[None]:
    """Processes started within the block see only these of the GPUs visible here."""
    before = os.environ.get(_VISIBLE)
    if gpus:
        seen = before.split(",") if before else None
        os.environ[_VISIBLE] = ",".join(str(i) if seen is None else seen[i] for i in gpus)
    try:
        yield
    finally:
        if gpus and before is None:
            del os.environ[_VISIBLE]
        elif gpus and before is not None:
            os.environ[_VISIBLE] = before


@contextmanager
def _start_errors() -> Iterator[Path]:
    """Turn Ray's traceback into one line, which also names the Ray variables set here."""
    folder = None
    try:
        folder = ray_folder()
        yield folder
    except (OSError, RuntimeError, ValueError) as error:
        words = " ".join(str(error).split()) or type(error).__name__
        given = sorted(n for n in os.environ if n.startswith("RAY_") and n not in _SET_HERE)
        where = "" if folder is None else f"; its files and logs are in {folder}"
        raise StartError(
            f"Ray did not start: {words}{where}"
            + (f"; this environment sets {', '.join(given)}" if given else "")
        ) from error


def _start_private(
    num_cpus: int | None, dashboard: bool, dashboard_host: str, gpus: Sequence[int] | None
) -> Any:
    if not is_auth_on() and not is_loopback(dashboard_host):
        raise TokenError(
            "a dashboard that other machines can reach must require a token, since whoever "
            f"reaches it can run programs here, but got {dashboard_host=} and RAY_AUTH_MODE="
            f"{os.environ['RAY_AUTH_MODE']!r}; unset RAY_AUTH_MODE, or listen on {LOOPBACK} and "
            "use a tunnel"
        )
    if is_auth_on():
        ensure_token()
    # Suppresses the warning that a token is required, and how to disable that.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    with _on_loopback_alone(), _keeping_signals(), _start_errors() as folder:
        context: Any = ray.init(
            address="local",
            num_cpus=num_cpus,
            num_gpus=None if gpus is None else len(gpus),
            include_dashboard=dashboard,
            dashboard_host=dashboard_host,
            _node_ip_address=LOOPBACK,
            _temp_dir=str(folder),
            **_QUIET,
        )
    listens_on = str(context.address_info["node_ip_address"])
    if not is_auth_on() and not is_loopback(listens_on):
        ray.shutdown()
        raise TokenError(
            f"a session without a token must listen on {LOOPBACK} alone, but Ray took "
            f"{listens_on}; unset RAY_AUTH_MODE"
        )
    return context


@contextmanager
def _on_loopback_alone() -> Iterator[None]:
    """Let Ray listen on the loopback address, as it does on a Mac, where it builds no clusters.

    Elsewhere Ray treats that address as a mistake and replaces it by the machine's own; then all of
    its processes listen on all interfaces. The tests check that Ray listens on loopback only.
    """
    usual = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = usual


@contextmanager
def _keeping_signals() -> Iterator[None]:
    """Keep this process's own SIGTERM handler, which Ray would replace when it starts."""
    usual = ray_utils.set_sigterm_handler
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        ray_utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        ray_utils.set_sigterm_handler = usual


def _check_reachable(address: str) -> None:
    """Try the port first, since Ray would try for minutes."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except (OSError, UnicodeError) as error:  # UnicodeError: invalid host name
        raise ConnectionError(f"there is no Ray cluster at {address!r}: {error}") from error


def _head_host(address: str | None) -> str:
    """The name of the dashboard's machine for others: the cluster's head, or this machine."""
    if address is not None:
        head, _, _ = str(ray.get_runtime_context().gcs_address).rpartition(":")
        if not is_loopback(head):
            return head
    return socket.gethostname()
