"""The samplers that draw the next point: Optuna's, adapted to search spaces.

A sampler is asked only for the active knobs of a point, each after the knob that it depends on.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as StudyState

from ssmrl.config import KnobValue
from ssmrl.import_path import is_import_path
from tuning.search.own_searcher import own_sampler
from tuning.search.study import (
    AVOIDED,
    IMPORTED,
    OUTSIDE,
    PLANNED,
    RESUMES,
    ROW,
    distribution,
    row_number,
)
from tuning.spaces.space import Choice, Float, Int, Range, SearchSpace

# Optuna's default of 10 random trials before any model is more than a short sweep has.
NUM_STARTUP_TRIALS = 5


def make_sampler(name: str, space: SearchSpace, *, seed: int, first_number: int) -> BaseSampler:
    """The sampler with this name; it leaves knobs that it cannot model to a simpler one.

    ``gp`` and ``cmaes`` draw conditional knobs by TPE, and ``cmaes`` choices too.

    Args:
        name: One of ``tuning.search.searchers.SEARCHERS``, or an import path as ``own_sampler``
            takes it.
        space: The space to sample.
        seed: Seed of the whole search.
        first_number: The number of the study's first row.
    """
    if name == "qmc":
        # The study stores the sequence's position under its seed, so the seed must not change; but
        # another study must not start the same sequence again. Optuna takes seeds of 32 bits;
        # seeds that fit are passed on as they are.
        is_first = first_number == 0 and seed < 2**32
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return SobolSampler(space, seed=seed if is_first else _seed(seed, first_number))
    # Suppresses Optuna's hint that another package would make it a seventh faster.
    logging.getLogger("optuna._gp.batched_lbfgsb").setLevel(logging.ERROR)
    return SamplerByTrial(partial(_drawing, name, space, seed), first_number)


def _drawing(
    name: str, space: SearchSpace, seed: int, number: int, num_avoided: int
) -> BaseSampler:
    """The sampler for the trial with this number, with its own random stream for each draw."""
    own = _seed(seed, number, *([num_avoided] if num_avoided else []))
    if is_import_path(name):
        return own_sampler(name, space, own)
    if name == "random":
        return RandomSampler(seed=own)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        tpe = TPESampler(
            seed=own, n_startup_trials=NUM_STARTUP_TRIALS, group=bool(space.conditions)
        )
        if name == "gp":
            return GPSampler(
                seed=own,
                n_startup_trials=NUM_STARTUP_TRIALS,
                independent_sampler=tpe,
                warn_independent_sampling=False,
            )
    return CmaEsSampler(space, seed=own, independent=tpe) if name == "cmaes" else tpe


def suggest_point(space: SearchSpace, trial: optuna.Trial) -> dict[str, KnobValue]:
    """The point of a trial: the planned one if it lies outside the space, else the sampler's."""
    if OUTSIDE in trial.user_attrs:
        return dict(trial.user_attrs[PLANNED])
    point: dict[str, KnobValue] = {}
    while waiting := [knob for knob in space.active_knobs(point) if knob not in point]:
        for knob in waiting:
            point[knob] = _suggest(trial, knob, space.ranges[knob])
    return point


def even_draws(space: SearchSpace, seed: int) -> Iterator[dict[str, KnobValue]]:
    """An endless stream of uniform draws from a space.

    Args:
        space: The space.
        seed: Seed of the draws.
    """
    study = optuna.create_study(sampler=RandomSampler(seed=seed))
    while True:
        yield suggest_point(space, study.ask())


class SamplerByTrial(BaseSampler):
    """Makes a new sampler for each trial, so that its draws depend only on the study.

    A sampler with one random stream for all trials could not resume after its process died: the
    position in the stream would be lost.

    Args:
        make: Makes the sampler from the number of the trial's row and the number of earlier draws
            that were not tried.
        first_number: The number of the study's first row.
    """

    def __init__(self, make: Callable[[int, int], BaseSampler], first_number: int) -> None:
        self._make, self._first_number = make, first_number
        self._sampler = make(first_number, 0)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The knobs that this trial's sampler draws jointly."""
        known = [earlier.user_attrs for earlier in study.get_trials(deepcopy=False)]
        rows = [row_number(attributes[ROW]) for attributes in known if ROW in attributes]
        number = 1 + max(rows, default=self._first_number - 1)
        self._sampler = self._make(number, sum(AVOIDED in attributes for attributes in known))
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The joint draw of this trial's sampler."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """An independent draw of one knob."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)


class SobolSampler(BaseSampler):
    """A scrambled Sobol sequence over all knobs of a space.

    Optuna's sampler takes its knobs from the first trial, which may lack some. Here the sequence
    fills the whole space, and a point leaves out the coordinates of knobs that it does not have.

    Args:
        space: The space.
        seed: Seed of the scrambling; the study keeps the position of each seed's sequence.
    """

    def __init__(self, space: SearchSpace, *, seed: int) -> None:
        self._space = {knob: distribution(a_range) for knob, a_range in space.ranges.items()}
        self._sobol = QMCSampler(
            scramble=True,
            seed=seed,
            warn_independent_sampling=False,
            warn_asynchronous_seeding=False,
        )

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All knobs; none for a planned trial, which uses no point of the sequence."""
        return {} if PLANNED in trial.user_attrs else dict(self._space)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next point of the sequence."""
        return self._sobol.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """A uniform value."""
        return self._sobol.sample_independent(study, trial, param_name, param_distribution)


class CmaEsSampler(BaseSampler):
    """CMA-ES over the numeric knobs that every point of a space has.

    Its state is recomputed from the trials of the study at each draw, while Optuna's sampler keeps
    a pickle in the journal. The search starts at the best imported point, or else at the centre.
    Trials enter the populations in the order in which they end. Pruned ones rank behind complete
    ones, and failed ones last, so that the search leaves a region of failures.

    Args:
        space: The space.
        seed: Seed of the draws of one trial.
        independent: Sampler for all other knobs.

    References:
        Hansen 2016, "The CMA Evolution Strategy: A Tutorial", appendix A.
    """

    def __init__(self, space: SearchSpace, *, seed: int, independent: BaseSampler) -> None:
        self._seed, self._independent = seed, independent
        self._ranges: dict[str, Float | Int] = {
            knob: a_range
            for knob, a_range in space.ranges.items()
            if knob not in space.conditions and not isinstance(a_range, Choice)
        }

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The numeric knobs that every point has; none for a planned trial."""
        if PLANNED in trial.user_attrs:
            return {}
        return {knob: distribution(a_range) for knob, a_range in self._ranges.items()}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A draw from the Gaussian that was fitted to the trials so far."""
        if not search_space:
            return {}
        import cmaes

        trials = study.get_trials(deepcopy=False)
        optimizer = cmaes.CMA(
            mean=self._mean(trials),
            sigma=0.3,
            bounds=np.array([[0.0, 1.0]] * len(self._ranges)),
            seed=self._seed,
        )
        solutions = _solutions(trials)
        size = optimizer.population_size
        for first in range(0, len(solutions) - size + 1, size):
            population = sorted(solutions[first : first + size], key=_rank)
            optimizer.tell([(self._unit(one), float(rank)) for rank, one in enumerate(population)])
        units = optimizer.ask()
        return {
            knob: a_range.from_unit(float(unit))
            for (knob, a_range), unit in zip(self._ranges.items(), units, strict=True)
        }

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """A draw of the independent sampler."""
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def _mean(self, trials: Sequence[FrozenTrial]) -> np.ndarray[Any, Any]:
        imported = [
            trial
            for trial in trials
            if IMPORTED in trial.user_attrs and trial.state is StudyState.COMPLETE
        ]
        if not imported:
            return np.full(len(self._ranges), 0.5)
        return self._unit(min(imported, key=_rank))

    def _unit(self, trial: FrozenTrial) -> np.ndarray[Any, Any]:
        places = [a_range.to_unit(trial.params[knob]) for knob, a_range in self._ranges.items()]
        return np.clip(places, 0.0, 1.0)


def _solutions(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The finished trials that CMA-ES drew itself, in the order in which they ended.

    A trial whose driver died does not count; the one that repeats it does, if it was a draw.
    """
    planned = {
        trial.user_attrs.get(ROW)
        for trial in trials
        if PLANNED in trial.user_attrs and RESUMES not in trial.user_attrs
    }
    last = {trial.user_attrs.get(ROW): trial.number for trial in trials}
    solutions = [
        (trial.datetime_complete, trial.number, trial)
        for trial in trials
        if trial.state.is_finished()
        and trial.user_attrs.keys().isdisjoint((IMPORTED, OUTSIDE))
        and trial.user_attrs.get(ROW) is not None  # without a row, its point may be incomplete
        and trial.user_attrs[ROW] not in planned
        and last[trial.user_attrs[ROW]] == trial.number
    ]
    return [trial for *_, trial in sorted(solutions, key=lambda entry: entry[:2])]


def _rank(trial: FrozenTrial) -> tuple[float, ...]:
    """Sort key: the best first; among pruned trials, the one that trained longest."""
    if trial.state is StudyState.COMPLETE and trial.value is not None:
        return (0.0, 0.0, -trial.value)
    if trial.state is StudyState.PRUNED and trial.last_step is not None:
        return (1.0, -float(trial.last_step), -trial.intermediate_values[trial.last_step])
    return (2.0, 0.0, 0.0)


def _suggest(trial: optuna.Trial, knob: str, a_range: Range) -> KnobValue:
    match a_range:
        case Float():
            return trial.suggest_float(knob, a_range.low, a_range.high, log=a_range.log)
        case Int():
            return trial.suggest_int(
                knob, a_range.low, a_range.high, step=a_range.step, log=a_range.log
            )
        case Choice():
            return cast(KnobValue, trial.suggest_categorical(knob, a_range.options))


def _seed(*entropy: int) -> int:
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])
