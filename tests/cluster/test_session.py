"""A session is private unless the user names a cluster, and asks for a token that is kept."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import ray

from cluster.auth_token import TokenError, ensure_token, protect_token
from cluster.private_folder import ray_folder
from cluster.session import StartError, directions, session
from cluster.stop import psutil, ray_processes
from tests.cluster.private_ray import (
    ROOT,
    head_node,
    listening_addresses,
    private_environment,
    short_folder,
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the token is to be; there is none yet."""
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "deep" / "token"))
    return tmp_path / "deep" / "token"


def test_private_session_ignores_a_cluster_in_the_environment_and_listens_here_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ray would join whatever RAY_ADDRESS or its own files point to."""

    def own_pid() -> int:
        return os.getpid()

    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    with session(num_cpus=1) as num_cpus:
        folder = Path(ray._private.worker.global_worker.node.get_session_dir_path()).parent
        assert folder == ray_folder()
        assert mode(folder.parent) == 0o700, "nobody else can put other sockets there"
        assert num_idle() == 0, "a process is started when there is work for it"
        assert ray.is_initialized()
        assert num_cpus == 1
        assert ray.get(ray.remote(own_pid).remote()) != os.getpid()
        # Ray's own way to say so, `_node_ip_address`, makes it listen on all interfaces.
        assert listening_addresses(os.getpid()) == {"127.0.0.1"}
    assert not ray.is_initialized()


def num_idle() -> int:
    """How many workers of this process's Ray are about to begin or have nothing to do."""
    told = [one.cmdline() for one in psutil.Process().children(recursive=True)]
    ends = ("ray::IDLE", "default_worker.py")
    return sum(any(word.strip().endswith(ends) for word in words) for words in told)


def test_somebody_elses_folder_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr("cluster.private_folder.os.getuid", lambda: 98_765)
    mine = Path("/tmp/ssmrl-98765")
    try:
        with pytest.raises(StartError, match="must be a folder of this user"), session(num_cpus=1):
            pass
    finally:
        mine.rmdir()  # made by the user of the tests, whose number is another one
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert ray_folder() == tmp_path / "ray"


@pytest.mark.slow
def test_nothing_is_left_of_a_session_whose_driver_is_killed(tmp_path: Path) -> None:
    works = """
import time, ray
from cluster.session import session
with session(num_cpus=1):
    running = ray.remote(lambda: time.sleep(600)).remote()
    ray.get(ray.remote(lambda: None).options(num_cpus=0).remote())
    print("works", flush=True)
    time.sleep(600)
"""
    with short_folder() as folder:
        driver = subprocess.Popen(
            [sys.executable, "-c", works],
            cwd=ROOT,
            env=private_environment(tmp_path, folder),
            stdout=subprocess.PIPE,
        )
        assert driver.stdout is not None
        assert driver.stdout.readline() == b"works\n"
        before = ray_processes(folder / "ray")
        assert len(before) > 3
        driver.kill()
        driver.wait()
        _, left = psutil.wait_procs(before, timeout=10.0)
        assert not left


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(2, "No such file or directory", "/proc/nowhere"),
        OSError("AF_UNIX path length cannot exceed 107 bytes"),
        RuntimeError("The current node timed out during startup.\nThis could happen because ..."),
        json.JSONDecodeError("Expecting property name", "{bad", 1),
    ],
)
def test_a_ray_that_does_not_start_says_why_in_a_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**_: object) -> None:
        raise error

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("RAY_TMPDIR", "/proc/nowhere")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 64)
    with pytest.raises(StartError, match=r"^Ray did not start: ") as caught, session(num_cpus=1):
        pass
    said = str(caught.value)
    assert str(error).split("\n", maxsplit=1)[0] in said
    assert "/proc/nowhere/ray" in said
    assert "RAY_TMPDIR" in said.rpartition(";")[2] + said.rpartition(",")[2]
    assert "\n" not in said


@pytest.mark.parametrize("is_own", [True, False])
def test_who_answers_sigterm_itself_goes_on_to_while_ray_starts(
    is_own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's driver and its node would take it, one after the other, and end by another code."""

    def init(**_: object) -> None:
        ray._private.utils.set_sigterm_handler(rays)
        heard.append(signal.getsignal(signal.SIGTERM))
        raise RuntimeError("that is all")

    def rays(number: int, frame: object) -> None:
        pass

    def own(number: int, frame: object) -> None:
        pass

    heard: list[object] = []
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 64)
    before = signal.signal(signal.SIGTERM, own if is_own else signal.SIG_DFL)
    try:
        for _ in range(2):
            with pytest.raises(StartError), session(num_cpus=1):
                pass
            signal.signal(signal.SIGTERM, own if is_own else signal.SIG_DFL)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [own if is_own else rays] * 2


def test_an_unreachable_cluster_is_an_error() -> None:
    with pytest.raises(ConnectionError, match="no Ray cluster at"), session("127.0.0.1:1"):
        pass


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_new_token_is_its_owners_alone_from_its_first_moment(umask: int, token: Path) -> None:
    """Watched by another thread, which must never see the name with another mode or no content."""
    seen: set[tuple[int, int]] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            with suppress(FileNotFoundError):
                found = token.stat()
                seen.add((stat.S_IMODE(found.st_mode), found.st_size))

    before = os.umask(umask)
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(50):
            token.unlink(missing_ok=True)
            ensure_token()
    finally:
        done.set()
        watcher.join()
        os.umask(before)
    assert mode(token) == 0o600
    assert mode(token.parent) == 0o700
    assert {permissions for permissions, _ in seen} <= {0o600}
    assert {size for _, size in seen} <= {64}
    assert [entry.name for entry in token.parent.iterdir()] == ["token"]


@pytest.mark.slow
def test_a_session_without_a_token_leaves_one_of_0600(tmp_path: Path) -> None:
    """Whole, in a process of its own: what Ray itself writes would be everybody's."""
    started = "from cluster.session import session\nwith session(num_cpus=1): pass"
    with short_folder() as ray_folder:
        command = [sys.executable, "-c", f"import os; os.umask(0)\n{started}"]
        environment = private_environment(tmp_path, ray_folder)
        subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=100)
    assert mode(tmp_path / "token") == 0o600
    assert len((tmp_path / "token").read_text()) == 64


def test_an_existing_token_stays_and_is_kept_to_its_owner(token: Path) -> None:
    token.parent.mkdir()
    token.write_text("f" * 64)
    token.chmod(0o644)
    ensure_token()
    assert token.read_text() == "f" * 64
    assert mode(token) == 0o600
    token.chmod(0o640)
    protect_token()
    assert mode(token) == 0o600


def test_an_empty_token_file_is_refused_by_name(token: Path) -> None:
    """Ray ends the whole process on it."""
    token.parent.mkdir()
    token.touch()
    with pytest.raises(TokenError, match=f"{token} is empty; remove it"), session(num_cpus=1):
        pass
    assert not ray.is_initialized()


def test_a_token_in_the_environment_needs_no_file(
    token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f" * 64)
    ensure_token()
    assert not token.exists()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "a-name"])
def test_a_dashboard_for_others_without_a_token_is_refused(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    asked = session(num_cpus=1, dashboard=True, dashboard_host=host)
    with pytest.raises(TokenError, match="unset RAY_AUTH_MODE, or listen on"), asked:
        pass
    assert not ray.is_initialized()


def test_directions_name_the_tunnel_and_the_token(
    token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    there = partial(directions, host="head.example")
    url, tunnel, where = there("127.0.0.1:8266", asks_for_token=True)
    assert url == "dashboard http://127.0.0.1:8266"
    assert tunnel.endswith("ssh -L 8266:127.0.0.1:8266 ada@head.example")
    assert where.endswith(f"the token, which is in {token}")
    assert not any("ssh" in line for line in there("192.0.2.7:8266", asks_for_token=True))
    assert "no token" in there("127.0.0.1:8266", asks_for_token=False)[-1]
    assert there(None, asks_for_token=True) == ["this cluster has no dashboard"]
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f" * 64)
    where = there("127.0.0.1:8266", asks_for_token=True)[-1]
    assert "RAY_AUTH_TOKEN" in where
    assert "f" * 64 not in where


def status_of(url: str, token: str | None) -> tuple[int, str]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.slow
def test_the_job_api_wants_the_token(tmp_path: Path) -> None:
    """Whoever may use it may run programs: CVE-2023-48022 is what it is without a token."""
    with head_node(tmp_path, "a" * 64, RAY_AUTH_MODE="token") as head:
        url = f"http://{head.dashboard}/api/jobs/"
        assert status_of(url, None)[0] == 401
        assert status_of(url, "b" * 64)[0] == 403
        code, body = status_of(url, head.token)
        assert (code, json.loads(body)) == (200, [])
