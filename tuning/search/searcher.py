"""The searcher of a sweep: Optuna's samplers behind Tune's searcher interface.

The Optuna journal is the searcher's whole state, so a sweep is resumed from it after any crash.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as StudyState
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from ssmrl.config import KnobValue
from tuning.search.planned_point import PlannedPoint
from tuning.search.samplers import even_draws, make_sampler, suggest_point
from tuning.search.searchers import SEARCHERS, check_searcher
from tuning.search.study import (
    AVOIDED,
    OUTSIDE,
    PLANNED,
    RESUMES,
    ROW,
    SEED,
    Interrupted,
    Study,
    fail_stale,
    import_rows,
    open_storage,
    open_study,
    own_trials,
    rebuild,
    repair_journal,
    row_name,
    row_numbers,
    storage_key,
)
from tuning.spaces.space import SearchSpace
from tuning.table.trial import Trial

__all__ = [
    "SEARCHERS",
    "Interrupted",
    "Study",
    "StudySearcher",
    "open_storage",
    "repair_journal",
    "row_name",
]

STEP = "judged_at"
"""Result key of the part of the budget at which the score is compared [env steps]."""

MAX_DRAWS, MAX_EVEN_DRAWS = 10, 1000
"""Maximum draws of the sampler for a point that is not avoided, then maximum uniform draws.

The uniform draws are needed because a sampler that learns from scores alone may repeat itself. If
all are avoided, the sampler's last point is tried.
"""

_STEP_OF_TUNE = "training_iteration"  # the key that Tune's wrapper of Optuna reads as the step


class StudySearcher(Searcher):
    """Suggests points of a space to Tune and records their outcomes in the study.

    It wraps Ray's ``OptunaSearch`` without changing it, and ensures that no trial stays RUNNING in
    the study. An ended trial becomes

    - COMPLETE, with the final metric, if the result says ``finished`` and the metric is finite;
    - PRUNED, with the last metric, if the trial was stopped before that;
    - FAIL after an error or if it ``diverged`` or ran out of memory;
    - FAIL if the metric is missing or not finite;
    - FAIL if the point lies outside the space, since the sampler cannot learn from it.

    A sweep of several rounds has one table, and one study per round, whose sampler starts from the
    earlier rows that lie in the round's space. Trials have the numbers of their rows, which are
    continued from round to round.

    Args:
        space: The space to search.
        name: One of ``SEARCHERS``, or an import path as ``tuning.search.own_searcher`` takes it.
        seed: Seed; it fixes the suggestions as long as trials end in the same order.
        storage_path: The journal file; None keeps the study in memory, for simulations.
        study_name: The study in the journal.
        metric: The key of the score in a result; higher is better.
        initial_points: Points to try before any other, in this order, in a new study.
        imports: Rows of earlier studies; a new study is filled with those that lie in the space.
        first_number: The number of the first row of this study.
        resume: Whether to resume an existing study: trials that its dead driver left open are
            retried before any other point. A study that does not exist yet is made.
        recorded: On resume, all rows of the table; a trial without a row is retried.
        is_avoided: Whether a point that the sampler drew should be skipped and another drawn. By
            default, none is skipped.

    Raises:
        KeyError: If ``name`` is not known.
        ValueError: If a point lies outside, the study exists and ``resume`` is off, the study was
            made for another space, or ``first_number`` is negative or was changed.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        name: str = "tpe",
        seed: int = 0,
        storage_path: Path | None,
        study_name: str,
        metric: str = "score",
        initial_points: Sequence[PlannedPoint] = (),
        imports: Sequence[Trial] = (),
        first_number: int = 0,
        resume: bool = False,
        recorded: Sequence[Trial] = (),
        is_avoided: Callable[[Mapping[str, KnobValue]], bool] | None = None,
    ) -> None:
        super().__init__(metric=metric, mode="max")
        check_searcher(name)
        if first_number < 0:
            raise ValueError(f"`first_number` must be at least 0, but got {first_number}")
        for planned in initial_points:
            if not planned.outside:
                space.configure(planned.knobs)
        self._space, self._first_number, self._seed = space, first_number, seed
        self._is_avoided = is_avoided
        if storage_path is not None:
            repair_journal(storage_path)
        storage = self._storage = open_storage(storage_path)
        self._study = open_study(storage, study_name, space, resume=resume)
        self._requeued = self._begin(initial_points, imports, recorded)
        self._rows: dict[int, int] = {}
        self._optuna_search = OptunaSearch(
            partial(suggest_point, space),
            metric=metric,
            mode="max",
            sampler=make_sampler(name, space, seed=seed, first_number=first_number),
            study_name=study_name,
            storage=storage,
        )
        self._numbers: dict[str, int] = {}
        self._asked: dict[str, str] = {}  # Tune's id to the id passed to OptunaSearch
        self._last_step: dict[str, int] = {}

    @property
    def study(self) -> Study:
        """The study, for reading."""
        return self._study

    @property
    def requeued(self) -> tuple[Interrupted, ...]:
        """The trials of a dead driver that are retried."""
        return self._requeued

    def enqueue(
        self,
        point: Mapping[str, KnobValue],
        *,
        resumes: int | None = None,
        outside: bool = False,
        seed: int | None = None,
    ) -> None:
        """Queues a point before all that the sampler will suggest.

        Args:
            point: A point of the space.
            resumes: The number of the row that it retries, if any.
            outside: Whether the point may lie outside the ranges. It is then tried like any other,
                but the sampler does not learn from it.
            seed: Training seed, if it is not the sweep's own.

        Raises:
            KeyError: If ``outside`` and a name is not a knob.
            ValueError: If it is not a point of the space; with ``outside``, not a configuration.
            TypeError: If ``outside`` and a value has another type than its knob.
        """
        attributes: dict[str, Any] = {PLANNED: dict(point)}
        params = dict(point)
        if outside and not self._space.contains(point):
            self._check_outside(point)
            attributes[OUTSIDE], params = True, {}
        else:
            self._space.configure(point)
        if resumes is not None:
            attributes[RESUMES] = resumes
        if seed is not None:
            attributes[SEED] = seed
        self._study.enqueue_trial(params, user_attrs=attributes)

    def number(self, tune_trial_id: str) -> int:
        """The row number of the trial with this id in Tune.

        Raises:
            KeyError: If no point was suggested under that id.
        """
        return self._row_number(self._numbers[tune_trial_id])

    def suggest(self, trial_id: str) -> dict[str, KnobValue]:
        """The next point, flat and keyed by knob; the same id gets the same point again.

        A point with its own training seed has it under the key ``seed``.
        """
        if trial_id in self._numbers:
            return self._point(trial_id)
        number = self._draw(trial_id, 0)
        for num_drawn in range(1, MAX_DRAWS + 1):
            if not self._is_unwanted(number):
                break
            if num_drawn == MAX_DRAWS and not self._enqueue_elsewhere():
                break
            self._set(number, AVOIDED, True)
            self._study.tell(number, state=StudyState.FAIL)
            number = self._draw(trial_id, num_drawn)
        self._numbers[trial_id] = number
        self._set(number, ROW, row_name(self._row_number(number)))
        return self._point(trial_id)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Reports an intermediate score, if there is a finite one that was not reported yet.

        Its step is in env steps: samplers rank pruned trials by their last step, then by score,
        and iterations differ in length between points.
        """
        step = result.get(STEP)
        # A trial restarted from a checkpoint repeats iterations; Optuna keeps the first report.
        if step is None or step <= self._last_step.get(trial_id, 0):
            return
        if _is_finite(result.get(self.metric)) and not self._is_outside(trial_id):
            self._last_step[trial_id] = step
            told = {**result, _STEP_OF_TUNE: step}
            self._optuna_search.on_trial_result(self._asked[trial_id], told)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Closes the trial in the study.

        Raises:
            RuntimeError: If the journal did not record it.
        """
        result, asked = result or {}, self._asked[trial_id]
        is_lost = error or result.get("diverged") or result.get("out_of_memory")
        failed = is_lost or not _is_finite(result.get(self.metric))
        if failed or self._is_outside(trial_id):
            self._optuna_search.on_trial_complete(asked, None, error=True)
        elif result.get("finished"):
            self._optuna_search.on_trial_complete(asked, result)
        else:
            # Tune does not report the result at which it stops a trial, but Optuna scores a pruned
            # trial by its last report.
            self.on_trial_result(trial_id, result)
            self._optuna_search.on_trial_complete(asked, None)
        if not self._trial(trial_id).state.is_finished():
            raise RuntimeError(  # OptunaSearch logs and swallows errors here
                f"the journal did not record the end of trial {self.number(trial_id)}, which is "
                "still RUNNING there; check whether the disk is full, then resume."
            )

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Does nothing: the journal holds the state and is written at every step."""

    def save(self, checkpoint_path: str) -> None:
        """Does nothing, for the same reason."""

    def restore(self, checkpoint_path: str) -> None:
        """Is not supported.

        Raises:
            RuntimeError: Always; make a searcher with ``resume=True`` on the same journal.
        """
        raise RuntimeError("make a StudySearcher with resume=True on the same journal.")

    def _begin(
        self,
        initial_points: Sequence[PlannedPoint],
        imports: Sequence[Trial],
        recorded: Sequence[Trial],
    ) -> tuple[Interrupted, ...]:
        """Fills a new study, or resumes one, even if its driver died while filling it."""
        own = own_trials(self._study)
        numbers = row_numbers(self._study, self._first_number).values()
        if (first := min(numbers, default=self._first_number)) != self._first_number:
            raise ValueError(
                "`first_number` must stay what it was when the study began, with row "
                f"{row_name(first)}, but got {self._first_number}."
            )
        is_lost = not own and bool(recorded)
        if not own:
            import_rows(self._study, self._space, imports)
            rebuild(self._study, self._space, recorded)
        requeued = fail_stale(
            self._storage, self._study.study_name, recorded, first_number=self._first_number
        )
        for stale in requeued:
            if stale.outside or self._space.contains(stale.knobs):
                self.enqueue(
                    stale.knobs, resumes=stale.number, outside=stale.outside, seed=stale.seed
                )
        if is_lost:
            initial_points = self._fill_gaps(initial_points, recorded)
        if all(trial.state is StudyState.WAITING for trial in own):
            for planned in initial_points[len(own) :]:
                self.enqueue(planned.knobs, outside=planned.outside, seed=planned.seed)
        return requeued

    def _fill_gaps(
        self, initial_points: Sequence[PlannedPoint], recorded: Sequence[Trial]
    ) -> list[PlannedPoint]:
        """Reuse the row numbers of trials that were lost with the journal.

        These trials were running when their driver died, and their points are unknown. Their
        numbers go to planned points that were not tried yet, then to uniform draws.

        Returns:
            The planned points that are still to be queued.
        """
        made = {row.number for row in recorded}
        gaps = [n for n in range(self._first_number, max(made)) if n not in made]
        coming = [p for p in initial_points if not any(map(p.made, recorded))]
        for number, planned in zip(gaps, coming, strict=False):
            self.enqueue(planned.knobs, resumes=number, outside=planned.outside, seed=planned.seed)
        for number, point in zip(
            gaps[len(coming) :], even_draws(self._space, self._seed), strict=False
        ):
            self.enqueue(point, resumes=number)
        return coming[len(gaps) :]

    def _check_outside(self, point: Mapping[str, KnobValue]) -> None:
        self._space.base.with_knobs(point)
        active = self._space.active_knobs(point)
        if point.keys() != set(active):
            raise ValueError(
                f"a point outside of the ranges must still have the knobs {list(active)}, "
                f"but has {list(point)}."
            )

    def _draw(self, trial_id: str, num_drawn: int) -> int:
        """The study's number of a new draw for Tune's trial, after ``num_drawn`` earlier draws."""
        self._asked[trial_id] = f"{trial_id} {num_drawn}" if num_drawn else trial_id
        before = self._running()
        with warnings.catch_warnings():
            # The warning mistakes the sampler's own computing time for training time.
            warnings.filterwarnings("ignore", "Define-by-run function")
            self._optuna_search.suggest(self._asked[trial_id])
        (number,) = self._running() - before
        return number

    def _is_unwanted(self, number: int) -> bool:
        trial = self._study.get_trials(deepcopy=False)[number]
        if self._is_avoided is None or PLANNED in trial.user_attrs:
            return False
        return self._is_avoided(trial.params)

    def _enqueue_elsewhere(self) -> bool:
        """Queue a uniform draw that is not avoided; False if none was found."""
        assert self._is_avoided is not None
        seed = np.random.SeedSequence([self._seed, len(self._study.get_trials(deepcopy=False))])
        draws = even_draws(self._space, int(seed.generate_state(1)[0]))
        for point in islice(draws, MAX_EVEN_DRAWS):
            if not self._is_avoided(point):
                self.enqueue(point)
                return True
        return False

    def _set(self, number: int, attribute: str, value: Any) -> None:
        key = storage_key(self._storage, self._study.study_name, number)
        self._storage.set_trial_user_attr(key, attribute, value)

    def _row_number(self, number: int) -> int:
        if number not in self._rows:  # trials are only ever added, so known numbers stay valid
            self._rows = row_numbers(self._study, self._first_number)
        return self._rows[number]

    def _point(self, trial_id: str) -> dict[str, KnobValue]:
        trial = self._trial(trial_id)
        point = trial.user_attrs[PLANNED] if self._is_outside(trial_id) else trial.params
        seed = {SEED: trial.user_attrs[SEED]} if SEED in trial.user_attrs else {}
        return {knob: point[knob] for knob in self._space.ranges if knob in point} | seed

    def _is_outside(self, trial_id: str) -> bool:
        return OUTSIDE in self._trial(trial_id).user_attrs

    def _trial(self, trial_id: str) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[self._numbers[trial_id]]

    def _running(self) -> set[int]:
        running = self._study.get_trials(deepcopy=False, states=(StudyState.RUNNING,))
        return {trial.number for trial in running}


def _is_finite(value: Any) -> bool:
    return value is not None and math.isfinite(value)
