"""Checks before training that all nodes of a cluster share one folder."""

import secrets
import socket
from pathlib import Path

from cluster.every_node import Look, complaints, in_words


class NotSharedError(ValueError):
    """Some nodes do not share the folder; the message names them."""


def check_shared(folder: Path, *, look: Look | None = None, timeout_s: float = 60.0) -> None:
    """Check that every node of the joined cluster can read and write a folder.

    This node writes a marker file and every node reads it, so that a different folder with the same
    path is detected. Ray must be running.

    Args:
        folder: Existing folder.
        look: Check that each node runs; by default it reads the marker and tests write access.
        timeout_s: Time limit [s]; a node without an answer counts as failed.

    Raises:
        NotSharedError: If a node cannot read and write the folder.
    """
    marker = folder.resolve() / f".shared-{secrets.token_hex(8)}"
    content = secrets.token_hex(16)
    marker.write_text(content)
    try:
        found = complaints(look or _make_look(), str(marker), content, timeout_s=timeout_s)
    finally:
        marker.unlink()
    if found:
        raise NotSharedError(
            f"every node must see the folder of the sweep, {folder.resolve()} on "
            f"{socket.gethostname()}, since trials keep their checkpoints there wherever they run, "
            f"but not all do ({in_words(found)}); choose a `--storage` that all nodes mount under "
            "the same path, such as a folder on NFS"
        )


def _make_look() -> Look:
    """The default check, as a closure: Ray sends it whole, so the node imports none of our code."""

    def look(path: str, content: str) -> str:
        import os

        try:
            with open(path) as file:
                found = file.read()
        except OSError as error:
            return error.strerror or str(error)
        if found != content:
            return "a different folder with the same path"
        return "" if os.access(os.path.dirname(path), os.W_OK) else "it may not write there"

    return look
