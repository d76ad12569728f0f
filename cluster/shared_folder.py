"""Whether all nodes of a cluster see one folder, asked before anything is trained there."""

import secrets
import socket
from collections.abc import Callable
from pathlib import Path

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

Look = Callable[[str, str], str]
"""Path and content of a marker file -> what is wrong with it on this node; empty if nothing is."""


class NotSharedError(ValueError):
    """Some nodes do not see the folder; the message names them."""


def check_shared(folder: Path, *, look: Look | None = None, timeout_s: float = 60.0) -> None:
    """See that every node of the joined cluster can read and write a folder.

    A marker is written here and looked for there, so that another folder of the same path is not
    taken for it. Ray must be running.

    Args:
        folder: Must exist.
        look: How a node looks; by default it reads the marker and asks whether it may write.
        timeout_s: Nodes that have not answered by then do not see it [s].

    Raises:
        NotSharedError: If a node does not.
    """
    marker = folder.resolve() / f".shared-{secrets.token_hex(8)}"
    content = secrets.token_hex(16)
    marker.write_text(content)
    try:
        complaints = _ask(look or _make_look(), str(marker), content, timeout_s)
    finally:
        marker.unlink()
    if complaints:
        nodes = "; ".join(f"{node}: {complaint}" for node, complaint in complaints.items())
        raise NotSharedError(
            f"every node must see the folder of the sweep, {folder.resolve()} on "
            f"{socket.gethostname()}, since trials keep their checkpoints there wherever they run, "
            f"but not all do ({nodes}); choose a `--storage` that all nodes mount under the same "
            "path, such as a folder on NFS"
        )


def _ask(look: Look, marker: str, content: str, timeout_s: float) -> dict[str, str]:
    """Complaints by node."""
    task = ray.remote(num_cpus=0, max_retries=0)(look)
    asked = {}
    for node in ray.nodes():
        if node["Alive"]:
            here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            answer = task.options(scheduling_strategy=here).remote(marker, content)
            asked[answer] = f"{node['NodeManagerAddress']} ({node['NodeID'][:8]})"
    answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=timeout_s)
    complaints = {}
    for answer, node in asked.items():
        if answer not in answered:
            ray.cancel(answer, force=True)
            complaints[node] = f"no answer within {timeout_s:g} s"
            continue
        try:
            complaint = ray.get(answer)
        except RayError as error:
            complaint = str(error).strip().splitlines()[-1]
        if complaint:
            complaints[node] = complaint
    return complaints


def _make_look() -> Look:
    """The default way to look, as a closure: Ray sends it whole, and the node imports nothing."""

    def look(path: str, content: str) -> str:
        import os

        try:
            with open(path) as file:
                found = file.read()
        except OSError as error:
            return error.strerror or str(error)
        if found != content:
            return "another folder of the same path"
        return "" if os.access(os.path.dirname(path), os.W_OK) else "it may not write there"

    return look
