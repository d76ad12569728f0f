"""``--log`` of a sweep: the evaluations of each trial for TensorBoard or Weights & Biases."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune

from ssmrl.run import Row
from ssmrl.train_log import LogKind, TrainLog, open_log
from tuning.search.searcher import StudySearcher, row_name
from tuning.table.trial import Trial


class TrialLog(tune.Callback):
    """Writes the evaluations of each trial to a log of its own, over its env steps.

    A resumed trial writes its earlier evaluations again, at the same env steps. If a log cannot be
    written, it is given up with a note, and its trial continues: the table does not depend on it.

    Args:
        kind: Kind of log.
        folder: Folder of the sweep.
        searcher: Searcher that knows the trials' numbers.
        note: Receives a line for each log that is given up.
    """

    def __init__(
        self, kind: LogKind, folder: Path, searcher: StudySearcher, note: Callable[[str], None]
    ) -> None:
        self._kind, self._folder, self._searcher, self._note = kind, folder, searcher, note
        self._logs: dict[str, TrainLog] = {}
        self._given_up: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        """No state: Tune pickles its callbacks for its own resume, which is not used here."""
        return {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Write the new evaluations of a trial."""
        name = row_name(self._searcher.number(trial.trial_id))

        def write() -> None:
            if name not in self._logs:
                self._logs[name] = open_log(
                    self._kind, self._folder, result["received"], Row(), trial=name
                )
            curve = tuple(tuple(point) for point in result["curve"])
            self._logs[name].take(Row(result["all_env_steps"], result["iterations"], curve=curve))

        self._try(name, write)

    def ended(self, row: Trial) -> None:
        """Write the searched knobs of an ended trial beside its score, and close its log."""
        if (log := self._logs.pop(row.trial_id, None)) is not None:
            self._try(row.trial_id, lambda: log.ended(row.knobs, row.score))
            self._try(row.trial_id, log.close)

    def close(self) -> None:
        """Close the logs of trials that have no row yet."""
        for name, log in self._logs.items():
            self._try(name, log.close)
        self._logs.clear()

    def _try(self, name: str, act: Callable[[], None]) -> None:
        if name in self._given_up:
            return
        try:
            act()
        except Exception as error:  # of whatever library; a trial must not fail by it
            self._given_up.add(name)
            self._note(f"the {self._kind} log of {name} is given up: {error}")
