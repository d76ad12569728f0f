"""The table of which RLlib class runs which algorithm; it imports none of them."""

from typing import TYPE_CHECKING

from ssmrl.import_path import imported, is_import_path
from ssmrl.meta.algorithms import get_algorithm
from ssmrl.unknown_name import UnknownNameError

if TYPE_CHECKING:
    from cluster.meta_algorithm import MetaConfig

_BY_GRADIENT = "cluster.algorithm:MAMLConfig"
_BY_MEMORY = "cluster.context_sac:ContextSACConfig"
_BY_KIND = {"gradient": _BY_GRADIENT, "memory": _BY_MEMORY}

ALGORITHMS: dict[str, str] = {
    "context-sac": _BY_MEMORY,
    "promp": _BY_GRADIENT,
    "e-maml": _BY_GRADIENT,
    "maml-trpo": _BY_GRADIENT,
}
"""Algorithm name in a configuration -> import path, ``"package.module:NAME"``, of its settings
class. The names are those of ``ssmrl.meta.algorithms``."""


def config_type(name: str) -> "type[MetaConfig]":
    """The RLlib settings class for a configuration's ``algorithm``.

    An algorithm of another package uses the class of this project's algorithms of the same kind.

    Raises:
        KeyError: If RLlib runs no algorithm of that name; the message lists those it runs.
    """
    if is_import_path(name):
        return _found(_BY_KIND[get_algorithm(name).kind])
    if name not in ALGORITHMS:
        raise UnknownNameError(
            f"`algorithm` must be one that RLlib runs, {', '.join(ALGORITHMS)}, but got {name!r}; "
            "train it in a single process, without runners and learners"
        )
    return _found(ALGORITHMS[name])


def _found(path: str) -> "type[MetaConfig]":
    found: type[MetaConfig] = imported(path)
    return found
