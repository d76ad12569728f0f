"""Whether all nodes of a cluster see one folder, asked before anything is trained there."""

import secrets
import socket
from pathlib import Path

from cluster.every_node import Look, complaints, in_words


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
