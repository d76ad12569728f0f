"""Which RLlib class runs which algorithm; it imports none of them."""

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
"""Import path, ``"package.module:NAME"``, of the settings by the name in a configuration: the same
names as in ``ssmrl.meta.algorithms``."""


def config_type(name: str) -> "type[MetaConfig]":
    """The settings of the RLlib algorithm for a configuration's ``algorithm``.

    One of another package is run as those of this project that adapt in the same way.

    Raises:
        KeyError: If RLlib runs none of that name; the message lists those that it does.
    """
    if is_import_path(name):
        return _found(_BY_KIND[get_algorithm(name).kind])
    if name not in ALGORITHMS:
        raise UnknownNameError(
            f"`algorithm` must be one that RLlib runs, {', '.join(ALGORITHMS)}, but got {name!r}; "
            "train it in one process, without runners and learners"
        )
    return _found(ALGORITHMS[name])


def _found(path: str) -> "type[MetaConfig]":
    found: type[MetaConfig] = imported(path)
    return found
