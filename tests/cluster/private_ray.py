"""Sweeps and heads in processes and folders of their own, for tests that look at them from outside.

Nothing of the user's Ray is touched: other ports, other temporary folder, other token file; and
what was started is ended by its own process ids.
"""

import ipaddress
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Started:
    """A process, what it says, and where its Ray keeps things.

    Attributes:
        process: Of the sweep or of ``ray start``.
        log: Its stdout and stderr.
        ray_folder: Ray's temporary folder.
        token: What its Ray asks for.
        dashboard: Its address, host and port.
    """

    process: subprocess.Popen[str]
    log: Path
    ray_folder: Path
    token: str
    dashboard: str

    def is_running(self) -> bool:
        return self.process.poll() is None

    def said(self) -> str:
        return self.log.read_text()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def private_environment(folder: Path, ray_folder: Path, **variables: str) -> dict[str, str]:
    """The present environment, without any other Ray's traces in it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return inherited | {
        "RAY_TMPDIR": str(ray_folder),
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_metrics_report_interval_ms": "1000",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # `ray start` listens on 127.0.0.1 alone
        **variables,
    }


@contextmanager
def short_folder() -> Iterator[Path]:
    """Ray keeps sockets in it, whose paths must not be longer than 107 characters."""
    folder = Path(tempfile.mkdtemp(prefix="ssmrl-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def sweep_with_dashboard(folder: Path, name: str, *flags: str) -> Iterator[Started]:
    """A sweep as a user starts it; interrupted at the end if it still runs."""
    command = [sys.executable, "-m", "tuning.sweep", "--task", "point", "--dashboard"]
    command += ["--storage", str(folder), "--name", name, *flags]
    with short_folder() as ray_folder:
        environment = private_environment(folder, ray_folder)
        with _running(command, folder / "log", environment) as process:
            found = _wait_for(process, folder / "log", r"^dashboard http://(\S+)$")
            token = (folder / "token").read_text()
            yield Started(process, folder / "log", ray_folder / "ray", token, found)


@contextmanager
def head_node(folder: Path, token: str, **variables: str) -> Iterator[Started]:
    """A cluster of one node, as ``ray start --head`` makes it."""
    (folder / "token").write_text(token)
    dashboard = free_port()
    ports = {
        "port": free_port(),
        "dashboard-port": dashboard,
        "ray-client-server-port": free_port(),
        "dashboard-agent-listen-port": free_port(),
    }
    with short_folder() as ray_folder:
        command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"]
        command += ["--num-cpus=1", "--node-ip-address=127.0.0.1", f"--temp-dir={ray_folder}"]
        command += ["--object-store-memory=80000000", "--no-monitor", "--disable-usage-stats"]
        command += [f"--{name}={port}" for name, port in ports.items()]
        environment = private_environment(folder, ray_folder, **variables)
        with _running(command, folder / "log", environment) as process:
            _wait_for(process, folder / "log", r"(Ray runtime started)")
            address = f"127.0.0.1:{dashboard}"
            yield Started(process, folder / "log", ray_folder, token, address)


@contextmanager
def _running(
    command: list[str], log: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen[str]]:
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=output, text=True
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """Interrupt it as a user would, then see that none of its processes is left."""
    family = []
    if process.poll() is None:
        family = _descendants(process.pid)
        process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=20.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    deadline = time.monotonic() + 5.0
    while (alive := [pid for pid in family if is_alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in alive:
        os.kill(pid, signal.SIGKILL)


def listening_addresses(pid: int) -> set[str]:
    """The addresses on which a process and its descendants listen."""
    sockets = set()
    for one in (pid, *_descendants(pid)):
        for handle in Path(f"/proc/{one}/fd").glob("*"):
            try:
                sockets.add(os.readlink(handle))
            except OSError:
                continue  # closed in the meantime
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in sockets:
                addresses.add(_readable(words[1].partition(":")[0]))
    return addresses


def _readable(address: str) -> str:
    """An address of the kernel's table, whose words of 32 bits are in the machine's byte order."""
    words = [bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8)]
    found = ipaddress.ip_address(b"".join(words))
    mapped = getattr(found, "ipv4_mapped", None)
    return str(mapped or found)


def _descendants(pid: int) -> list[int]:
    """Children, and theirs; each thread of a process has its own."""
    children = [
        int(child)
        for file in Path(f"/proc/{pid}/task").glob("*/children")
        for child in file.read_text().split()
    ]
    return children + [one for child in children for one in _descendants(child)]


def is_alive(pid: int) -> bool:
    """Whether it runs; one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait_for(process: subprocess.Popen[str], log: Path, pattern: str) -> str:
    """What the first group matches, once it is said."""
    deadline = time.monotonic() + 90.0
    while (found := re.search(pattern, log.read_text(), re.MULTILINE)) is None:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    return found.group(1)
