"""Reads TensorBoard's event files, without TensorBoard."""

import struct
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest


def events(folder: Path) -> list[Any]:
    """All events of a folder: records with a length of 8 bytes and two sums of 4 bytes."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    found = []
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            found.append(event_pb2.Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return found


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """By name each env step and value."""
    found = defaultdict(list)
    for event in events(folder):
        for value in event.summary.value:
            found[value.tag].append((event.step, value.simple_value))
    return found
