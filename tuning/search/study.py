"""The Optuna study that records a search: opening, repair, import of earlier rows, resume.

It does not choose points; ``tuning.search.samplers`` does.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as StudyState

from ssmrl.config import KnobValue
from ssmrl.disk_room import with_room
from tuning.spaces.space import Choice, Float, Int, Range, SearchSpace
from tuning.table.durable import recover_lines
from tuning.table.trial import Trial, TrialState

Study: TypeAlias = optuna.Study
"""Optuna's study, for modules that pass it on without importing Optuna."""

# User attributes of a study's trial: the id of its row; the point, if it was planned and not
# sampled; whether that lies outside the space; the number of the row that it retries; the row that
# was imported as this trial; the seed, if it is not the sweep's; whether it was drawn and skipped.
# A study's own attribute is its space.
ROW, PLANNED, OUTSIDE, RESUMES, IMPORTED = "trial_id", "planned", "outside", "resumes", "imported"
SEED, AVOIDED = "seed", "avoided"
_SPACE = "space"


@dataclass(frozen=True)
class Interrupted:
    """A trial that a dead driver left without a row.

    Attributes:
        number: The number that its row would have had.
        knobs: The point to retry.
        outside: Whether it was planned outside the space.
        seed: Training seed, if it is not the sweep's own.
    """

    number: int
    knobs: dict[str, KnobValue]
    outside: bool = False
    seed: int | None = None


def row_name(number: int) -> str:
    """The row id of the trial with this number.

    Example:
        >>> row_name(3)
        't0003'
    """
    return f"t{number:04d}"


def row_number(name: str) -> int:
    """The inverse of ``row_name``."""
    return int(name[1:])


def open_storage(path: Path | None) -> BaseStorage:
    """The journal at ``path``, made if there is none; optuna-dashboard reads it too.

    Args:
        path: Journal file; None keeps the studies in memory only, for simulations.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # a study logs a line at every opening
    if path is None:
        return InMemoryStorage()
    # Optuna's lock is a symlink to this path. A relative link would dangle, and Optuna would wait
    # for ever for a dead driver's dangling lock.
    return JournalStorage(_LastingJournal(path.resolve()))


class _LastingJournal(BaseJournalBackend):
    """Optuna's journal file, which waits for disk space and never keeps half a record.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._journal = path, JournalFileBackend(str(path))

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """The records from this number onward."""
        return self._journal.read_logs(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append records."""
        with_room(partial(self._append, logs), self._path)

    def _append(self, logs: list[dict[str, Any]]) -> None:
        size = self._path.stat().st_size
        try:
            self._journal.append_logs(logs)
        except OSError:
            os.truncate(self._path, size)
            raise


def repair_journal(path: Path) -> None:
    """Makes the journal of a killed driver readable. Call it only while no driver uses it.

    A torn last line is moved to ``<path>.torn`` with a warning. A leftover lock, for which the
    next driver would wait 30 s, is removed.

    Raises:
        ValueError: If the journal is damaged elsewhere; the message gives the line.
    """
    recover_lines(path)
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)


def study_spaces(path: Path, prefix: str) -> dict[int, str]:
    """The space of each study in a journal, as JSON, by the number that follows the prefix.

    Args:
        path: Journal file; it need not exist.
        prefix: Prefix of the studies' names, which end with a number.
    """
    if not path.exists():
        return {}
    found = {}
    for study in open_storage(path).get_all_studies():
        number, space = study.study_name.removeprefix(prefix), study.user_attrs.get(_SPACE)
        if study.study_name.startswith(prefix) and number.isdecimal() and space is not None:
            found[int(number)] = str(space)
    return found


def open_study(
    storage: BaseStorage, study_name: str, space: SearchSpace, *, resume: bool
) -> optuna.Study:
    """The study with this name, made if there is none.

    Raises:
        ValueError: If it exists and ``resume`` is off, or it was made for another space.
    """
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
            f"learn from both: it was {made_for}, but is now {space.to_json()}; use a new name."
        )
    return study


def import_rows(study: optuna.Study, space: SearchSpace, rows: Sequence[Trial]) -> None:
    """Adds the rows of earlier studies that are points of this study's space.

    They become finished trials marked with the row's id, which tells them from the study's own.
    Rows that a driver imported before it died are not imported again.

    Args:
        study: A study without trials of its own.
        space: Its space.
        rows: Earlier rows: COMPLETE ones keep their score, PRUNED ones their last score, others
            fail.
    """
    known = {trial.user_attrs.get(IMPORTED) for trial in study.get_trials(deepcopy=False)}
    for row in rows:
        if row.trial_id not in known and space.contains(row.knobs):
            study.add_trial(_finished(row, space, {IMPORTED: row.trial_id}))


def rebuild(study: optuna.Study, space: SearchSpace, rows: Sequence[Trial]) -> None:
    """Refills a study whose journal was lost from the rows of its trials.

    Args:
        study: A study without trials of its own.
        space: Its space.
        rows: Rows of its round.
    """
    for row in sorted(rows, key=lambda row: row.number):
        if space.contains(row.knobs):
            study.add_trial(_finished(row, space, {ROW: row.trial_id}))
        else:
            attributes = {ROW: row.trial_id, OUTSIDE: True, PLANNED: dict(row.knobs)}
            failed = optuna.trial.create_trial(state=StudyState.FAIL, user_attrs=attributes)
            study.add_trial(failed)


def own_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The trials of a study, except those that were imported, or drawn and skipped."""
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if trial.user_attrs.keys().isdisjoint((IMPORTED, AVOIDED))]


def row_numbers(study: optuna.Study, first_number: int) -> dict[int, int]:
    """The row number of each of a study's own trials, by trial number.

    A retry has the row number of the interrupted trial. A trial whose driver died before it named
    the row has left no row, so the next trial gets its number.

    Args:
        study: The study.
        first_number: The row number of its first own trial.
    """
    numbers: dict[int, int] = {}
    following = first_number
    for trial in own_trials(study):
        known = trial.user_attrs.get(RESUMES)
        if known is None and ROW in trial.user_attrs:
            known = row_number(trial.user_attrs[ROW])
        numbers[trial.number] = following if known is None else known
        if known is not None or not trial.state.is_finished():
            following = max(following, numbers[trial.number] + 1)
    return numbers


def fail_stale(
    storage: BaseStorage, study_name: str, rows: Sequence[Trial], *, first_number: int = 0
) -> tuple[Interrupted, ...]:
    """Closes the trials that a dead driver left open in a study, and lists those to retry.

    A RUNNING trial with a row gets the row's outcome; one without a row fails. A trial that ended
    in the study, but whose driver died before it wrote the row, must be retried too.

    Args:
        storage: The open journal.
        study_name: Name of the study.
        rows: The rows that were written.
        first_number: The row number of the study's first own trial.

    Returns:
        The trials without a row and without a waiting retry, one for each row number.
    """
    study = optuna.load_study(study_name=study_name, storage=storage)
    row_of = {row.number: row for row in rows}
    numbers = row_numbers(study, first_number)
    last: dict[int, FrozenTrial] = {}
    for trial in own_trials(study):
        number = numbers[trial.number]
        if trial.state is StudyState.RUNNING:
            _close(storage, study, trial, row_of.get(number))
        last[number] = trial
    lost: list[Interrupted] = []
    for number, trial in last.items():
        if trial.state is StudyState.WAITING or number in row_of:
            continue
        # If the driver died during the suggestion, the params are incomplete.
        knobs = trial.user_attrs.get(PLANNED, trial.params)
        outside, seed = OUTSIDE in trial.user_attrs, trial.user_attrs.get(SEED)
        lost.append(Interrupted(number, dict(knobs), outside, seed))
    return tuple(lost)


def distribution(a_range: Range) -> BaseDistribution:
    """A range as an Optuna distribution."""
    match a_range:
        case Float():
            return FloatDistribution(a_range.low, a_range.high, log=a_range.log)
        case Int():
            return IntDistribution(a_range.low, a_range.high, log=a_range.log, step=a_range.step)
        case Choice():
            return CategoricalDistribution(a_range.options)


def storage_key(storage: BaseStorage, study_name: str, number: int) -> int:
    """The storage's internal id of a study's trial."""
    study_id = storage.get_study_id_from_name(study_name)
    return storage.get_trial_id_from_study_id_trial_number(study_id, number)


def _finished(row: Trial, space: SearchSpace, attributes: dict[str, str]) -> FrozenTrial:
    distributions = {knob: distribution(space.ranges[knob]) for knob in row.knobs}
    params = dict(row.knobs)
    if row.state is TrialState.COMPLETE:
        return optuna.trial.create_trial(
            value=row.score, params=params, distributions=distributions, user_attrs=attributes
        )
    is_pruned = row.state is TrialState.PRUNED
    return optuna.trial.create_trial(
        state=StudyState.PRUNED if is_pruned else StudyState.FAIL,
        params=params,
        distributions=distributions,
        user_attrs=attributes,
        value=row.score,
        intermediate_values=None if row.score is None else {_step(row): row.score},
    )


def _close(
    storage: BaseStorage, study: optuna.Study, trial: FrozenTrial, row: Trial | None
) -> None:
    learns = OUTSIDE not in trial.user_attrs
    if row is not None and row.state is TrialState.COMPLETE and learns:
        study.tell(trial.number, row.score)
    elif row is not None and row.state is TrialState.PRUNED and learns:
        last = trial.intermediate_values[trial.last_step] if trial.last_step is not None else None
        if row.score is not None and row.score != last:
            step = max(_step(row), (trial.last_step or 0) + 1)
            key = storage_key(storage, study.study_name, trial.number)
            storage.set_trial_intermediate_value(key, step, row.score)
        study.tell(trial.number, state=StudyState.PRUNED)
    else:
        study.tell(trial.number, state=StudyState.FAIL)


def _step(row: Trial) -> int:
    """The step of a row's score in Optuna [env steps], at least 1."""
    return max(1, row.judged_at or (row.curve[-1][0] if row.curve else row.env_steps))
