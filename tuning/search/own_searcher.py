"""Searchers of other packages: what asks and tells, and any sampler of Optuna's interface."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as StudyState

from ssmrl.config import KnobValue
from ssmrl.import_path import ImportPathError, imported
from tuning.search.study import OUTSIDE, PLANNED, ROW, distribution
from tuning.spaces.space import SearchSpace


class Searcher(Protocol):
    """What a searcher of one's own has to be.

    It is made as ``Class(space, seed)`` anew for each trial, is told of all that have ended, and
    is asked once. So whatever it knows is in the table, and a sweep can go on with it after any
    crash.
    """

    def tell(self, point: Mapping[str, KnobValue], score: float | None) -> None:
        """A trial of the space ended; they come in the order of their numbers.

        Args:
            point: The values of its searched knobs.
            score: Higher is better; of a trial that was stopped early its last one; None if it
                failed or diverged.
        """

    def ask(self) -> Mapping[str, KnobValue]:
        """The point to try next: a value for every knob that is active in it."""


def own_sampler(path: str, space: SearchSpace, seed: int) -> BaseSampler:
    """The sampler at an import path.

    Args:
        path: ``package.module:NAME`` of a class: Optuna's samplers are made as
            ``Class(seed=seed)``, others as ``Searcher`` has it.
        space: The space to search.
        seed: Of one draw.

    Raises:
        ImportPathError: If there is no such class, or it cannot be made that way.
    """
    searcher = imported(path)
    try:
        if isinstance(searcher, type) and issubclass(searcher, BaseSampler):
            with warnings.catch_warnings():  # who gives its path knows that it is experimental
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return searcher(seed=seed)  # type: ignore[call-arg]  # as Optuna's own have it
        made = searcher(space, seed)
    except TypeError as error:
        raise ImportPathError(
            f"{path!r} must be a class made by (space, seed), or a sampler of Optuna's made by "
            f"(seed=...), but {error}"
        ) from error
    return AskedSampler(path, made, space)


class AskedSampler(BaseSampler):
    """What asks and tells, as a sampler.

    Args:
        path: Its import path, for messages.
        searcher: Told of what ended, and asked, by one draw.
        space: The space.
    """

    def __init__(self, path: str, searcher: Searcher, space: SearchSpace) -> None:
        self._path, self._searcher, self._space = path, searcher, space

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All knobs; none for a trial that is planned."""
        if PLANNED in trial.user_attrs:
            return {}
        return {knob: distribution(a_range) for knob, a_range in self._space.ranges.items()}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Its answer.

        Raises:
            ImportPathError: If that is no point of the space.
        """
        if not search_space:
            return {}
        for point, score in _ended(study.get_trials(deepcopy=False)):
            self._searcher.tell(point, score)
        answer = dict(self._searcher.ask())
        try:
            self._space.configure(answer)
        except ValueError as error:
            raise ImportPathError(f"`ask` of {self._path!r} gave no point: {error}") from error
        return answer

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """Never needed: an answer has all knobs of its point."""
        raise AssertionError(f"{param_name} was asked for, which the answer must have")


def _ended(trials: Sequence[FrozenTrial]) -> list[tuple[dict[str, Any], float | None]]:
    """Points and scores of the trials of a study that ended, also of those that began it."""
    ended = []
    for trial in trials:
        if (
            trial.state.is_finished()
            and ROW in trial.user_attrs
            and OUTSIDE not in trial.user_attrs
        ):
            ended.append((dict(trial.params), _score(trial)))
    return ended


def _score(trial: FrozenTrial) -> float | None:
    if trial.state is StudyState.COMPLETE:
        return trial.value
    if trial.state is StudyState.PRUNED and trial.last_step is not None:
        return trial.intermediate_values[trial.last_step]
    return None
