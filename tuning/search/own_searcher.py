"""User-supplied searchers: ask-and-tell classes, and any sampler with Optuna's interface."""

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
    """Interface of a user-supplied searcher.

    A new one is made as ``Class(space, seed)`` for each trial, receives all ended trials, and is
    asked once. So all it knows is in the table, and a sweep can be resumed after any crash.
    """

    def tell(self, point: Mapping[str, KnobValue], score: float | None) -> None:
        """Receives one ended trial of the space; trials come in the order of their numbers.

        Args:
            point: The values of its searched knobs.
            score: Score, higher is better; the last one if the trial was stopped early; None if
                it failed or diverged.
        """

    def ask(self) -> Mapping[str, KnobValue]:
        """The point to try next: a value for every knob that is active in it."""


def own_sampler(path: str, space: SearchSpace, seed: int) -> BaseSampler:
    """The sampler at an import path.

    Args:
        path: ``package.module:NAME`` of a class: Optuna's samplers are made as
            ``Class(seed=seed)``, others as ``Searcher`` describes.
        space: The space to search.
        seed: Seed of one draw.

    Raises:
        ImportPathError: If there is no such class, or it cannot be made that way.
    """
    searcher = imported(path)
    try:
        if isinstance(searcher, type) and issubclass(searcher, BaseSampler):
            with warnings.catch_warnings():  # the user chose this sampler, experimental or not
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
    """Adapts a ``Searcher`` to Optuna's sampler interface.

    Args:
        path: Import path of the searcher, for messages.
        searcher: The searcher, which each draw tells all ended trials and then asks.
        space: The space.
    """

    def __init__(self, path: str, searcher: Searcher, space: SearchSpace) -> None:
        self._path, self._searcher, self._space = path, searcher, space

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All knobs; none for a planned trial."""
        if PLANNED in trial.user_attrs:
            return {}
        return {knob: distribution(a_range) for knob, a_range in self._space.ranges.items()}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The searcher's answer.

        Raises:
            ImportPathError: If it is not a point of the space.
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
        """Never called: an answer has all knobs of its point."""
        raise AssertionError(f"{param_name} was asked for, but the answer must already have it")


def _ended(trials: Sequence[FrozenTrial]) -> list[tuple[dict[str, Any], float | None]]:
    """Points and scores of the ended trials of a study, including those rebuilt from rows."""
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
