"""Schedulers, which stop trials early; they do not choose which ones start."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from ssmrl.run import NUM_EVALUATIONS
from ssmrl.unknown_name import UnknownNameError
from tuning.plan import SCHEDULERS
from tuning.stages import FACTOR
from tuning.table.trial import Trial


def make_scheduler(
    name: str, *, max_steps: int, metric: str = "score", earlier: Sequence[Trial] = ()
) -> TrialScheduler:
    """The scheduler that stops trials which fall behind.

    ``asha`` judges at a quarter, half and all of ``max_steps``, and lets the better half continue.
    It compares with ``<``, so a NaN would never be stopped: a trainable must raise instead of
    reporting one, and must leave the metric out of a result rather than report None. A trial that
    repeats a point with its own seed is never stopped: its score is compared with the first one's.

    Args:
        name: One of ``SCHEDULERS``.
        max_steps: Budget of a trial [env steps], the result's key ``env_steps``.
        metric: The key of the score in a result; higher is better.
        earlier: Rows of the same round from earlier processes, included in the comparison.

    Raises:
        KeyError: If ``name`` is not known.
        ValueError: If ``max_steps`` is below 1.
    """
    if name not in SCHEDULERS:
        raise UnknownNameError(
            f"unknown scheduler {name!r}; the schedulers are: {', '.join(SCHEDULERS)}"
        )
    if max_steps < 1:
        raise ValueError(f"`max_steps` must be at least 1, but got {max_steps}")
    if name == "none":
        return FIFOScheduler()
    asha = ASHAScheduler(
        time_attr="env_steps",
        metric=metric,
        mode="max",
        max_t=max_steps,
        grace_period=max(1, max_steps // NUM_EVALUATIONS),
        reduction_factor=FACTOR,
    )
    sparing = Sparing(asha, is_spared=trains_again, metric=metric)
    for row in earlier:
        sparing.remember(row.trial_id, row.curve)
    return sparing


def trains_again(trial: Any) -> bool:
    """Whether a trial of Tune trains a known point again, with its own seed, to judge it."""
    return "seed" in trial.config


class Sparing(TrialScheduler):
    """Wraps a scheduler, so that it neither sees nor stops the spared trials.

    The wrapped scheduler receives each evaluation of a trial, including those from before its
    driver died: so a resumed sweep stops the same trials as an uninterrupted one.

    Args:
        scheduler: Wrapped scheduler, which decides about all other trials.
        is_spared: Whether a trial of Tune always runs to its end.
        metric: The key of the score in a result.
    """

    def __init__(
        self, scheduler: TrialScheduler, is_spared: Callable[[Any], bool], *, metric: str = "score"
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._scheduler, self._is_spared, self._metric = scheduler, is_spared, metric
        self._num_told: dict[str, int] = {}

    def remember(self, trial_id: str, curve: Sequence[tuple[int, float, float]]) -> None:
        """Include a trial that has ended in the comparison.

        Args:
            trial_id: Id that no trial of this process has.
            curve: Env steps, return without adaptation and return with it, at each evaluation.
        """
        ended: Any = SimpleNamespace(trial_id=trial_id)
        self._scheduler.on_trial_add(None, ended)  # type: ignore[arg-type]  # it reads the id alone
        for env_steps, _, score in curve:
            result = {"env_steps": env_steps, self._metric: score}
            self._scheduler.on_trial_result(None, ended, result)  # type: ignore[arg-type]

    def set_search_properties(self, metric: Any, mode: Any, **spec: Any) -> bool:
        """Pass on metric and mode."""
        return bool(self._scheduler.set_search_properties(metric, mode, **spec))

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """A trial was created."""
        if not self._is_spared(trial):
            self._scheduler.on_trial_add(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """A trial failed."""
        if not self._is_spared(trial):
            self._scheduler.on_trial_error(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Whether the trial continues or stops."""
        if self._is_spared(trial):
            return TrialScheduler.CONTINUE
        curve = result.get("curve", ())
        for env_steps, _, score in curve[self._num_told.get(trial.trial_id, 0) : -1]:
            before = result | {"env_steps": env_steps, self._metric: score}
            self._scheduler.on_trial_result(tune_controller, trial, before)
        self._num_told[trial.trial_id] = max(len(curve), self._num_told.get(trial.trial_id, 0))
        return str(self._scheduler.on_trial_result(tune_controller, trial, result))

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """A trial completed."""
        if not self._is_spared(trial):
            self._scheduler.on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """A trial was removed."""
        if not self._is_spared(trial):
            self._scheduler.on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The trial that the wrapped scheduler starts next."""
        return self._scheduler.choose_trial_to_run(tune_controller)

    def debug_string(self) -> str:
        """The wrapped scheduler's description of itself."""
        return str(self._scheduler.debug_string())
