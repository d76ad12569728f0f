"""Faults of a file that starts a cluster; the rule modules find them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_PLACEHOLDER = re.compile(r"YOUR-[A-Z0-9-]*[A-Z0-9]")


@dataclass(frozen=True)
class Fault:
    """One thing to change before a cluster is started with a file.

    Attributes:
        where: Key, for example ``available_node_types.worker.resources``, or line number.
        message: Requirement, current value, and what to write instead.
    """

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


def leaves(value: object, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every key and scalar of parsed YAML, with the path to it.

    Example:
        >>> list(leaves({"provider": {"worker_ips": ["a", "b"]}}))
        [('provider.worker_ips[0]', 'a'), ('provider.worker_ips[1]', 'b')]
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from leaves(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{where}[{index}]")
    else:
        yield where, value


def mapping(value: object) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty mapping."""
    return value if isinstance(value, Mapping) else {}


def sequence(value: object) -> Sequence[Any]:
    """The value if it is a list, else an empty sequence."""
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def placeholders(value: object) -> list[Fault]:
    """The placeholders that the user still has to fill in.

    Example:
        >>> [str(fault) for fault in placeholders({"auth": {"ssh_user": "YOUR-USER"}})]
        ['auth.ssh_user: fill in YOUR-USER']
    """
    found = []
    for where, leaf in leaves(value):
        names = _PLACEHOLDER.findall(leaf) if isinstance(leaf, str) else []
        found += [Fault(where, f"fill in {name}") for name in dict.fromkeys(names)]
    return found
