"""``python -m cluster.submit``: run a command on a running cluster and follow its log."""

import asyncio
import logging
import os
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from cluster.auth_token import token_path
from ssmrl.command_line import command_app, refuse

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
_ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_INTERRUPTED = 130

app = command_app()


class SubmitError(Exception):
    """The job was not submitted; the message says why and what to do."""


@dataclass(frozen=True)
class Dashboard:
    """The dashboard that accepts jobs, and its token.

    Attributes:
        address: URL, ``http://HOST:PORT`` or ``https://...``.
        token: Authentication token; None if there is none.

    Raises:
        SubmitError: If the address is not a URL, or the token would travel unencrypted.
    """

    address: str
    token: str | None = field(repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SubmitError(
                f"the address of a dashboard must read http://HOST:PORT, but is {self.address!r}; "
                "set it with `--address`"
            )
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK and self.token:
            raise SubmitError(
                f"{self.address} would get the token unencrypted over the network; open a tunnel, "
                "`ray dashboard LAUNCH-FILE` or `kubectl port-forward service/NAME-head-svc 8265`, "
                f"and submit to {DEFAULT_ADDRESS}"
            )


@app.command(context_settings={"allow_interspersed_args": False})
def submit(
    command: Annotated[list[str], typer.Argument(help="Command to run; put -- before it.")],
    address: Annotated[
        str | None,
        typer.Option(
            help="Address of the dashboard; by default RAY_API_SERVER_ADDRESS, RAY_ADDRESS or "
            f"{DEFAULT_ADDRESS}."
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="Token file; by default RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the job, not used before.")] = None,
    working_dir: Annotated[
        Path | None,
        typer.Option(help="Folder to upload and run in; by default nothing is uploaded."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Print the log until the job ends.")
    ] = True,
) -> None:
    """Run a command on a Ray cluster, follow its log, and exit with its exit code.

    If this command is interrupted, the job continues; the output says how to follow or stop it.

    Example: ssmrl cluster submit --working-dir . -- python -m tuning.sweep --task ant-vel
    """
    try:
        dashboard = Dashboard(find_address(address), find_token(token_file))
        client = connect(dashboard)
        job = _submit(client, command, name, working_dir)
    except SubmitError as error:
        refuse(str(error))
    typer.echo(f"submitted {job} to {dashboard.address}", err=True)
    if not follow:
        typer.echo(how_to_go_on(job, dashboard.address), err=True)
        return
    try:
        code = asyncio.run(_follow(client, job))
    except KeyboardInterrupt:
        typer.echo(f"\n{job} continues.\n{how_to_go_on(job, dashboard.address)}", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    except (OSError, RuntimeError) as error:
        typer.echo(
            f"error: lost the connection to {job}, which may still run: {error}\n"
            f"{how_to_go_on(job, dashboard.address)}",
            err=True,
        )
        raise typer.Exit(1) from None
    raise typer.Exit(code)


def find_address(given: str | None) -> str:
    """The dashboard's address: as passed, from the environment, or Ray's default."""
    candidates = [given, *(os.environ.get(variable) for variable in _ADDRESS_VARIABLES)]
    return next((value for value in candidates if value), DEFAULT_ADDRESS).rstrip("/")


def find_token(file: Path | None) -> str | None:
    """The token, from where Ray reads it; None if there is none.

    Raises:
        SubmitError: If a named token file cannot be read.
    """
    if file is None and os.environ.get("RAY_AUTH_TOKEN"):
        return os.environ["RAY_AUTH_TOKEN"].strip()
    path = file or token_path()
    is_named = file is not None or bool(os.environ.get("RAY_AUTH_TOKEN_PATH"))
    if not is_named and not path.exists():
        return None
    try:
        return path.read_text().strip() or None
    except (OSError, UnicodeDecodeError) as error:
        raise SubmitError(f"the token cannot be read: {error}") from error


def connect(dashboard: Dashboard) -> "JobSubmissionClient":
    """A client for the cluster's job server.

    Raises:
        SubmitError: If nothing answers, the token is missing or wrong, or the server is not Ray.
    """
    # Ray would prefer these variables to the address that is passed.
    for variable in _ADDRESS_VARIABLES:
        os.environ.pop(variable, None)
    import requests
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for part in ("dashboard_sdk", "job.sdk"):  # they log normally closed connections
        logging.getLogger(f"ray.dashboard.modules.{part}").setLevel(logging.WARNING)
    headers = {"Authorization": f"Bearer {dashboard.token}"} if dashboard.token else {}
    try:
        return JobSubmissionClient(dashboard.address, headers=headers)
    except AuthenticationError as error:
        if dashboard.token:
            raise SubmitError(
                f"{dashboard.address} rejects the token, which belongs to another cluster; pass "
                "this cluster's by `--token-file` or RAY_AUTH_TOKEN"
            ) from error
        raise SubmitError(
            f"{dashboard.address} requires a token, but there is none; pass it by `--token-file`, "
            "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
        ) from error
    except (ConnectionError, requests.RequestException) as error:
        raise SubmitError(
            f"no Ray dashboard answers at {dashboard.address}; check that the cluster and the "
            "tunnel (`ray dashboard LAUNCH-FILE`) are up"
        ) from error
    except (RuntimeError, ValueError, KeyError) as error:
        raise SubmitError(
            f"the server at {dashboard.address} is not a Ray dashboard: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error


def how_to_go_on(job: str, address: str) -> str:
    """The commands that follow and stop a job."""
    ray = "RAY_AUTH_MODE=token ray job"
    return (
        f"  follow: {ray} logs --follow --address {address} {job}\n"
        f"  stop:   {ray} stop --address {address} {job}"
    )


def _submit(
    client: "JobSubmissionClient", command: list[str], name: str | None, working_dir: Path | None
) -> str:
    if working_dir is not None and not working_dir.is_dir():
        raise SubmitError(f"`--working-dir` must be a folder, but {working_dir} is not")
    runtime = {"working_dir": str(working_dir)} if working_dir is not None else {}
    try:
        return client.submit_job(
            entrypoint=shlex.join(command), submission_id=name, runtime_env=runtime
        )
    except (RuntimeError, ValueError) as error:
        raise SubmitError(f"the cluster rejects the job: {' '.join(str(error).split())}") from error


async def _follow(client: "JobSubmissionClient", job: str) -> int:
    """Print the log of a job until it ends, and return its exit code."""
    async for text in client.tail_job_logs(job):
        sys.stdout.write(text)
        sys.stdout.flush()
    while not client.get_job_status(job).is_terminal():  # the log ends a little earlier
        await asyncio.sleep(0.2)
    details = client.get_job_info(job)
    typer.echo(f"{job}: {details.status}", err=True)
    if details.status == "SUCCEEDED":
        return 0
    if details.message:
        typer.echo(f"  {' '.join(details.message.split())[:300]}", err=True)
    code = details.driver_exit_code
    return code if code is not None and 0 < code < 256 else 1


if __name__ == "__main__":
    app()
