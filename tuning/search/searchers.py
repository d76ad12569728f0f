"""What may choose points, by name; not how (``samplers.py``, ``own_searcher.py``)."""

from ssmrl.import_path import ImportPathError, imported, is_import_path
from ssmrl.unknown_name import UnknownNameError

SEARCHERS = {
    "tpe": "tree-structured Parzen estimator",
    "gp": "Gaussian process",
    "cmaes": "CMA-ES",
    "qmc": "scrambled Sobol sequence",
    "random": "uniform draws",
}
"""By name, what each is."""


def check_searcher(name: str) -> None:
    """Refuse what chooses no points.

    Args:
        name: One of ``SEARCHERS``, or an import path as ``tuning.search.own_searcher`` has it.

    Raises:
        KeyError: If none has the short name; the message lists the known ones.
        ImportPathError: If what is at an import path neither asks and tells nor samples.
    """
    if not is_import_path(name):
        if name not in SEARCHERS:
            raise UnknownNameError(
                f"unknown searcher {name!r}; the searchers are: {', '.join(SEARCHERS)}; one of "
                "your own is given as `package.module:NAME`"
            )
        return
    searcher = imported(name)
    if not hasattr(searcher, "sample_relative"):  # of Optuna, which need not be imported for it
        lacking = [part for part in ("ask", "tell") if not hasattr(searcher, part)]
        if lacking:
            raise ImportPathError(
                f"{name!r} must have `ask` and `tell`, or be a sampler of Optuna's interface, but "
                f"{searcher!r} lacks `{lacking[0]}`"
            )
