"""How a space is searched: Optuna's samplers behind Tune's searcher interface, and the scheduler.

The Optuna journal is the searcher's whole state, so a sweep goes on from it after any crash.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as StudyState
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from ssmrl.config import KnobValue
from tuning.durable import recover_lines
from tuning.plan import SCHEDULERS, SEARCHERS
from tuning.space import Choice, Float, Int, Range, SearchSpace
from tuning.trial import Trial, TrialState

# Optuna waits for 10 random trials before it models anything, more than a short sweep has.
NUM_STARTUP_TRIALS = 5

Study: TypeAlias = optuna.Study
"""Optuna's study, for those who pass it on without knowing Optuna."""

_SPACE, _TRIAL_ID, _RESUMES = "space", "trial_id", "resumes"


@dataclass(frozen=True)
class Interrupted:
    """A trial that a dead driver left without a row.

    Attributes:
        number: Its number in the study.
        knobs: The point that has to be tried again.
    """

    number: int
    knobs: dict[str, KnobValue]


class StudySearcher(Searcher):
    """Suggests points of a space to Tune and tells the study what became of them.

    Around Ray's ``OptunaSearch``, which is composed and not changed, it sees to it that no trial
    stays RUNNING in the study: what Tune reports becomes

    - COMPLETE, with the final metric, if the result says ``finished`` and the metric is finite;
    - PRUNED, with the last metric, if the trial was stopped before that;
    - FAIL after an error, without a metric, with one that is not finite, or if it ``diverged``.

    Args:
        space: The space to search.
        name: One of ``SEARCHERS``.
        seed: Same seed, same suggestions, as long as trials end in the same order.
        storage_path: The journal file.
        study_name: The study in the journal.
        metric: The key of the score in a result; higher is better.
        initial_points: Points to try before any other, in this order, in a new study.
        resume: Go on with an existing study: trials that its dead driver left are tried again
            before any other point. A study that does not exist yet is made.
        recorded: On resume, all rows of the table; a trial without a row is tried again.

    Raises:
        KeyError: If ``name`` is not known.
        ValueError: If a point lies outside, the study exists and ``resume`` is off, or the study
            was made for another space.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        name: str = "tpe",
        seed: int = 0,
        storage_path: Path,
        study_name: str,
        metric: str = "score",
        initial_points: Sequence[Mapping[str, KnobValue]] = (),
        resume: bool = False,
        recorded: Sequence[Trial] = (),
    ) -> None:
        super().__init__(metric=metric, mode="max")
        if name not in SEARCHERS:
            raise KeyError(f"unknown searcher {name!r}; the searchers are: {', '.join(SEARCHERS)}")
        for point in initial_points:
            space.configure(point)
        self._space = space
        repair_journal(storage_path)
        storage = self._storage = open_storage(storage_path)
        self._study = _open_study(storage, study_name, space, resume=resume)
        is_new = not self._study.get_trials(deepcopy=False)
        self._requeued = () if is_new else fail_stale(storage, study_name, recorded)
        for stale in self._requeued:
            if space.contains(stale.knobs):
                self.enqueue(stale.knobs, resumes=stale.number)
        for point in initial_points if is_new else ():
            self.enqueue(point)
        self._optuna_search = OptunaSearch(
            {knob: _distribution(a_range) for knob, a_range in space.ranges.items()},
            metric=metric,
            mode="max",
            sampler=_make_sampler(name, seed, len(self._study.get_trials(deepcopy=False))),
            study_name=study_name,
            storage=storage,
        )
        self._numbers: dict[str, int] = {}
        self._last_step: dict[str, int] = {}

    @property
    def study(self) -> Study:
        """The study, for whoever reads it."""
        return self._study

    @property
    def requeued(self) -> tuple[Interrupted, ...]:
        """The trials of a dead driver that are tried again."""
        return self._requeued

    def enqueue(self, point: Mapping[str, KnobValue], *, resumes: int | None = None) -> None:
        """Puts a point before all that the sampler will suggest.

        Args:
            point: A point of the space.
            resumes: The number of the trial that it repeats, if it does.

        Raises:
            ValueError: If it lies outside of the space.
        """
        self._space.configure(point)
        attributes = {} if resumes is None else {_RESUMES: resumes}
        self._study.enqueue_trial(dict(point), user_attrs=attributes)

    def number(self, tune_trial_id: str) -> int:
        """The number in the study of the trial that Tune calls so.

        Raises:
            KeyError: If no point was suggested under that id.
        """
        return self._numbers[tune_trial_id]

    def suggest(self, trial_id: str) -> dict[str, KnobValue]:
        """The next point, flat and keyed by knob; the same again for the same id."""
        if trial_id in self._numbers:
            return dict(self._trial(trial_id).params)
        before = self._running()
        self._optuna_search.suggest(trial_id)
        (number,) = self._running() - before
        self._numbers[trial_id] = number
        key = _storage_key(self._storage, self._study.study_name, number)
        self._storage.set_trial_user_attr(key, _TRIAL_ID, row_name(number))
        return dict(self._trial(trial_id).params)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Reports an intermediate score, if there is a finite one that was not reported yet."""
        step = result.get("training_iteration")
        # A trial that was restarted from a checkpoint repeats iterations; Optuna keeps the first.
        if step is None or step <= self._last_step.get(trial_id, 0):
            return
        if _is_finite(result.get(self.metric)):
            self._last_step[trial_id] = step
            self._optuna_search.on_trial_result(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Closes the trial in the study.

        Raises:
            RuntimeError: If the journal did not take it.
        """
        result = result or {}
        if error or result.get("diverged") or not _is_finite(result.get(self.metric)):
            self._optuna_search.on_trial_complete(trial_id, None, error=True)
        elif result.get("finished"):
            self._optuna_search.on_trial_complete(trial_id, result)
        else:
            # Tune keeps the result at which it stops a trial to itself, but Optuna scores a pruned
            # trial by its last report.
            self.on_trial_result(trial_id, result)
            self._optuna_search.on_trial_complete(trial_id, None)
        if not (trial := self._trial(trial_id)).state.is_finished():
            raise RuntimeError(  # OptunaSearch logs and swallows what goes wrong here
                f"the journal did not record the end of trial {trial.number}, "
                "it is still RUNNING there; see whether the disk is full, then resume."
            )

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Does nothing: the journal is the state, written at every step."""

    def save(self, checkpoint_path: str) -> None:
        """Does nothing, for the same reason."""

    def restore(self, checkpoint_path: str) -> None:
        """Refuses.

        Raises:
            RuntimeError: Always; make a searcher with ``resume=True`` on the same journal.
        """
        raise RuntimeError("make a StudySearcher with resume=True on the same journal.")

    def _trial(self, trial_id: str) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[self._numbers[trial_id]]

    def _running(self) -> set[int]:
        running = self._study.get_trials(deepcopy=False, states=(StudyState.RUNNING,))
        return {trial.number for trial in running}


def row_name(number: int) -> str:
    """The id of the row of the trial with this number in the study.

    Example:
        >>> row_name(3)
        't0003'
    """
    return f"t{number:04d}"


def open_storage(path: Path) -> JournalStorage:
    """The journal at ``path``, made if there is none; optuna-dashboard reads it too."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # a study says hello on every opening
    # The lock beside the journal is a link to this path: a relative one would dangle, and Optuna
    # would wait for a dead driver's dangling lock for ever.
    return JournalStorage(JournalFileBackend(str(path.resolve())))


def repair_journal(path: Path) -> None:
    """Makes the journal of a killed driver readable. Only while no driver uses it.

    A torn last line is set aside in ``<path>.torn`` with a warning, and a lock that the driver
    left, for which the next one would wait 30 s, is removed.

    Raises:
        ValueError: If the journal is damaged elsewhere; the message gives the line.
    """
    recover_lines(path)
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)


def fail_stale(
    storage: BaseStorage, study_name: str, rows: Sequence[Trial]
) -> tuple[Interrupted, ...]:
    """Closes what a dead driver left open in a study, and says what has to be tried again.

    A RUNNING trial that has a row gets the row's outcome; one without fails. A trial that ended
    in the study, but whose driver died before it wrote the row, has to be tried again too.

    Args:
        storage: The open journal.
        study_name: The study.
        rows: The rows that were written.

    Returns:
        The trials without a row that no later trial repeats, by number.
    """
    study = optuna.load_study(study_name=study_name, storage=storage)
    row_of = {row.number: row for row in rows}
    trials = study.get_trials(deepcopy=False)
    repeated = {trial.user_attrs.get(_RESUMES) for trial in trials}
    lost: list[Interrupted] = []
    for trial in trials:
        row = row_of.get(trial.number)
        if trial.state is StudyState.RUNNING:
            _close(storage, study, trial, row)
        if trial.state is StudyState.WAITING or row is not None or trial.number in repeated:
            continue
        lost.append(Interrupted(trial.number, dict(trial.params)))
    return tuple(lost)


def make_scheduler(name: str, *, max_steps: int, metric: str = "score") -> TrialScheduler:
    """The scheduler that stops trials which fall behind.

    ``asha`` judges at a quarter, half and all of ``max_steps``, and lets the better half go on. It
    compares with ``<``, so a NaN would never be stopped: a trainable must raise instead of
    reporting one, and must leave the metric out of a result rather than report None.

    Args:
        name: One of ``SCHEDULERS``.
        max_steps: Budget of a trial [env steps], the result's key ``env_steps``.
        metric: The key of the score in a result; higher is better.

    Raises:
        KeyError: If ``name`` is not known.
        ValueError: If ``max_steps`` is below 1.
    """
    if name not in SCHEDULERS:
        raise KeyError(f"unknown scheduler {name!r}; the schedulers are: {', '.join(SCHEDULERS)}")
    if max_steps < 1:
        raise ValueError(f"`max_steps` must be at least 1, but got {max_steps}")
    if name == "none":
        return FIFOScheduler()
    return ASHAScheduler(
        time_attr="env_steps",
        metric=metric,
        mode="max",
        max_t=max_steps,
        grace_period=max(1, max_steps // 4),
        reduction_factor=2,
    )


def _open_study(
    storage: JournalStorage, study_name: str, space: SearchSpace, *, resume: bool
) -> Study:
    exists = study_name in optuna.get_all_study_names(storage)
    if exists and not resume:
        raise ValueError(
            f"`study_name` must be new, but the journal has a study {study_name!r}; "
            "resume it or choose another name."
        )
    study = optuna.create_study(
        storage=storage, study_name=study_name, direction="maximize", load_if_exists=True
    )
    made_for = study.user_attrs.get(_SPACE)
    if made_for is None:
        study.set_user_attr(_SPACE, space.to_json())
    elif made_for != space.to_json():
        raise ValueError(
            f"the study {study_name!r} was made for another search space, and a sampler cannot "
            f"learn from both: {made_for} then, {space.to_json()} now; use a new name."
        )
    return study


def _close(storage: BaseStorage, study: Study, trial: FrozenTrial, row: Trial | None) -> None:
    if row is not None and row.state is TrialState.COMPLETE:
        study.tell(trial.number, row.score)
    elif row is not None and row.state is TrialState.PRUNED:
        last = trial.intermediate_values[trial.last_step] if trial.last_step is not None else None
        if row.score is not None and row.score != last:
            step = max(row.iterations, (trial.last_step or 0) + 1)
            key = _storage_key(storage, study.study_name, trial.number)
            storage.set_trial_intermediate_value(key, step, row.score)
        study.tell(trial.number, state=StudyState.PRUNED)
    else:
        study.tell(trial.number, state=StudyState.FAIL)


def _storage_key(storage: BaseStorage, study_name: str, number: int) -> int:
    study_id = storage.get_study_id_from_name(study_name)
    return storage.get_trial_id_from_study_id_trial_number(study_id, number)


def _make_sampler(name: str, seed: int, num_known: int) -> optuna.samplers.BaseSampler:
    """The sampler; a resumed one must not draw again what it drew before."""
    fresh = int(np.random.SeedSequence([seed, num_known]).generate_state(1)[0])
    if name == "tpe":
        return optuna.samplers.TPESampler(seed=fresh, n_startup_trials=NUM_STARTUP_TRIALS)
    random = optuna.samplers.RandomSampler(seed=fresh)
    if name == "random":
        return random
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # The sequence's position is kept in the study under its seed, which therefore stays.
        return optuna.samplers.QMCSampler(
            scramble=True,
            seed=seed,
            independent_sampler=random,
            warn_independent_sampling=False,
            warn_asynchronous_seeding=False,
        )


def _distribution(a_range: Range) -> BaseDistribution:
    match a_range:
        case Float():
            return FloatDistribution(a_range.low, a_range.high, log=a_range.log)
        case Int():
            return IntDistribution(a_range.low, a_range.high, log=a_range.log, step=a_range.step)
        case Choice():
            return CategoricalDistribution(a_range.options)


def _is_finite(value: Any) -> bool:
    return value is not None and math.isfinite(value)
