"""Checks that a study has enough trials for its rounds."""

from ssmrl.meta.algorithms import get_algorithm
from tuning.plan_defaults import BY_KIND


def check_trials(
    algorithm: str,
    budget_trials: int,
    rounds: int,
    num_confirmed: int | None,
    num_fresh_seeds: int | None,
) -> None:
    """Check that each round has a trial; the message names this command's flags.

    Raises:
        ValueError: If there are too few, or the algorithm is not known.
    """
    usual = BY_KIND[get_algorithm(algorithm).kind]
    confirmed = usual.num_confirmed(budget_trials) if num_confirmed is None else num_confirmed
    fresh = usual.num_fresh_seeds(budget_trials) if num_fresh_seeds is None else num_fresh_seeds
    kept_back = max(0, confirmed) + 2 * max(0, fresh)
    if rounds >= 1 and budget_trials - kept_back < rounds:
        raise ValueError(
            f"each of the {rounds} rounds must have a trial, but `--budget-trials` is "
            f"{budget_trials}, of which {kept_back} are for confirmation and the verdict; raise "
            "it, or lower `--rounds`, `--num-confirmed` or `--num-fresh-seeds`"
        )
