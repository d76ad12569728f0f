"""Checks that all nodes of a cluster can import the user's own code, in the driver's version."""

from collections.abc import Iterable

from cluster.every_node import Look, complaints, in_words
from ssmrl.import_path import source_digest


class MissingModuleError(ValueError):
    """A node cannot import an object of the user's own code; the message names both."""


def check_modules(
    paths: Iterable[str], *, look: Look | None = None, timeout_s: float = 60.0
) -> None:
    """Check that every node of the joined cluster can import some objects; Ray must be running.

    Args:
        paths: Import paths, ``package.module:NAME``, that can be imported in this process.
        look: Check that each node runs; by default it imports the object and compares the SHA-256
            of its module's source with the driver's, if the driver has a source file.
        timeout_s: Time limit [s]; a node without an answer counts as failed.

    Raises:
        MissingModuleError: If a node cannot import one of them, or has another version of a module.
    """
    for path in paths:
        found = complaints(look or _make_look(), path, source_digest(path), timeout_s=timeout_s)
        if found:
            raise MissingModuleError(
                f"every node must have {path!r} in this machine's version, since trials run on any "
                f"node, but not all do ({in_words(found)}); install its package on all nodes in "
                "the same version, or start the cluster in a shared folder that holds it"
            )


def _make_look() -> Look:
    """The default check, as a closure, which Ray sends whole."""

    def look(path: str, digest: str) -> str:
        from ssmrl.import_path import ImportPathError, source_digest

        try:
            found = source_digest(path)
        except ImportPathError as error:
            return str(error).strip().splitlines()[-1]
        return "" if digest in ("", found) else "another version of its module"

    return look
