"""Nodes with a GPU in the launch files: told to Ray, bounded, and beside those without."""

import json
import subprocess
from typing import Any

import pytest
import yaml

from cluster.check import LAUNCH, file_faults, pinned_ray
from tests.cluster.test_check import ROOT

CLOUDS = ["aws.yaml", "gcp.yaml", "azure.yaml"]


def load(name: str) -> Any:
    """Through JSON, so that what YAML's anchors share becomes separate."""
    (config, *_) = yaml.safe_load_all((LAUNCH / name).read_text())
    return json.loads(json.dumps(config))


def faults(name: str, config: Any) -> list[str]:
    ray_version = pinned_ray((ROOT / "constraints.txt").read_text())
    return [
        str(fault) for fault in file_faults(LAUNCH / name, yaml.safe_dump(config), ray_version)[0]
    ]


@pytest.mark.parametrize("name", CLOUDS)
def test_each_cloud_has_nodes_with_a_gpu_beside_those_without(name: str) -> None:
    nodes = load(name)["available_node_types"]
    assert set(nodes) == {"head", "worker", "gpu-worker"}
    with_gpu = {kind for kind, node in nodes.items() if "GPU" in node["resources"]}
    assert with_gpu == {"gpu-worker"}
    assert (nodes["gpu-worker"]["min_workers"], nodes["gpu-worker"]["max_workers"]) == (0, 1)
    assert faults(name, load(name)) == []


@pytest.mark.parametrize("name", CLOUDS)
def test_a_gpu_that_ray_is_not_told_of_is_a_fault(name: str) -> None:
    config = load(name)
    del config["available_node_types"]["gpu-worker"]["resources"]["GPU"]
    (fault,) = faults(name, config)
    assert fault.startswith("available_node_types.gpu-worker.resources: ")
    assert "has a GPU; write" in fault


@pytest.mark.parametrize("name", CLOUDS)
def test_a_gpu_that_is_not_there_is_a_fault(name: str) -> None:
    config = load(name)
    config["available_node_types"]["worker"]["resources"]["GPU"] = 1
    (fault,) = faults(name, config)
    assert fault.startswith("available_node_types.worker.resources: declares a GPU, but ")


@pytest.mark.parametrize("name", CLOUDS)
def test_an_unbounded_gpu_node_is_a_fault(name: str) -> None:
    config = load(name)
    del config["available_node_types"]["gpu-worker"]["max_workers"]
    (fault,) = faults(name, config)
    assert fault.startswith("available_node_types.gpu-worker.max_workers: must be set")


def test_an_attached_accelerator_counts_as_one() -> None:
    config = load("gcp.yaml")
    worker = config["available_node_types"]["worker"]
    worker["node_config"]["guestAccelerators"] = [{"acceleratorType": "t4", "acceleratorCount": 1}]
    assert "has a GPU; write" in faults("gcp.yaml", config)[0]
    worker["resources"]["GPU"] = 1
    assert faults("gcp.yaml", config) == []


@pytest.mark.parametrize("name", CLOUDS)
def test_the_driver_is_installed_where_there_is_a_gpu_and_not_here(name: str) -> None:
    (command,) = load(name)["worker_setup_commands"]
    assert "ubuntu-drivers install --gpgpu" in command
    elsewhere = command.replace("/sys/bus/pci/devices/*/vendor", "/dev/null")
    elsewhere = elsewhere.replace("sudo", "false")
    done = subprocess.run(["bash", "-c", elsewhere], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", CLOUDS)
def test_a_kind_of_node_with_a_setup_of_its_own_is_a_fault(name: str) -> None:
    """Ray then leaves out the setup of all nodes, which installs the project."""
    config = load(name)
    config["available_node_types"]["gpu-worker"]["worker_setup_commands"] = ["true"]
    (fault,) = faults(name, config)
    assert "replaces setup_commands" in fault


def test_pods_with_a_gpu_ask_kubernetes_for_it_and_tell_ray() -> None:
    groups = load("kubernetes/raycluster.yaml")["spec"]["workerGroupSpecs"]
    assert [group["groupName"] for group in groups] == ["worker", "gpu-worker"]
    (container,) = groups[1]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert groups[1]["rayStartParams"]["num-gpus"] == "1"
    assert (groups[1]["minReplicas"], groups[1]["maxReplicas"]) == (0, 1)
