"""Check that all nodes of a cluster can import the user's own parts, in the driver's version."""

from collections.abc import Iterable

from cluster.every_node import Look, complaints, in_words
from ssmrl.import_path import source_digest


class MissingModuleError(ValueError):
    """A node cannot import one of the user's own parts; the message names both."""


def check_modules(
    paths: Iterable[str], *, look: Look | None = None, timeout_s: float = 60.0
) -> None:
    """Check that every node of the joined cluster can import some parts; Ray must be running.

    Args:
        paths: Import paths, ``package.module:NAME``, that can be imported in this process.
        look: How a node looks; by default it imports the part and compares the SHA-256 of its
            module's source with that here, if it has a source here.
        timeout_s: A node that has not answered by then cannot import it [s].

    Raises:
        MissingModuleError: If a node cannot import one of them, or has another version of it.
    """
    for path in paths:
        found = complaints(look or _make_look(), path, source_digest(path), timeout_s=timeout_s)
        if found:
            raise MissingModuleError(
                f"every node must have {path!r} as it is here, since trials are trained wherever "
                f"there is room, but not all do ({in_words(found)}); install its package on all "
                "nodes in the same version, or start the cluster in a shared folder that holds it"
            )


def _make_look() -> Look:
    """The default way to look, as a closure, which Ray sends whole."""

    def look(path: str, digest: str) -> str:
        from ssmrl.import_path import ImportPathError, source_digest

        try:
            found = source_digest(path)
        except ImportPathError as error:
            return str(error).strip().splitlines()[-1]
        return "" if digest in ("", found) else "another version of its module"

    return look
