"""The names of the searchers; ``samplers.py`` and ``own_searcher.py`` implement them."""

from ssmrl.import_path import ImportPathError, imported, is_import_path
from ssmrl.unknown_name import UnknownNameError

SEARCHERS = {
    "tpe": "tree-structured Parzen estimator",
    "gp": "Gaussian process",
    "cmaes": "CMA-ES",
    "qmc": "scrambled Sobol sequence",
    "random": "uniform draws",
}
"""Description of each searcher, by name."""


def check_searcher(name: str) -> None:
    """Check that a name is that of a searcher.

    Args:
        name: One of ``SEARCHERS``, or an import path as ``tuning.search.own_searcher`` takes it.

    Raises:
        KeyError: If a short name is unknown; the message lists the known ones.
        ImportPathError: If the object at an import path is neither a ``Searcher`` nor a sampler.
    """
    if not is_import_path(name):
        if name not in SEARCHERS:
            raise UnknownNameError(
                f"unknown searcher {name!r}; the searchers are: {', '.join(SEARCHERS)}; give one "
                "of your own as `package.module:NAME`"
            )
        return
    searcher = imported(name)
    if not hasattr(searcher, "sample_relative"):  # an Optuna sampler, without importing Optuna
        lacking = [part for part in ("ask", "tell") if not hasattr(searcher, part)]
        if lacking:
            raise ImportPathError(
                f"{name!r} must have `ask` and `tell`, or be a sampler with Optuna's interface, "
                f"but {searcher!r} lacks `{lacking[0]}`"
            )
