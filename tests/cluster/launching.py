"""Hosts to launch clusters on: sshds with keys, homes and ports of their own, on this machine."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from cluster.stop import psutil, ray_processes, stop

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = ROOT / "cluster" / "launch"
PORT = re.compile(r"--((?:[a-z]+-)*port)[= ](\d+)")

# Hands stdin and stdout to a port; ssh has no option for the port that a launch file could set.
PUMP = """
import os, socket, sys, threading
peer = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def send():
    while data := os.read(0, 65536):
        peer.sendall(data)
    peer.shutdown(socket.SHUT_WR)
threading.Thread(target=send, daemon=True).start()
while data := peer.recv(65536):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
"""


def run(
    command: Sequence[str], variables: Mapping[str, str], timeout: float = 200.0
) -> subprocess.CompletedProcess[str]:
    """A command in the project folder, with what it printed."""
    return subprocess.run(
        command,
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def missing_programs(*names: str) -> list[str]:
    """Which of some programs this machine lacks."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return [name for name in names if shutil.which(name, path=path) is None]


def program(name: str) -> str:
    """The path of a program, also of one that only root uses."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert found is not None
    return found


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder for Ray, whose sockets' paths must not exceed 107 characters; Ray in it is ended."""
    folder = Path(tempfile.mkdtemp(prefix="ss", dir="/tmp"))
    try:
        yield folder
    finally:
        stop(folder / "ray")
        shutil.rmtree(folder, ignore_errors=True)


def environment(folder: Path, **more: str) -> dict[str, str]:
    """For `ray` commands: nothing from or to the user's own Ray."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    place = {"RAY_TMPDIR": str(folder), "TMPDIR": str(folder)}
    return kept | place | more


def prepare(home: Path, ray_folder: Path) -> None:
    """Keys, a token, and what a shell needs, as the shipped script makes them for localhost."""
    subprocess.run(
        ["sh", str(LAUNCH / "localhost.sh"), "prepare"],
        env=os.environ | {"SSMRL_LOCALHOST": str(home), "SSMRL_RAY_TMPDIR": str(ray_folder)},
        check=True,
        capture_output=True,
        timeout=30,
    )
    # The shells of that home find this very interpreter, wherever it is installed.
    with (home / ".bashrc").open("a") as file:
        file.write(f'export PATH="{Path(sys.executable).parent}:$PATH"\n')


@contextmanager
def sshd(home: Path, address: str, port: int, prefix: Sequence[str] = ()) -> Iterator[None]:
    """An sshd for a prepared home, until the block ends."""
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    command = [program("sshd"), "-D", "-e", "-f", str(home / ".ssh" / "sshd_config")]
    options = ["-o", f"ListenAddress={address}:{port}"]
    with (home / "sshd.log").open("w") as log:
        process = subprocess.Popen([*prefix, *command, *options], stderr=log)
    try:
        wait_for(lambda: "listening on" in (home / "sshd.log").read_text(), 10.0, "sshd")
        yield
    finally:
        # Connections outlive the sshd that took them, and some end only with their last packet.
        for one in [*psutil.Process(process.pid).children(recursive=True), process]:
            one.terminate()
        process.wait(timeout=10)


def wait_for(is_true: Any, seconds: float, what: str) -> None:
    """Ask again and again, for so long."""
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:g} s"
        time.sleep(0.1)


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on now, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def with_free_ports(command: str) -> tuple[str, dict[str, int]]:
    """A `ray start` command with other ports, and which they are by their options' names."""
    names = [name for name, _ in PORT.findall(command) if "worker" not in name]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    return PORT.sub(lambda m: f"--{m[1]}={ports.get(m[1], m[2])}", command), ports


def write_yaml(path: Path, content: Any) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def num_processes(ray_folder: Path) -> int:
    """Of the Ray that keeps its files in a folder."""
    return len(ray_processes(ray_folder / "ray"))
