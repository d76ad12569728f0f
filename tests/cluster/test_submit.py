"""What the command says when there is nobody, the wrong one, or no token; jobs in test_ray_up."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ray._private.authentication_test_utils import reset_auth_token_state
from typer.testing import CliRunner

from cluster.submit import DEFAULT_ADDRESS, Dashboard, SubmitError, app, find_address, find_token
from tests.cluster.launching import free_ports

VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
TOKEN = "0123456789abcdef" * 4


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """As in a process of its own: a session before in this one may have left Ray a token."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    reset_auth_token_state()
    yield
    monkeypatch.undo()
    reset_auth_token_state()


@pytest.fixture
def serve() -> Iterator[Callable[[int, str], tuple[str, list[str | None]]]]:
    """Servers that always answer the same; each hands out what it was shown as authorization."""
    servers = []

    def start(status: int, body: str) -> tuple[str, list[str | None]]:
        shown: list[str | None] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # the name that http.server calls
                shown.append(self.headers.get("Authorization"))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *arguments: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}", shown

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def run(*arguments: str) -> tuple[int, list[str]]:
    result = CliRunner().invoke(app, [*arguments, "--", "true"])
    return result.exit_code, result.output.strip().splitlines()


def test_nobody_there_is_one_line() -> None:
    (port,) = free_ports(1)
    code, lines = run("--address", f"http://127.0.0.1:{port}")
    assert (code, len(lines)) == (2, 1)
    assert f"no Ray dashboard answers at http://127.0.0.1:{port}" in lines[0]


@pytest.mark.parametrize(
    ("status", "token", "said"),
    [
        (401, None, "requires a token, but there is none"),
        (403, TOKEN, "rejects the token"),
        (404, TOKEN, "is not a Ray dashboard"),
        (200, TOKEN, "is not a Ray dashboard"),
        (500, TOKEN, "no Ray dashboard"),
    ],
)
def test_each_refusal_is_one_line_that_says_what_to_do(
    serve: Callable[[int, str], tuple[str, list[str | None]]],
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    token: str | None,
    said: str,
) -> None:
    address, shown = serve(status, "{}")
    if token is not None:
        monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    code, lines = run("--address", address)
    assert (code, len(lines)) == (2, 1), lines
    assert said in lines[0]
    assert shown[0] == (None if token is None else f"Bearer {token}")
    assert TOKEN not in lines[0]


def test_the_address_given_counts_and_not_the_environments(
    serve: Callable[[int, str], tuple[str, list[str | None]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's client would let the environment override what it is told."""
    named, shown = serve(403, "")
    other, never_shown = serve(403, "")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", other)
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    run("--address", named)
    assert shown
    assert not never_shown
    assert find_address(None) == DEFAULT_ADDRESS  # the process has forgotten the other one


def test_the_environment_names_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_address(None) == DEFAULT_ADDRESS
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1/")
    assert find_address(None) == "http://127.0.0.1:1"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:2")
    assert find_address(None) == "http://127.0.0.1:2"
    assert find_address("http://127.0.0.1:3") == "http://127.0.0.1:3"


def test_the_token_is_looked_for_where_ray_looks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert find_token(None) is None
    default, named, given = tmp_path / ".ray" / "auth_token", tmp_path / "named", tmp_path / "given"
    default.parent.mkdir()
    for path in (default, named, given):
        path.write_text(f"{path.name}\n")
    assert find_token(None) == "auth_token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "")  # which counts as unset, as in Ray
    assert find_token(None) == "auth_token"
    default.rename(default.with_name("elsewhere"))
    assert find_token(None) is None
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(named))
    assert find_token(None) == "named"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "variable")
    assert find_token(None) == "variable"
    assert find_token(given) == "given"
    with pytest.raises(SubmitError, match="cannot be read"):
        find_token(tmp_path / "missing")


@pytest.mark.parametrize("address", ["10.0.0.1:6379", "auto", "ray://head:10001", "http://"])
def test_an_address_of_something_else_is_refused(address: str) -> None:
    with pytest.raises(SubmitError, match="must read http://HOST:PORT"):
        Dashboard(address, None)


def test_the_token_never_travels_unencrypted() -> None:
    with pytest.raises(SubmitError, match="tunnel"):
        Dashboard("http://10.0.0.1:8265", TOKEN)
    assert Dashboard("http://10.0.0.1:8265", None).token is None
    for address in ("https://head.example:8265", "http://localhost:8265", "http://[::1]:8265"):
        assert Dashboard(address, TOKEN).token == TOKEN


def test_the_token_stands_in_no_representation() -> None:
    assert TOKEN not in repr(Dashboard(DEFAULT_ADDRESS, TOKEN))
