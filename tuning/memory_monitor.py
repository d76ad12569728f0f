"""Reads the message of Ray's memory monitor: which processes it killed, and their memory."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

# The wording of Ray 2.60.
_SENTENCE = re.compile(r"\d+ worker\(s\) were killed due to the node running low on memory")
_KILLED = re.compile(r"Selected to kill: .*?pid=(\d+), actual memory used=([\d.]+)GB")
_USER = re.compile(r"^(\d+)\t([\d.]+)\t", re.MULTILINE)


@dataclass(frozen=True)
class MonitorKill:
    """One kill of Ray's memory monitor, which may end several processes of a node.

    Attributes:
        sentence: First sentence of the message.
        killed: Memory of the killed processes, by pid [GiB].
        living: Memory of the largest other processes of the node, by pid [GiB].
    """

    sentence: str
    killed: Mapping[int, float]
    living: Mapping[int, float]

    @classmethod
    def read(cls, message: str) -> Self | None:
        """The kill in a message; None if the message is about something else."""
        sentence = _SENTENCE.search(message)
        if sentence is None:
            return None
        killed = {int(pid): float(size) for pid, size in _KILLED.findall(message)}
        users = {int(pid): float(size) for pid, size in _USER.findall(message)}
        living = {pid: size for pid, size in users.items() if pid not in killed}
        return cls(sentence[0], killed, living)
