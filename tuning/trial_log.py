"""``--log`` of a sweep: the evaluations of each trial for TensorBoard or Weights & Biases."""

from pathlib import Path
from typing import Any

from ray import tune

from ssmrl.run import Row
from ssmrl.train_log import LogKind, TrainLog, open_log
from tuning.row_keeper import searched
from tuning.search.searcher import StudySearcher, row_name


class TrialLog(tune.Callback):
    """Writes the evaluations of each trial to a log of its own, over its env steps.

    A trial that is resumed writes its earlier evaluations again, with the same env steps.

    Args:
        kind: Kind of log.
        folder: The sweep's folder.
        searcher: Searcher that knows the trials' numbers.
    """

    def __init__(self, kind: LogKind, folder: Path, searcher: StudySearcher) -> None:
        self._kind, self._folder, self._searcher = kind, folder, searcher
        self._logs: dict[str, TrainLog] = {}

    def __getstate__(self) -> dict[str, Any]:
        """No state: Tune pickles its callbacks for its own resume, which is not used here."""
        return {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Write the evaluations that are new."""
        log = self._logs.get(trial.trial_id)
        if log is None:
            name = row_name(self._searcher.number(trial.trial_id))
            log = open_log(self._kind, self._folder, result["received"], Row(), trial=name)
            self._logs[trial.trial_id] = log
        curve = tuple(tuple(point) for point in result["curve"])
        log.take(Row(result["all_env_steps"], result["iterations"], curve=curve))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Write the searched knobs with the score, and close the log."""
        if (log := self._logs.pop(trial.trial_id, None)) is not None:
            result = trial.last_result or {}
            is_lost = result.get("diverged") or result.get("out_of_memory")
            log.ended(searched(trial), None if is_lost else result.get("score"))
            log.close()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Close the log."""
        if (log := self._logs.pop(trial.trial_id, None)) is not None:
            log.close()

    def close(self) -> None:
        """Close the logs of trials that Tune stopped without reporting it."""
        for log in self._logs.values():
            log.close()
        self._logs.clear()
