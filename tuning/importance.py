"""Which knobs decide whether a configuration is among the best; not in which direction to go."""

import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial

from tuning.spaces.ranges import Choice, Float, Range
from tuning.spaces.space import SearchSpace
from tuning.table.ranking import MIN_ELITE, Ranked, elite, ranking
from tuning.table.trial import Trial

MIN_CONFIGURATIONS = 2 * MIN_ELITE
NUM_RESAMPLES = 200
LEVEL = 0.95
_MIN_DIVERGENCE = 1e-9  # sum over all knobs; less is rounding


@dataclass(frozen=True)
class Importance:
    """How much one knob decides which configurations are the best, or why that is unknown.

    Attributes:
        knob: The knob.
        share: Its share of what all knobs explain, from 0 to 1; None if unknown.
        interval: Central 95 % of the shares of resampled configurations; None if there is no share.
            It is no confidence interval: a share is never negative, so the interval of a knob
            without any influence hardly ever reaches 0.
        reason: Why there is no share, in a few words; empty if there is one.
    """

    knob: str
    share: float | None = None
    interval: tuple[float, float] | None = None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return dataclasses.asdict(self)


def importance(
    rows: Sequence[Trial], space: SearchSpace, *, seed: int, num_resamples: int = NUM_RESAMPLES
) -> tuple[Importance, ...]:
    """The share of each knob by PED-ANOVA, with its interval over resampled configurations.

    A share says how much the elite's values of a knob differ from all tried values. It is never
    negative, so a knob without any influence has a small share, not none: read the intervals.

    Args:
        rows: The trials; only complete ones count, those of equal knobs once.
        space: Search space with the knobs to judge. Trials outside of it count too.
        seed: Random seed of the resampling.
        num_resamples: Number of resamples.

    Returns:
        The importance of each knob: largest share first, then those without a share.

    References:
        Watanabe, Bansal and Hutter 2023, "PED-ANOVA: Efficiently Quantifying Hyperparameter
        Importance in Arbitrary Subspaces". The elite is compared with what their section 4 calls
        the local space: the tried values, not all possible ones.
    """
    ranked = ranking(rows)
    reasons = _reasons(ranked, tuple(space.ranges))
    judged = [knob for knob in space.ranges if knob not in reasons]
    shares = np.zeros((0, len(judged)))
    if judged:
        frozen = _frozen_trials(ranked, {knob: space.ranges[knob] for knob in judged})
        draws = np.random.default_rng(seed).integers(len(frozen), size=(num_resamples, len(frozen)))
        samples = [frozen, *([frozen[index] for index in draw] for draw in draws.tolist())]
        shares = np.array([_shares(sample, judged, len(elite(ranked))) for sample in samples])
        if not shares[0].any():
            reasons |= dict.fromkeys(judged, "the scores do not tell the knobs apart")
    results = [Importance(knob, reason=reason) for knob, reason in reasons.items()]
    for knob, column in zip(judged, shares.T, strict=True):
        if knob not in reasons:
            results.append(_with_interval(knob, column))
    order = {knob: place for place, knob in enumerate(space.ranges)}
    return tuple(sorted(results, key=lambda r: (r.share is None, -(r.share or 0), order[r.knob])))


def _with_interval(knob: str, shares: "np.ndarray[Any, np.dtype[np.float64]]") -> Importance:
    """The importance of a knob from its share, which comes first, and the resampled ones."""
    share = float(shares[0])
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile(shares, (tail, 1.0 - tail)).tolist()
    # Resampling blurs the elite, so the largest share may lie above all resampled ones.
    return Importance(knob, share, (min(low, share), max(high, share)))


def _reasons(ranked: Sequence[Ranked], knobs: tuple[str, ...]) -> dict[str, str]:
    """Why knobs cannot be judged; those that can are left out."""
    if len(ranked) < MIN_CONFIGURATIONS:
        counts = f"{len(ranked)} complete configurations, but it takes {MIN_CONFIGURATIONS}"
        return dict.fromkeys(knobs, f"too few trials: {counts}")
    if len({configuration.mean for configuration in ranked}) == 1:
        return dict.fromkeys(knobs, "all scores are equal")
    reasons = {}
    for knob in knobs:
        values = [c.knobs[knob] for c in ranked if knob in c.knobs]
        if len(values) < MIN_ELITE:
            counts = f"{len(values)} complete configurations have it, but it takes {MIN_ELITE}"
            reasons[knob] = f"too few trials: {counts}"
        elif len(set(values)) == 1:  # Optuna's prior would give it a share
            reasons[knob] = "it never varied"
    if len(knobs) - len(reasons) == 1:
        (only,) = (knob for knob in knobs if knob not in reasons)
        reasons[only] = "no other knob can be compared with it"
    return reasons


def _frozen_trials(ranked: Sequence[Ranked], ranges: Mapping[str, Range]) -> list[FrozenTrial]:
    """The configurations as Optuna's trials, without inactive knobs."""
    distributions = {
        knob: _distribution(a_range, [c.knobs[knob] for c in ranked if knob in c.knobs])
        for knob, a_range in ranges.items()
    }
    trials = []
    for configuration in ranked:
        present = {k: v for k, v in configuration.knobs.items() if k in distributions}
        trial = optuna.trial.create_trial(
            params=present,
            distributions={k: distributions[k] for k in present},
            value=configuration.mean,
        )
        trials.append(trial)
    return trials


def _distribution(a_range: Range, values: Sequence[Any]) -> BaseDistribution:
    """The range, widened to all tried values: boxes move, and every trial is evidence."""
    if isinstance(a_range, Choice):
        return CategoricalDistribution(tuple(dict.fromkeys([*a_range.options, *values])))
    low, high = min(a_range.low, *values), max(a_range.high, *values)
    is_log = a_range.log and low > 0
    if isinstance(a_range, Float):
        return FloatDistribution(low, high, log=is_log)
    offsets = (int(value) - int(low) for value in (a_range.low, high, *values))
    step = 1 if is_log else math.gcd(a_range.step, *offsets)
    return IntDistribution(int(low), int(high), log=is_log, step=step)


def _shares(trials: Sequence[FrozenTrial], knobs: Sequence[str], num_elite: int) -> list[float]:
    """The share of each knob; zeros if nothing tells them apart."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # no line about the new study
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    # Half a trial less: Optuna multiplies this by the number of trials again, and rounds up.
    evaluator = PedAnovaImportanceEvaluator(target_quantile=(num_elite - 0.5) / len(trials))
    # A resample may lack every trial that has a conditional knob.
    present = [knob for knob in knobs if any(knob in trial.params for trial in trials)]
    with warnings.catch_warnings():
        for category in (UserWarning, optuna.exceptions.ExperimentalWarning):
            warnings.simplefilter("ignore", category)  # about few trials, which the interval shows
        divergences = evaluator.evaluate(study, present)
    total = sum(divergences.values())
    if not total > _MIN_DIVERGENCE:
        return [0.0] * len(knobs)
    return [divergences.get(knob, 0.0) / total for knob in knobs]
