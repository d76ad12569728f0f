"""A head and a worker on two hosts: network namespaces, each with its sshd, joined by a bridge."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.cluster.launching import (
    LAUNCH,
    ROOT,
    environment,
    missing_programs,
    num_processes,
    prepare,
    program,
    run,
    short_folder,
    sshd,
    wait_for,
    write_yaml,
)

RAY = str(Path(sys.executable).parent / "ray")
HEAD, WORKER, BRIDGE = 2, 3, 1

# To ssh, ~ is the home of the account, whatever HOME says; here both hosts have the same account.
SSH = """#!/bin/bash
exec {ssh} "${{@/#\\~\\/ray_bootstrap_key.pem/$HOME/ray_bootstrap_key.pem}}"
"""

# Waits for the second host, and then runs a task on each of the two.
JOB = """
import time, ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
ray.init(address="auto", log_to_driver=False)
deadline = time.monotonic() + 60
while len(nodes := [node for node in ray.nodes() if node["Alive"]]) < 2:
    assert time.monotonic() < deadline, "no second host joined"
    time.sleep(0.2)
where = ray.remote(num_cpus=0)(lambda: ray.util.get_node_ip_address())
places = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
print("ran on", *sorted(ray.get([where.options(scheduling_strategy=p).remote() for p in places])))
"""


def why_not() -> str | None:
    """What this machine lacks for hosts of its own."""
    missing = missing_programs("sshd", "ssh", "ssh-keygen", "rsync", "ip")
    if missing:
        return f"needs {missing}; .ci/run installs them"
    if os.getuid() != 0:
        return "only root makes network namespaces"
    name = f"probe{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode == 0:
        subprocess.run(["ip", "netns", "del", name], check=False)
        return None
    return f"no network namespaces here: {made.stderr.strip()}"


WHY_NOT = why_not()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT)),
]


@dataclass(frozen=True)
class Network:
    """A bridge on this machine with an address, and hosts behind it.

    Attributes:
        number: Tells it from others.
    """

    number: int

    def address(self, host: int) -> str:
        return f"10.{200 + self.number // 256 % 50}.{self.number % 256}.{host}"

    def name(self, host: int) -> str:
        return f"ss{self.number % 65536}h{host}"

    def inside(self, host: int) -> list[str]:
        return [program("ip"), "netns", "exec", self.name(host)]


def ip(*words: str) -> None:
    subprocess.run([program("ip"), *words], check=True, capture_output=True, timeout=10)


@contextmanager
def network() -> Iterator[Network]:
    """Two hosts that reach each other and this machine, and nothing else."""
    this = Network(os.getpid())
    bridge = this.name(BRIDGE)
    with ExitStack() as stack:
        ip("link", "add", bridge, "type", "bridge")
        stack.callback(ip, "link", "del", bridge)
        ip("addr", "add", f"{this.address(BRIDGE)}/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        for host in (HEAD, WORKER):
            name = this.name(host)
            ip("netns", "add", name)
            stack.callback(ip, "netns", "del", name)
            ip("link", "add", f"{name}a", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", f"{name}a", "master", bridge, "up")
            ip("-n", name, "addr", "add", f"{this.address(host)}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", "eth0", "up")
            # Ray asks for the way out to learn its own address; there is none to use.
            ip("-n", name, "route", "add", "default", "via", this.address(BRIDGE))
        yield this


def test_a_worker_on_another_host_joins_works_and_leaves() -> None:
    with ExitStack() as stack:
        hosts = stack.enter_context(network())
        local = stack.enter_context(short_folder())
        rays = {host: stack.enter_context(short_folder()) for host in (HEAD, WORKER)}
        homes = {host: local / f"home{host}" for host in (HEAD, WORKER)}
        for host, home in homes.items():
            prepare(home, rays[host])
            (home / "ssmrl").symlink_to(ROOT)
            if host == WORKER:  # gets the head's
                (home / ".ray" / "auth_token").unlink()
            (home / "bin").mkdir()
            (home / "bin" / "ssh").write_text(SSH.format(ssh=program("ssh")))
            (home / "bin" / "ssh").chmod(0o755)
            with (home / ".bashrc").open("a") as file:  # a worker waits so long for its lost head
                file.write("export RAY_gcs_rpc_server_reconnect_timeout_s=5 PATH=~/bin:$PATH\n")
            stack.enter_context(sshd(home, hosts.address(host), 22, prefix=hosts.inside(host)))
        # One key opens both hosts, as the head sets up the worker with the key that it is given.
        key = homes[HEAD] / ".ssh" / "id_ed25519"
        (homes[WORKER] / ".ssh" / "authorized_keys").write_text(key.with_suffix(".pub").read_text())
        file = write_yaml(local / "launch.yaml", launch_file(hosts, homes[HEAD], key))
        variables = environment(local, HOME=str(local))

        up = run([RAY, "up", "-y", str(file)], variables)
        assert up.returncode == 0, up.stdout + up.stderr
        token = {"RAY_AUTH_TOKEN_PATH": str(homes[HEAD] / ".ray" / "auth_token")}
        submit = [sys.executable, "-m", "cluster.submit", "--", "python", "-c", JOB]
        done = run([*hosts.inside(HEAD), *submit], variables | token)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"ran on {hosts.address(HEAD)} {hosts.address(WORKER)}\n" in done.stdout
        # The token came to the worker through the head, for its owner alone.
        arrived = homes[WORKER] / ".ray" / "auth_token"
        assert arrived.read_text() == (homes[HEAD] / ".ray" / "auth_token").read_text()
        assert arrived.stat().st_mode & 0o777 == 0o600

        down = run([RAY, "down", "-y", str(file)], variables)
        assert down.returncode == 0, down.stdout + down.stderr
        wait_for(lambda: num_processes(rays[HEAD]) == 0, 10.0, "the end of the head")
        wait_for(lambda: num_processes(rays[WORKER]) == 0, 30.0, "the end of the worker")


def launch_file(hosts: Network, home: Path, key: Path) -> dict[str, object]:
    """The shipped file for machines of one's own, for these hosts, where all is installed."""
    config: dict[str, object] = yaml.safe_load((LAUNCH / "on-premise.yaml").read_text())
    config["cluster_name"] = f"ssmrl-hosts-{os.getpid()}"
    config["provider"] = {
        "type": "local",
        "head_ip": hosts.address(HEAD),
        "worker_ips": [hosts.address(WORKER)],
    }
    config["max_workers"] = 1
    config["auth"] = {"ssh_user": "root", "ssh_private_key": str(key)}
    config["file_mounts"] = {"~/.ray/auth_token": str(home / ".ray" / "auth_token")}
    config["setup_commands"] = ["chmod 700 ~/.ray && chmod 600 ~/.ray/auth_token"]
    return config
