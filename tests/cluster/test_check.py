"""What ships has no fault, and each planted fault is found where it stands, and nothing else is."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from cluster.check import LAUNCH, app, file_faults, pinned_ray, shipped_files
from cluster.launch.fault import Fault

ROOT = Path(__file__).resolve().parents[2]
RAY_VERSION = pinned_ray((ROOT / "constraints.txt").read_text())

Change = Callable[[Any], object]


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["--constraints", str(ROOT / "constraints.txt"), *arguments])
    return result.exit_code, result.output


def faults_after(name: str, change: Change) -> list[Fault]:
    """Of a shipped file with one thing changed; a manifest is a list of documents."""
    path = LAUNCH / name
    # Through JSON, so that what YAML's anchors share becomes separate.
    documents = json.loads(json.dumps(list(yaml.safe_load_all(path.read_text()))))
    change(documents if len(documents) > 1 else documents[0])
    text = yaml.safe_dump_all(documents)
    return file_faults(path, text, RAY_VERSION)[0]


def replace(key: str, old: str, new: str) -> Change:
    """Change the text of the last command under a key."""

    def change(config: Any) -> None:
        assert old in config[key][-1]
        config[key][-1] = config[key][-1].replace(old, new)

    return change


def put(path: str, value: object) -> Change:
    """Set what stands at a path of keys; a number is an index; None removes it."""

    def change(config: Any) -> None:
        *parents, last = [int(part) if part.isdigit() else part for part in path.split("|")]
        for part in parents:
            config = config[part]
        if value is None:
            del config[last]
        else:
            config[last] = value

    return change


def node(kind: str, key: str, value: object) -> Change:
    return put(f"available_node_types|{kind}|{key}", value)


HEAD, WORKER = "head_start_ray_commands", "worker_start_ray_commands"
GROUP = "available_node_types.worker.node_config.SecurityGroupIds"
PLANTED = [
    # Ray's own schema
    ("aws.yaml", put("max_worker", 3), "", "max_worker"),
    ("aws.yaml", put("idle_timeout_minutes", "5"), "idle_timeout_minutes", "not of type"),
    ("gcp.yaml", node("worker", "resources", None), "available_node_types.worker", "resources"),
    ("gcp.yaml", put("head_node_type", "master"), "provider", "head_node_type"),
    ("aws.yaml", node("worker", "min_workers", 9), "provider", "max_workers"),
    ("on-premise.yaml", put("provider|worker_ips", None), "provider", "worker_ips"),
    ("aws.yaml", put("provider|type", "cloud"), "provider", "cloud"),
    # no token
    ("aws.yaml", replace(HEAD, "RAY_AUTH_MODE=token", "X=1"), f"{HEAD}[1]", "not set"),
    ("azure.yaml", replace(WORKER, "=token", "=disabled"), f"{WORKER}[1]", "is disabled"),
    ("localhost.yaml", replace(HEAD, "=token", "=disabled"), f"{HEAD}[1]", "is disabled"),
    ("gcp.yaml", put("file_mounts|~/.ray/auth_token", None), "file_mounts", "not mounted"),
    ("on-premise.yaml", put("setup_commands|0", "true"), "setup_commands", "chmod 600"),
    ("aws.yaml", put("metadata", {"t": "ab12" * 16}), "metadata.t", "must not be in the file"),
    # Ray's own commands, which have neither a token nor a closed dashboard
    ("aws.yaml", put(HEAD, None), HEAD, "Ray's defaults"),
    ("gcp.yaml", put(WORKER, None), WORKER, "Ray's defaults"),
    # a public dashboard
    ("aws.yaml", replace(HEAD, "host=127.0.0.1", "host=0.0.0.0"), f"{HEAD}[1]", "is 0.0.0.0"),
    ("gcp.yaml", replace(HEAD, "host=127.0.0.1", "host ::"), f"{HEAD}[1]", "is ::"),
    ("azure.yaml", replace(HEAD, "--dashboard-host=127.0.0.1", ""), f"{HEAD}[1]", "not given"),
    # another version of Ray, or any
    (
        "aws.yaml",
        put("head_setup_commands|0", "pip install 'ray[default]==2.59.0'"),
        "head_setup_commands[0]",
        "is 2.59.0",
    ),
    (
        "gcp.yaml",
        put("docker", {"image": "rayproject/ray:latest", "container_name": "ray"}),
        "docker.image",
        "is latest",
    ),
    (
        "on-premise.yaml",
        put("setup_commands|2", "pip install -e '.[tuning]'"),
        "setup_commands[2]",
        "newest",
    ),
    ("aws.yaml", put("setup_commands|3", "true"), "setup_commands", "not installed"),
    # open ports
    ("aws.yaml", node("worker", "node_config|SecurityGroupIds", None), GROUP, "0.0.0.0/0"),
    (
        "aws.yaml",
        put("provider|security_group", {"IpPermissions": [{"CidrIp": "0.0.0.0/0"}]}),
        "provider.security_group.IpPermissions[0].CidrIp",
        "the whole world",
    ),
    (
        "gcp.yaml",
        node("head", "node_config|networkInterfaces", [{"subnetwork": "x/subnetworks/default"}]),
        "available_node_types.head.node_config.networkInterfaces",
        "0.0.0.0/0",
    ),
    ("azure.yaml", put("provider|use_internal_ips", False), "provider.use_internal_ips", "public"),
    ("azure.yaml", put("provider|use_external_head_ip", True), "provider.use_internal_ips", "true"),
    # what ends, what goes on costing, and whom it takes along
    (
        "aws.yaml",
        node("head", "node_config|InstanceMarketOptions", {"MarketType": "spot"}),
        "available_node_types.head.node_config",
        "spot",
    ),
    ("gcp.yaml", put("idle_timeout_minutes", None), "idle_timeout_minutes", "costs"),
    (
        "azure.yaml",
        node("worker", "max_workers", None),
        "available_node_types.worker.max_workers",
        "costs",
    ),
    (
        "aws.yaml",
        node("worker", "resources", {"memory": 1}),
        "available_node_types.worker.resources",
        "CPU",
    ),
    ("on-premise.yaml", put(f"{WORKER}|0", "ray stop"), f"{WORKER}[0]", "every Ray on the host"),
    (
        "on-premise.yaml",
        replace(HEAD, "RAY_enable_autoscaler_v2=0", "X=0"),
        f"{HEAD}[1]",
        "starts no worker",
    ),
    ("on-premise.yaml", put("file_mounts|~", "."), "file_mounts.~", ".venv"),
    ("aws.yaml", replace(WORKER, "ulimit -n 65536;", ""), f"{WORKER}[1]", "open files"),
]

CLUSTER, JOB = "kubernetes/raycluster.yaml", "kubernetes/rayjob.yaml"
HEAD_POD = "0|spec|headGroupSpec|template|spec"
PLANTED_IN_MANIFESTS = [
    (CLUSTER, put("0|apiVersion", "ray.io/v1alpha1"), "RayCluster.apiVersion", "ray.io/v1"),
    (CLUSTER, put("0|spec|authOptions", None), "RayCluster.spec.authOptions.mode", "not set"),
    (
        JOB,
        put("0|spec|rayClusterSpec|authOptions|mode", "disabled"),
        "RayJob.spec.rayClusterSpec.authOptions.mode",
        "is disabled",
    ),
    (CLUSTER, put("0|spec|rayVersion", "2.59.0"), "RayCluster.spec.rayVersion", "is 2.59.0"),
    (
        CLUSTER,
        put(f"{HEAD_POD}|containers|0|image", "x/ssmrl:latest"),
        "RayCluster.spec.headGroupSpec.template.spec.containers[0].image",
        "x/ssmrl:latest",
    ),
    (
        CLUSTER,
        put("0|spec|headGroupSpec|serviceType", "LoadBalancer"),
        "RayCluster.spec.headGroupSpec.serviceType",
        "is LoadBalancer",
    ),
    (
        CLUSTER,
        put(f"{HEAD_POD}|containers|0|env", [{"name": "RAY_AUTH_TOKEN", "value": "abc"}]),
        "RayCluster.spec.headGroupSpec.template.spec.containers.env",
        "secret",
    ),
    (
        CLUSTER,
        put(f"{HEAD_POD}|securityContext|runAsNonRoot", False),
        "RayCluster.spec.headGroupSpec.template.spec.containers[0].securityContext.runAsNonRoot",
        "true",
    ),
    (
        CLUSTER,
        put("0|spec|workerGroupSpecs|0|maxReplicas", None),
        "RayCluster.spec.workerGroupSpecs[0].maxReplicas",
        "costs",
    ),
    (
        CLUSTER,
        put("0|spec|workerGroupSpecs|0|template|metadata|labels", {"app": "other"}),
        "RayCluster.spec.workerGroupSpecs[0].template.metadata.labels",
        "NetworkPolicy",
    ),
    (
        JOB,
        put("0|spec|submitterPodTemplate|metadata|labels", {"app": "other"}),
        "RayJob.spec.submitterPodTemplate.metadata.labels",
        "NetworkPolicy",
    ),
    (CLUSTER, put("1|spec|ingress|0|from", []), "NetworkPolicy.spec.ingress[0].from", "everyone"),
    (
        CLUSTER,
        put("1|spec|ingress|1|from", [{"namespaceSelector": {}}]),
        "NetworkPolicy.spec.ingress[1].from",
        "labels",
    ),
    (
        JOB,
        put("1|spec|ingress|0|from", [{"ipBlock": {"cidr": "10.0.0.0/8"}}]),
        "NetworkPolicy.spec.ingress[0].from",
        "10.0.0.0/8",
    ),
    (CLUSTER, put("1|spec|policyTypes", ["Egress"]), "NetworkPolicy.spec.policyTypes", "Ingress"),
    (
        JOB,
        put("0|spec|shutdownAfterJobFinishes", False),
        "RayJob.spec.shutdownAfterJobFinishes",
        "costing",
    ),
    (
        JOB,
        put("0|spec|activeDeadlineSeconds", None),
        "RayJob.spec.activeDeadlineSeconds",
        "costs",
    ),
    (JOB, put("0|spec|entrypoint", ""), "RayJob.spec.entrypoint", "command"),
    (
        CLUSTER,
        lambda documents: documents.append({"apiVersion": "v1", "kind": "Ingress"}),
        "Ingress",
        "port-forward",
    ),
]


def test_every_shipped_file_passes() -> None:
    names = {str(path.relative_to(LAUNCH)) for path in shipped_files()}
    providers = {f"{name}.yaml" for name in ("aws", "azure", "gcp", "localhost", "on-premise")}
    assert names == {*providers, CLUSTER, JOB, "Containerfile"}
    code, said = run()
    assert code == 0, said
    assert said.count(": no fault\n") == len(names)


@pytest.mark.parametrize(
    ("name", "change", "where", "message"),
    PLANTED + PLANTED_IN_MANIFESTS,
    ids=[f"{name}-{where}-{message}" for name, _, where, message in PLANTED + PLANTED_IN_MANIFESTS],
)
def test_a_planted_fault_is_found_and_nothing_else(
    name: str, change: Change, where: str, message: str
) -> None:
    (fault,) = faults_after(name, change)
    assert fault.where == where
    assert message in fault.message


def test_a_policy_that_selects_by_expressions_alone_is_not_counted_on() -> None:
    expressions = [{"key": "app", "operator": "In", "values": ["other"]}]
    faults = faults_after(CLUSTER, put("1|spec|podSelector", {"matchExpressions": expressions}))
    assert len(faults) == 3, "the head and two groups of workers"
    assert all("NetworkPolicy" in fault.message for fault in faults)


def test_every_command_is_something_that_bash_can_read() -> None:
    files = [path for path in shipped_files() if path.parent == LAUNCH and path.suffix == ".yaml"]
    texts = [
        text
        for path in files
        for key, value in yaml.safe_load(path.read_text()).items()
        if key.endswith("_commands")
        for text in value
    ]
    assert len(texts) > 30
    for text in [*texts, (LAUNCH / "node.sh").read_text(), (LAUNCH / "localhost.sh").read_text()]:
        read = subprocess.run(
            ["bash", "-n"], input=text, capture_output=True, text=True, check=False
        )
        assert read.returncode == 0, f"{text}\n{read.stderr}"


def test_every_shipped_version_moves_with_the_constraints() -> None:
    """Another pinned version is found in every file that names one, so none is forgotten."""
    for path in shipped_files():
        text = path.read_text()
        found = file_faults(path, text, "9.9.9")[0]
        assert bool(found) == ("2.60.0" in text and path.name != "Containerfile"), path


def test_the_command_says_file_key_and_remedy(tmp_path: Path) -> None:
    broken = tmp_path / "mine.yaml"
    text = (LAUNCH / "aws.yaml").read_text()
    broken.write_text(text.replace("--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0"))
    code, said = run(str(broken))
    assert code == 1
    (line,) = [line for line in said.splitlines() if "to do before" not in line]
    assert line.startswith(f"{broken}: {HEAD}[1]: ")
    assert "write --dashboard-host=127.0.0.1" in line


def test_placeholders_are_notes_until_the_file_is_said_to_be_ready(tmp_path: Path) -> None:
    path = LAUNCH / "on-premise.yaml"
    code, said = run(str(path))
    assert (code, "auth.ssh_user: fill in YOUR-USER" in said) == (0, True)
    code, said = run("--ready", str(path))
    assert (code, "auth.ssh_user: fill in YOUR-USER" in said) == (1, True)
    filled = tmp_path / "on-premise.yaml"
    text = path.read_text()
    for name in ("YOUR-USER", "YOUR-HEAD-ADDRESS"):
        text = text.replace(name, "10.0.0.1")
    text = text.replace("YOUR-FIRST-WORKER-ADDRESS, YOUR-SECOND-WORKER-ADDRESS", "10.0.0.2")
    filled.write_text(text)
    assert run("--ready", str(filled))[0] == 0


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "a: [\n", "a: 1\n---\nb: 2\n"])
def test_what_is_no_launch_file_is_a_fault_and_no_crash(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    code, said = run(str(path))
    assert code == 1
    assert said.startswith(f"{path}: ")


def test_what_cannot_be_read_is_bad_usage(tmp_path: Path) -> None:
    assert run(str(tmp_path / "nothing.yaml"))[0] == 2
    empty = tmp_path / "constraints.txt"
    empty.write_text("torch==2.13.0\n")
    result = CliRunner().invoke(app, ["--constraints", str(empty)])
    assert result.exit_code == 2
    assert "ray==VERSION" in result.output


def test_another_installed_ray_is_a_fault(tmp_path: Path) -> None:
    other = tmp_path / "constraints.txt"
    other.write_text("ray==9.9.9\n")
    containerfile = str(LAUNCH / "Containerfile")
    result = CliRunner().invoke(app, ["--constraints", str(other), containerfile])
    assert result.exit_code == 1
    assert f"ray==9.9.9 is pinned, but {RAY_VERSION} is installed" in result.output


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("when: !!timestamp soon", "must not use tags, but line 2 does"),
        ("count: !!int many", "must not use tags, but line 2 does"),
        ("bytes: !!binary '%'", "must not use tags, but line 2 does"),
        ("own: !mine 3", "must not use tags, but line 2 does"),
        ("when: 2026-13-45", "holds an invalid value: month must be in 1..12"),
        ("deep: " + "[" * 5000, "must be at most 50 levels deep, but line 2 is deeper"),
        ("loop: &it [*it]", "the alias in line 2 contains itself"),
    ],
)
def test_yaml_that_gives_no_value_is_a_fault_in_a_line(
    line: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(f"cluster_name: a\n{line}\n")
    exit_code, output = run(str(path))
    assert exit_code == 1
    assert message in output
    assert len(output.splitlines()) == 1
