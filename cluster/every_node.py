"""Runs a check on every node of a cluster, before anything is trained."""

from collections.abc import Callable

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

Look = Callable[[str, str], str]
"""Check that a node runs: string arguments -> the fault of this node, or an empty string."""


def complaints(look: Look, *arguments: str, timeout_s: float = 60.0) -> dict[str, str]:
    """Run a check on every node, and return the faults by node; Ray must be running.

    Args:
        look: The check. Ray sends a closure whole, so the nodes need not have its module.
        arguments: Arguments of the check.
        timeout_s: Time limit [s]; a missing answer counts as a fault of its node.
    """
    task = ray.remote(num_cpus=0, max_retries=0)(look)
    asked = {}
    for node in ray.nodes():
        if node["Alive"]:
            here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            answer = task.options(scheduling_strategy=here).remote(*arguments)
            asked[answer] = f"{node['NodeManagerAddress']} ({node['NodeID'][:8]})"
    answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=timeout_s)
    found = {}
    for answer, node in asked.items():
        if answer not in answered:
            ray.cancel(answer, force=True)
            found[node] = f"no answer within {timeout_s:g} s"
            continue
        try:
            complaint = ray.get(answer)
        except RayError as error:
            complaint = str(error).strip().splitlines()[-1]
        if complaint:
            found[node] = complaint
    return found


def in_words(found: dict[str, str]) -> str:
    """The faults of all nodes on one line.

    Example:
        >>> in_words({"10.0.0.7 (ab12)": "no answer within 3 s", "10.0.0.8 (cd34)": "stale"})
        '10.0.0.7 (ab12): no answer within 3 s; 10.0.0.8 (cd34): stale'
    """
    return "; ".join(f"{node}: {complaint}" for node, complaint in found.items())
