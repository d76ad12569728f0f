"""What nodes of a cluster lack, a folder or a part of the user's own, is found before training."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from cluster.own_modules import MissingModuleError, check_modules
from cluster.session import session
from cluster.shared_folder import NotSharedError, check_shared
from ssmrl.import_path import source_digest

BLIND = "blind"
PART = "part_of_a_user:FAMILY"


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The module of the part, in the working directory, which Ray's workers search too."""
    folder, before = tmp_path_factory.mktemp("user"), Path.cwd()
    file = folder / "part_of_a_user.py"
    file.write_text("FAMILY = 'mine'\n")
    sys.path.append(str(folder))
    os.chdir(folder)
    yield file
    os.chdir(before)
    sys.path.remove(str(folder))
    sys.modules.pop("part_of_a_user", None)


@pytest.fixture(scope="module")
def cluster(module: Path) -> Iterator[Cluster]:
    """Two nodes on this machine, which share its disk; the second one has a mark."""
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes.add_node(num_cpus=1, resources={BLIND: 1})
    try:
        with session(nodes.address):
            yield nodes
    finally:
        nodes.shutdown()


def node_of_the_mark() -> str:
    (node,) = (node["NodeID"] for node in ray.nodes() if BLIND in node["Resources"])
    return str(node)


def test_nodes_that_share_the_disk_pass_and_nothing_is_left(
    cluster: Cluster, tmp_path: Path
) -> None:
    assert len(ray.nodes()) == 2
    check_shared(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_node_that_sees_nothing_or_another_folder_is_named(
    cluster: Cluster, tmp_path: Path
) -> None:
    asked = tmp_path / "asked"
    asked.mkdir()

    def look(path: str, content: str) -> str:
        """Every node notes that it was asked; the marked one sees nothing."""
        node = ray.get_runtime_context().get_node_id()
        Path(path).with_name("asked").joinpath(node).write_text(content)
        return "No such file or directory" if node == blind else ""

    blind = node_of_the_mark()
    with pytest.raises(NotSharedError, match="No such file or directory") as raised:
        check_shared(tmp_path, look=look)
    nodes = {node["NodeID"] for node in ray.nodes()}
    assert {node.name for node in asked.iterdir()} == nodes
    message = str(raised.value)
    (other,) = nodes - {blind}
    assert blind[:8] in message
    assert other[:8] not in message
    assert str(tmp_path) in message
    assert "--storage" in message


def test_a_node_that_fails_or_hangs_is_named_and_the_marker_is_removed(
    cluster: Cluster, tmp_path: Path
) -> None:
    blind = node_of_the_mark()

    def look(path: str, content: str) -> str:
        import time

        if ray.get_runtime_context().get_node_id() == blind:
            time.sleep(60.0)
        raise OSError("the mount is stale")

    with pytest.raises(NotSharedError) as raised:
        check_shared(tmp_path, look=look, timeout_s=3.0)
    assert f"({blind[:8]}): no answer within 3 s" in str(raised.value)
    assert "the mount is stale" in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_another_folder_of_the_same_path_is_not_taken_for_it(tmp_path: Path) -> None:
    """What a node does to look, without a node."""
    from cluster.shared_folder import _make_look

    look = _make_look()
    marker = tmp_path / "marker"
    assert look(str(marker), "a") == "No such file or directory"
    marker.write_text("b")
    assert look(str(marker), "a") == "a different folder with the same path"
    assert look(str(marker), "b") == ""


def test_nodes_that_have_a_part_pass(cluster: Cluster) -> None:
    check_modules([PART, "math:pi"])


def test_the_node_that_lacks_a_part_is_named(cluster: Cluster) -> None:
    blind = node_of_the_mark()
    expected = source_digest(PART)

    def look(path: str, digest: str) -> str:
        assert (path, digest) == ("part_of_a_user:FAMILY", expected)
        is_blind = ray.get_runtime_context().get_node_id() == blind
        return "there is no module 'part_of_a_user'" if is_blind else ""

    with pytest.raises(MissingModuleError, match="there is no module") as raised:
        check_modules([PART], look=look)
    assert f"({blind[:8]}): there is no module" in str(raised.value)
    assert str(raised.value).count("there is no module") == 1


def test_another_version_is_told_by_every_node(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.own_modules.source_digest", lambda path: "0" * 64)
    with pytest.raises(MissingModuleError) as raised:
        check_modules([PART])
    assert str(raised.value).count("another version of its module") == 2


def test_a_module_that_no_other_process_finds_is_told_by_every_node(
    cluster: Cluster, module: Path
) -> None:
    """This process uses what it has imported; the nodes look at the disk."""
    gone = module.with_name("only_here.py")
    gone.write_text("FAMILY = 'mine'\n")
    assert source_digest("only_here:FAMILY")
    gone.unlink()
    with pytest.raises(MissingModuleError) as raised:
        check_modules(["only_here:FAMILY"])
    assert str(raised.value).count("there is no module 'only_here'") == 2
    sys.modules.pop("only_here")
