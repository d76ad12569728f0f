"""A cluster is launched, used and ended as a user does it, over an sshd on this machine."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import yaml

from cluster.check import file_faults, pinned_ray
from tests.cluster.launching import (
    LAUNCH,
    PUMP,
    ROOT,
    environment,
    free_ports,
    missing_programs,
    num_processes,
    prepare,
    run,
    short_folder,
    sshd,
    wait_for,
    with_free_ports,
    write_yaml,
)
from tests.tuning.tiny_memory import ENV_STEPS, write_space

MISSING = missing_programs("sshd", "ssh", "ssh-keygen", "rsync")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {MISSING}; .ci/run installs them"),
]
RAY = str(Path(sys.executable).parent / "ray")
BYSTANDER = """
import ray
from cluster.session import session
with session(num_cpus=1):
    print("up", flush=True)
    input()
    print(ray.get(ray.remote(lambda: 41).remote()) + 1, flush=True)
"""


@dataclass(frozen=True)
class Launched:
    """A cluster that `ray up` started.

    Attributes:
        file: The launch file.
        home: Of the head's shells.
        ray_folder: Where its Ray keeps its files.
        address: Of its dashboard.
        local: Of the side that launches: environment variables.
        bystander: A process with another Ray, started before.
    """

    file: Path
    home: Path
    ray_folder: Path
    address: str
    local: dict[str, str]
    bystander: "subprocess.Popen[str]"

    def ray(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [RAY, *arguments]
        return run(command, self.local)

    def submit_command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "cluster.submit", "--address", self.address, *arguments]

    def submit(
        self, *arguments: str, token: str | None = None
    ) -> "subprocess.CompletedProcess[str]":
        default = {"RAY_AUTH_TOKEN_PATH": str(self.home / ".ray" / "auth_token")}
        return run(
            self.submit_command(*arguments),
            self.local | (default if token is None else {"RAY_AUTH_TOKEN": token}),
        )


@pytest.fixture(scope="module")
def launched() -> Iterator[Launched]:
    """`ray up` with a file derived from the shipped one, with a bystander on the same machine."""
    with ExitStack() as stack:
        local, remote, other = (stack.enter_context(short_folder()) for _ in range(3))
        bystander = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", BYSTANDER],
                env=environment(other, HOME=str(other)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
        )
        stack.callback(bystander.kill)
        home = local / "home"
        prepare(home, remote)
        (ssh_port,) = free_ports(1)
        stack.enter_context(sshd(home, "127.0.0.1", ssh_port))
        (local / "pump.py").write_text(PUMP)
        config = yaml.safe_load((LAUNCH / "localhost.yaml").read_text())
        config["cluster_name"] = f"ssmrl-test-{os.getpid()}"
        config["auth"] = {
            "ssh_user": subprocess.check_output(["id", "-un"], text=True).strip(),
            "ssh_private_key": str(home / ".ssh" / "id_ed25519"),
            "ssh_proxy_command": f"{sys.executable} {local}/pump.py 127.0.0.1 {ssh_port}",
        }
        config["file_mounts"] = {"~/.ray/auth_token": str(home / ".ray" / "auth_token")}
        start, ports = with_free_ports(config["head_start_ray_commands"][-1])
        config["head_start_ray_commands"][-1] = start
        file = write_yaml(local / "launch.yaml", config)
        pinned = pinned_ray((ROOT / "constraints.txt").read_text())
        assert file_faults(file, file.read_text(), pinned) == ([], [])
        this = Launched(
            file,
            home,
            remote,
            f"http://127.0.0.1:{ports['dashboard-port']}",
            environment(local, HOME=str(local)),
            bystander,
        )
        assert bystander.stdout is not None
        assert bystander.stdout.readline() == "up\n"
        up = this.ray("up", "-y", str(file))
        assert up.returncode == 0, up.stdout + up.stderr
        # Before anything may be ended: the shells there have the `ray stop` that spares others.
        kind = this.ray("exec", str(file), "type ray")
        assert "ray is a function" in kind.stdout + kind.stderr, kind.stdout + kind.stderr
        yield this


def test_the_shipped_way_in_needs_no_running_sshd(launched: Launched) -> None:
    """What localhost.yaml has as its proxy command, and the shells behind it."""
    shipped = yaml.safe_load((LAUNCH / "localhost.yaml").read_text())["auth"]["ssh_proxy_command"]
    user = subprocess.check_output(["id", "-un"], text=True).strip()
    options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes"]
    said = subprocess.run(
        [
            *("ssh", "-tt", "-i", str(launched.home / ".ssh" / "id_ed25519")),
            *(word for option in [*options, f"ProxyCommand={shipped}"] for word in ("-o", option)),
            *(f"{user}@127.0.0.1", "bash", "--login", "-c", "-i"),
            "'source ~/.bashrc; type -t ray; echo $RAY_AUTH_MODE; echo ~; echo $RAY_TMPDIR'",
        ],
        cwd=ROOT,
        env=launched.local | {"SSMRL_LOCALHOST": str(launched.home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    ).stdout
    expected = ["function", "token", str(launched.home), str(launched.ray_folder)]
    assert said.split() == expected


def test_a_sweep_runs_as_a_job_and_leaves_its_table(launched: Launched, tmp_path: Path) -> None:
    sweep = ["python", "-m", "tuning.sweep", "--task", "point", "--num-samples", "2"]
    size = ["--max-env-steps", str(ENV_STEPS), "--space", str(write_space(tmp_path))]
    size += ["--num-confirmed", "0", "--address", "auto", "--json"]
    place = ["--storage", str(tmp_path), "--name", "small"]
    done = launched.submit("--name", "small", "--", *sweep, *size, *place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "t0001 COMPLETE" in done.stdout  # the log was followed
    assert "small: SUCCEEDED" in done.stderr
    frame = pd.read_csv(tmp_path / "small" / "trials.csv")
    assert list(frame["trial_id"]) == ["t0000", "t0001"]
    assert set(frame["state"]) == {"COMPLETE"}
    assert (frame["env_steps"] >= ENV_STEPS).all()


def test_the_exit_code_is_the_jobs(launched: Launched) -> None:
    done = launched.submit("--", "python", "-c", "print('a b'); raise SystemExit(3)")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "a b\n" in done.stdout
    again = launched.submit("--name", "small", "--", "true")
    assert again.returncode == 2
    assert "rejects the job" in again.stderr


@pytest.mark.parametrize(
    ("token", "said"), [("", "requires a token"), ("f" * 64, "rejects the token")]
)
def test_nobody_submits_without_the_token(launched: Launched, token: str, said: str) -> None:
    refused = launched.submit("--", "true", token=token)
    assert refused.returncode == 2
    (line,) = refused.stderr.strip().splitlines()
    assert said in line


def test_ctrl_c_leaves_the_job_and_says_how_to_follow_and_stop_it(launched: Launched) -> None:
    local = launched.local | {"RAY_AUTH_TOKEN_PATH": str(launched.home / ".ray" / "auth_token")}
    with subprocess.Popen(
        launched.submit_command("--", "sh", "-c", "echo begun; sleep 60"),
        env=local,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if line == "begun\n":
                break
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(timeout=20) == 130, said
    assert re.search(r"follow: *RAY_AUTH_MODE=token ray job logs --follow --address ", said)
    stop = re.search(r"stop: *(RAY_AUTH_MODE=token ray job stop --address .+)", said)
    assert stop is not None
    # What it says to do does what it says.
    ended = run(["sh", "-c", stop[1].replace("ray ", f"{RAY} ", 1)], local, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "stopped" in ended.stdout + ended.stderr


def test_the_token_on_the_node_is_its_owners_alone(launched: Launched) -> None:
    assert (launched.home / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
    dashboard = launched.address.removeprefix("http://")
    listening = subprocess.check_output(["ss", "-Hltn"], text=True)
    ours = [line.split()[3] for line in listening.splitlines()]
    port = dashboard.rpartition(":")[2]
    assert [place for place in ours if place.endswith(f":{port}")] == [dashboard]


def test_ray_down_ends_this_cluster_and_nothing_else(launched: Launched) -> None:
    assert num_processes(launched.ray_folder) > 3
    down = launched.ray("down", "-y", str(launched.file))
    assert down.returncode == 0, down.stdout + down.stderr
    wait_for(lambda: num_processes(launched.ray_folder) == 0, 10.0, "the end of Ray")
    bystander = launched.bystander
    assert bystander.poll() is None
    answer, _ = bystander.communicate("go on\n", timeout=60)
    assert answer == "42\n"
    assert bystander.returncode == 0
